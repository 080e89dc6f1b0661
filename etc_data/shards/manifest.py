"""The manifest: what a folder of shards is, written last and sealed with the key."""

import hmac
import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, get_args

from etc_data.cipher import Cipher
from etc_data.codecs import codec_from_dict
from etc_data.errors import CodecError, ManifestError, SchemeError, StorageError, WrongKeyError
from etc_data.fitting import Fit, Resize
from etc_data.keys import SecretKey
from etc_data.schemes import KeyScope, Scheme
from etc_data.shards.files import canonical_json
from etc_data.shards.storage import LocalStorage, RemoteStorage, open_storage

MANIFEST_NAME = "manifest.json"
FORMAT_NAME = "etc-data-shards"
FORMAT_VERSION = 1
SPLIT_PATTERN = r"[A-Za-z0-9_]{1,64}"
# Names are joined to the folder's path, so nothing else may come out of a manifest.
_SHARD_PATTERN = rf"{SPLIT_PATTERN}-[0-9]{{6}}\.tar"
_HASH_PATTERN = "[0-9a-f]{64}"
_RECIPE = "[a-z0-9:.+-]{1,200}"


@dataclass(frozen=True)
class ShardEntry:
    """One shard as the manifest lists it.

    Attributes:
        name: file name, ``{split}-{number}.tar``.
        split: such as ``"train"``.
        bytes: of the file.
        samples: how many it holds.
        sha256: of the file, in hex.
    """

    name: str
    split: str
    bytes: int
    samples: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a folder of shards is; docs/format.md, "Manifest", tells the fields."""

    scheme: Scheme
    key_id: str
    key_scope: KeyScope
    context: str
    size: tuple[int, int] | None
    resize: str
    fit: str | None
    codec: dict[str, Any]
    labels: str
    classes: int
    shards: tuple[ShardEntry, ...]
    augmentation: str | None = None
    copies: int = 1
    class_names: tuple[str, ...] = ()
    hmac: str = field(default="", repr=False)

    @property
    def splits(self) -> dict[str, tuple[ShardEntry, ...]]:
        """The shards of each split, in order."""
        splits: dict[str, list[ShardEntry]] = {}
        for shard in self.shards:
            splits.setdefault(shard.split, []).append(shard)
        return {name: tuple(shards) for name, shards in splits.items()}

    @property
    def samples(self) -> int:
        """How many samples all shards hold."""
        return sum(shard.samples for shard in self.shards)

    @property
    def total_bytes(self) -> int:
        """Size of all shards in bytes."""
        return sum(shard.bytes for shard in self.shards)

    def cipher(self, key: SecretKey) -> Cipher:
        """Returns the cipher that the data set was written with.

        Raises:
            WrongKeyError: the key's id is another.
        """
        check_key_id(self.key_id, key)
        return Cipher(self.scheme, key, key_scope=self.key_scope, context=self.context)

    # -- to and from JSON -----------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Returns the manifest as what JSON can hold, in the order a reader would like."""
        scheme = self.scheme.describe()
        return {
            "format": f"{FORMAT_NAME}/{FORMAT_VERSION}",
            "scheme": scheme["name"],
            "steps": scheme["steps"],
            "key_id": self.key_id,
            "key_scope": self.key_scope,
            "context": self.context,
            "size": None if self.size is None else list(self.size),
            "resize": self.resize,
            "fit": self.fit,
            "codec": self.codec,
            "labels": self.labels,
            "classes": self.classes,
            **self._extras(),
            "samples": self.samples,
            "splits": {
                name: {"samples": sum(shard.samples for shard in shards), "shards": len(shards)}
                for name, shards in self.splits.items()
            },
            "shards": [asdict(shard) for shard in self.shards],
            "hmac": self.hmac,
        }

    def _extras(self) -> dict[str, Any]:
        """Returns the fields that are there only where they say something."""
        extras: dict[str, Any] = {}
        if self.class_names:
            extras["class_names"] = list(self.class_names)
        if self.augmentation is not None:
            extras["augmentation"] = self.augmentation
        if self.copies != 1:
            extras["copies"] = self.copies
        return extras

    def _seal(self, seal_key: bytes) -> str:
        unsealed = {name: value for name, value in self.to_dict().items() if name != "hmac"}
        return hmac.digest(seal_key, canonical_json(unsealed), "sha256").hex()

    def sealed(self, seal_key: bytes) -> "Manifest":
        """Returns the manifest sealed with the sub-key ``"manifest"``."""
        return replace(self, hmac=self._seal(seal_key))

    def check_seal(self, key: SecretKey) -> None:
        """Checks that the manifest is as its owner wrote it.

        Raises:
            WrongKeyError: the key's id is another.
            ManifestError: the manifest was altered after it was written.
        """
        check_key_id(self.key_id, key)
        if not hmac.compare_digest(self._seal(key.subkey("manifest")).encode(), self.hmac.encode()):
            raise ManifestError(
                "the manifest was altered after it was written: its seal (HMAC) differs",
                "do not trust this data set; compare it with your own copy",
            )

    @classmethod
    def read(cls, place: str | os.PathLike[str] | LocalStorage | RemoteStorage) -> "Manifest":
        """Reads the manifest of a data set and checks its form.

        Args:
            place: a folder, or a URL that fsspec knows.

        Raises:
            ManifestError: there is none, it cannot be read, or it is malformed or of a newer format.
            StorageError: the place is no folder's URL, or cannot be reached.
        """
        storage = open_storage(place) if isinstance(place, str | os.PathLike) else place
        origin = f"{storage}/{MANIFEST_NAME}"
        try:
            return cls._parse(storage.read(MANIFEST_NAME), origin)
        except FileNotFoundError:
            if isinstance(storage, RemoteStorage):
                known, hint = "it has no manifest.json", "check the URL, or encrypt again with --resume"
            else:
                known = "it has no manifest.json" if storage.folder.exists() else "it does not exist"
                hint = "encrypt again with --resume"
            raise ManifestError(
                f"{storage} is no finished data set: {known}", f"the manifest is written last; {hint}"
            ) from None
        except StorageError as error:
            if isinstance(storage, RemoteStorage):
                raise
            raise ManifestError(str(error), error.hint) from None

    @classmethod
    def _parse(cls, data: bytes, origin: str) -> "Manifest":
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            raise ManifestError(f"{origin} is damaged: it is not JSON") from None
        try:
            return cls.from_dict(value)
        except ManifestError as error:
            raise ManifestError(f"{origin}: {error}", error.hint) from None

    @classmethod
    def from_dict(cls, value: Any) -> "Manifest":
        """Returns the manifest that `to_dict` told of.

        Raises:
            ManifestError: it is malformed or of a newer format.
        """
        if not isinstance(value, dict) or not isinstance(value.get("format"), str):
            raise ManifestError("this is no manifest of etc-data: it has no format")
        name, _, version = value["format"].partition("/")
        if name != FORMAT_NAME or not re.fullmatch("[1-9][0-9]{0,8}", version):
            met = value["format"][:80]
            raise ManifestError(f"this is no manifest of etc-data: its format is {met!r}")
        if int(version) != FORMAT_VERSION:
            raise ManifestError(
                f"the format is {value['format']}; this etc-data reads {FORMAT_NAME}/{FORMAT_VERSION}",
                "upgrade etc-data",
            )
        try:
            manifest = cls._from_fields(value)
        except (KeyError, TypeError, ValueError, RecursionError, SchemeError, CodecError) as error:
            what = f"field {error} is missing" if isinstance(error, KeyError) else str(error)
            raise ManifestError(f"the manifest is malformed: {what}") from None
        again = manifest.to_dict()
        # To Python 1, 1.0 and True are equal, but they are not the same JSON.
        if again != value or canonical_json(again) != canonical_json(value):
            raise ManifestError("the manifest is malformed: its totals or fields do not agree")
        return manifest

    @classmethod
    def _from_fields(cls, value: dict[str, Any]) -> "Manifest":
        shards = tuple(_shard_entry(entry) for entry in value["shards"])
        if not shards:
            raise ValueError("it lists no shards")
        if len({shard.name for shard in shards}) != len(shards):
            raise ValueError("a shard is listed twice")
        return cls(
            scheme=Scheme.from_description({"name": value["scheme"], "steps": value["steps"]}),
            key_id=_text(value, "key_id", "[0-9a-f]{16}"),
            key_scope=_one_of(value, "key_scope", get_args(KeyScope)),
            context=_text(value, "context"),
            size=None if value["size"] is None else _size(value, "size"),
            resize=_one_of(value, "resize", get_args(Resize)),
            fit=_one_of(value, "fit", (None, *get_args(Fit))),
            codec=dict(codec_from_dict(value["codec"]).describe()),
            labels=_one_of(value, "labels", ("keep", "none")),
            classes=_count(value, "classes"),
            shards=shards,
            augmentation=_text(value, "augmentation", _RECIPE) if "augmentation" in value else None,
            copies=_copies(value) if "copies" in value else 1,
            class_names=_class_names(value) if "class_names" in value else (),
            hmac=_text(value, "hmac", f"({_HASH_PATTERN})?"),
        )


def check_key_id(key_id: str, key: SecretKey) -> None:
    """Checks that a key is the one that data was encrypted with.

    Raises:
        TypeError: it is no key.
        WrongKeyError: its id is another.
    """
    if not isinstance(key, SecretKey):
        # What was given instead, such as a key's text, may be secret.
        raise TypeError(f"a key is a SecretKey, as of SecretKey.load(FILE), not a {type(key).__name__}")
    if key_id != key.id:
        raise WrongKeyError(
            f"this was encrypted with key {key_id}, but the key given is {key.id}",
            "pixels cannot tell a wrong key; give the key file whose comment names that id",
        )


def _shard_entry(value: dict[str, Any]) -> ShardEntry:
    name = _text(value, "name", _SHARD_PATTERN)
    if value["split"] != name[:-11]:
        raise ValueError(f"shard {name} is not of split {_shown(value['split'])}")
    return ShardEntry(
        name=name,
        split=value["split"],
        bytes=_count(value, "bytes"),
        samples=_count(value, "samples"),
        sha256=_text(value, "sha256", _HASH_PATTERN),
    )


def _text(value: dict[str, Any], name: str, pattern: str = "(?s:.*)") -> str:
    text = value[name]
    if not isinstance(text, str) or not re.fullmatch(pattern, text):
        raise ValueError(f"{name} is {_shown(text)}")
    text.encode("utf-8")  # which half of a surrogate pair cannot
    return text


def _count(value: dict[str, Any], name: str) -> int:
    count = value[name]
    if type(count) is not int or not 0 <= count < 2**63:
        raise ValueError(f"{name} is {_shown(count)}; it must be an integer from 0 to 2^63 - 1")
    return count


def _copies(value: dict[str, Any]) -> int:
    copies = _count(value, "copies")
    if copies < 2:
        raise ValueError(f"copies is {copies}; where there is one of each image, the field is absent")
    return copies


def _class_names(value: dict[str, Any]) -> tuple[str, ...]:
    names = value["class_names"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"class_names is {_shown(names)}; it must be a list of names")
    if len(names) != value["classes"]:
        raise ValueError(f"class_names has {len(names)} names for {_shown(value['classes'])} classes")
    "".join(names).encode("utf-8")  # which half of a surrogate pair cannot
    return tuple(names)


def _size(value: dict[str, Any], name: str) -> tuple[int, int]:
    size = value[name]
    if not isinstance(size, list) or len(size) != 2 or any(type(s) is not int or s < 1 for s in size):
        raise ValueError(f"{name} is {_shown(size)}; it must be height and width in pixels")
    return size[0], size[1]


def _one_of(value: dict[str, Any], name: str, choices: Sequence[Any]) -> Any:
    if value[name] not in choices:
        raise ValueError(f"{name} is {_shown(value[name])}; known are {', '.join(map(str, choices))}")
    return value[name]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
