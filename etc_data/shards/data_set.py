"""A data set as it is read: where it lies, what it says of itself, and which shards are wanted."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO

from etc_data.errors import DamagedShardError, ManifestError
from etc_data.keys import SecretKey
from etc_data.shards.cache import ShardCache
from etc_data.shards.manifest import Manifest, ShardEntry
from etc_data.shards.samples import Sample
from etc_data.shards.storage import LocalStorage, RemoteStorage, open_storage
from etc_data.shards.tar import SamplePlace
from etc_data.shards.verify import check_shard, open_shard

Place = str | os.PathLike[str]


@dataclass(frozen=True)
class DataSet:
    """One data set, or one split of it.

    Attributes:
        storage: where it lies.
        manifest: of the whole data set.
        shards: those that are wanted.
        cache: where the shards are kept if they are remote.
    """

    storage: LocalStorage | RemoteStorage
    manifest: Manifest
    shards: tuple[ShardEntry, ...]
    cache: ShardCache | None

    @classmethod
    def find(
        cls, place: Place, split: str | None, key: SecretKey | None, cache: ShardCache | None
    ) -> "DataSet":
        """Reads the manifest of a data set, and with the key checks its seal.

        Args:
            place: a folder or a URL.
            split: whose shards are wanted; None for all.
            key: the owner's.
            cache: for remote shards; None for the default one.

        Raises:
            ManifestError: the manifest is missing, malformed, newer or (with the key) altered, or has
                no such split.
            WrongKeyError: the key is another.
            StorageError: the place cannot be reached.
        """
        storage = open_storage(place)
        manifest = Manifest.read(storage)
        cache = (cache or ShardCache()) if isinstance(storage, RemoteStorage) else None
        if key is not None:
            manifest.check_seal(key)
        if split is not None and split not in manifest.splits:
            known = ", ".join(manifest.splits)
            raise ManifestError(f"there is no split {split!r} in {storage}; there are {known}")
        shards = manifest.shards if split is None else manifest.splits[split]
        return cls(storage, manifest, shards, cache)

    def __str__(self) -> str:
        return str(self.storage)

    def open(self, shard: ShardEntry, *, verify: bool) -> tuple[IO[bytes], list[SamplePlace]]:
        """Opens a shard and finds its samples, having checked what the manifest says of it.

        Raises:
            DamagedShardError: it is missing, cut short or (if verified) altered.
            StorageError: it cannot be reached.
        """
        if isinstance(self.storage, RemoteStorage):
            assert self.cache is not None
            # The cache gives out nothing that it has not checked.
            file, verify = self.cache.open(self.storage, shard), False
        else:
            file = open_shard(self.storage.folder, shard)
        try:
            return file, check_shard(file, shard, hashed=verify)
        except BaseException:
            file.close()
            raise

    def samples(self, shard: ShardEntry) -> Iterator[Sample]:
        """Yields the verified samples of one shard, undecoded.

        Raises:
            DamagedShardError: the shard is missing, cut short or altered.
            StorageError: it cannot be reached.
        """
        file, places = self.open(shard, verify=True)
        with file:
            for place in places:
                try:
                    yield place.read(file)
                except DamagedShardError as error:
                    raise DamagedShardError(
                        f"shard {shard.name}: sample {place.key} cannot be read: {error}"
                    ) from None


def check_together(data_sets: Sequence[DataSet], *, mixed: bool) -> None:
    """Checks that data sets can be read as one.

    Args:
        data_sets: at least one.
        mixed: they may differ in key, scheme, key scope and context.

    Raises:
        ManifestError: they differ, or hold the same shard.
    """
    first, *others = data_sets
    for other in others:
        if first.manifest.labels != other.manifest.labels:
            raise ManifestError(
                f"{first} has labels {first.manifest.labels!r}, {other} has "
                f"{other.manifest.labels!r}: they cannot be read as one"
            )
        facts, other_facts = _encryption(first.manifest), _encryption(other.manifest)
        differing = [
            f"{name} {value!r} and {other_facts[name]!r}"
            for name, value in facts.items()
            if value != other_facts[name]
        ]
        if differing and not mixed:
            raise ManifestError(
                f"{first} and {other} are encrypted differently: {', '.join(differing)}",
                "pass mixed=True if one model is to see both",
            )
    owners: dict[str, DataSet] = {}
    for data_set in data_sets:
        for shard in data_set.shards:
            owner = owners.setdefault(shard.sha256, data_set)
            if owner is not data_set and shard.samples:
                raise ManifestError(
                    f"{owner} and {data_set} hold the same samples: shard {shard.name}",
                    "give each data set once",
                )


def fingerprint(data_sets: Sequence[DataSet]) -> str:
    """Returns 16 hex digits that tell whether the same shards are read, wherever they lie."""
    hashes = [shard.sha256 for data_set in data_sets for shard in data_set.shards]
    return hashlib.sha256("".join(hashes).encode()).hexdigest()[:16]


def _encryption(manifest: Manifest) -> dict[str, str]:
    return {
        "key_id": manifest.key_id,
        "scheme": f"{manifest.scheme.name} = {manifest.scheme.canonical}",
        "key_scope": manifest.key_scope,
        "context": manifest.context,
    }
