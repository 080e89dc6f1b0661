"""`ModelInfo`: the public facts of an encrypted model, in the model and in its file."""

import json
import re
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from torch import nn

from etc_data.cipher import Cipher
from etc_data.errors import ModelError, SchemeError, WrongKeyError
from etc_data.models.folding import Normalization
from etc_data.schemes import Scheme
from etc_data.shards.files import canonical_json
from etc_data.shards.manifest import Manifest

FORMAT = "etc-data-model"
VERSION = 1

Form = Literal["common", "compact", "dense"]

_ATTRIBUTE = "etc_data_info"


@dataclass(frozen=True)
class ModelInfo:
    """What everybody may know of an encrypted model; no key and nothing drawn from it.

    Attributes:
        scheme: what its images are encrypted with, by one key for all of them.
        key_id: the public fingerprint of the key.
        context: of the cipher.
        image_size: (height, width) in pixels.
        patch_size: (height, width) in pixels.
        normalization: of the encrypted images, the same as the plain model's.
        form: ``"common"`` where one matrix serves all patches as it is, else ``"compact"`` or
            ``"dense"``.
        any_size: whether the model takes encrypted images of other sizes too.
        patch_embedding: name of the encrypted layer.
        position_embedding: name of the parameter whose rows were permuted, or None.
        added_bias: whether the plain patch embedding had no bias.
        architecture: name in timm, or None.
        model_args: what `timm.create_model` needs beside the name.
    """

    scheme: Scheme
    key_id: str
    context: str
    image_size: tuple[int, int]
    patch_size: tuple[int, int]
    normalization: Normalization
    form: Form
    any_size: bool
    patch_embedding: str
    position_embedding: str | None = None
    added_bias: bool = False
    architecture: str | None = None
    model_args: dict[str, Any] = field(default_factory=dict)

    def check_cipher(self, cipher: Cipher) -> None:
        """Checks that a cipher is the one that the model was encrypted with.

        Raises:
            WrongKeyError: its key is another.
            ModelError: its scheme, context or key scope is another.
        """
        _check_same(
            self, "cipher", cipher.key_id, cipher.scheme, cipher.context, cipher.key_scope == "image"
        )

    # -- to and from JSON -----------------------------------------------------------------------

    def to_json(self) -> str:
        """Returns the facts as they stand in the metadata of a model's file."""
        scheme = self.scheme.describe()
        value = {
            "format": f"{FORMAT}/{VERSION}",
            "scheme": scheme["name"],
            "steps": scheme["steps"],
            "key_id": self.key_id,
            "context": self.context,
            "image_size": list(self.image_size),
            "patch_size": list(self.patch_size),
            "mean": list(self.normalization.mean),
            "std": list(self.normalization.std),
            "form": self.form,
            "any_size": self.any_size,
            "patch_embedding": self.patch_embedding,
            "position_embedding": self.position_embedding,
            "added_bias": self.added_bias,
            "architecture": self.architecture,
            "model_args": self.model_args,
        }
        return canonical_json(value).decode("ascii")

    @classmethod
    def from_json(cls, text: str) -> "ModelInfo":
        """Returns the facts that `to_json` wrote.

        Raises:
            ModelError: they are malformed or of a newer format.
        """
        try:
            value = json.loads(text)
            name, _, version = value["format"].partition("/")
            if name != FORMAT or version != str(VERSION):
                raise ModelError(
                    f"the format is {value['format'][:80]}; this etc-data reads {FORMAT}/{VERSION}",
                    "upgrade etc-data",
                )
            info = cls._from_fields(value)
        except ModelError:
            raise
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError, SchemeError) as error:
            what = f"field {error} is missing" if isinstance(error, KeyError) else str(error)
            raise ModelError(f"the facts of the encrypted model are malformed: {what}") from None
        if canonical_json(json.loads(info.to_json())) != canonical_json(value):
            raise ModelError("the facts of the encrypted model are malformed: fields do not agree")
        return info

    @classmethod
    def _from_fields(cls, value: dict[str, Any]) -> "ModelInfo":
        if not re.fullmatch("[0-9a-f]{16}", value["key_id"]):
            raise ValueError(f"key_id is {value['key_id']!r}")
        if value["form"] not in get_args(Form):
            raise ValueError(f"form is {value['form']!r}")
        for name, kind in _KINDS.items():
            if not isinstance(value[name], kind):
                raise ValueError(f"{name} is {value[name]!r}")
        return cls(
            scheme=Scheme.from_description({"name": value["scheme"], "steps": value["steps"]}),
            key_id=value["key_id"],
            context=value["context"],
            image_size=_size(value, "image_size"),
            patch_size=_size(value, "patch_size"),
            normalization=Normalization.of(value["mean"], value["std"]),
            form=value["form"],
            any_size=value["any_size"],
            patch_embedding=value["patch_embedding"],
            position_embedding=value["position_embedding"],
            added_bias=value["added_bias"],
            architecture=value["architecture"],
            model_args=value["model_args"],
        )


_KINDS: dict[str, Any] = {
    "context": str,
    "any_size": bool,
    "patch_embedding": str,
    "position_embedding": str | None,
    "added_bias": bool,
    "architecture": str | None,
    "model_args": dict,
}


def _size(value: dict[str, Any], name: str) -> tuple[int, int]:
    size = value[name]
    if not isinstance(size, list) or len(size) != 2 or any(type(s) is not int or s < 1 for s in size):
        raise ValueError(f"{name} is {size!r}; it must be height and width in pixels")
    return size[0], size[1]


def model_info(model: nn.Module) -> ModelInfo:
    """Returns the public facts of an encrypted model.

    Raises:
        ModelError: the model is not encrypted.
    """
    info = model.__dict__.get(_ATTRIBUTE)
    if info is None:
        raise ModelError(
            f"this {type(model).__name__} is no encrypted model",
            "encrypt_model and load_encrypted_model make one; of a compiled or parallel model pass the "
            "model inside",
        )
    assert isinstance(info, ModelInfo)
    return info


def is_encrypted(model: nn.Module) -> bool:
    """Returns whether a model was made by `encrypt_model` or `load_encrypted_model`."""
    return _ATTRIBUTE in model.__dict__


def attach_info(model: nn.Module, info: ModelInfo | None) -> None:
    """Makes a model tell the facts, or none any more."""
    model.__dict__.pop(_ATTRIBUTE, None)
    if info is not None:
        model.__dict__[_ATTRIBUTE] = info


def check_same_key(manifest: Manifest, info: ModelInfo) -> None:
    """Checks that an encrypted data set and an encrypted model belong together.

    Args:
        manifest: of the data set.
        info: of the model, from `model_info`.

    Raises:
        WrongKeyError: they were encrypted with different keys.
        ModelError: their scheme, context, key scope or image size differ.
    """
    _check_same(
        info,
        "data set",
        manifest.key_id,
        manifest.scheme,
        manifest.context,
        manifest.key_scope == "image",
    )
    if manifest.size != info.image_size and not info.any_size:
        met = (
            "images of any size" if manifest.size is None else "images of {}×{}".format(*manifest.size)
        )
        raise ModelError(
            "the model was encrypted for images of {}×{} pixels, ".format(*info.image_size)
            + f"but the data set has {met}",
            "encrypt the data set with --size {}x{}".format(*info.image_size),
        )


def _check_same(
    info: ModelInfo, what: str, key_id: str, scheme: Scheme, context: str, per_image: bool
) -> None:
    if key_id != info.key_id:
        raise WrongKeyError(
            f"the model was encrypted with key {info.key_id}, but the {what} with key {key_id}",
            "pixels cannot tell a wrong key; use the key whose file names that id",
        )
    if scheme.canonical != info.scheme.canonical:
        raise ModelError(
            f"the model was encrypted for scheme {info.scheme.name}, but the {what} has {scheme.name}",
            f"use scheme {info.scheme.name} for both",
        )
    if context != info.context:
        raise ModelError(
            f"the model was encrypted for context {info.context!r}, but the {what} has {context!r}",
            "data sets that share a key but not a context share no draws",
        )
    if per_image:
        raise ModelError(
            f'the model was encrypted for one key, but the {what} has key scope "image"',
            'use key_scope="dataset" for both',
        )
