"""Checks shards against their manifest: sizes, hashes, counts; with the key also the seal."""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from etc_data.errors import DamagedShardError, StorageError
from etc_data.keys import SecretKey
from etc_data.shards.indexes import side_indexes
from etc_data.shards.manifest import Manifest, ShardEntry
from etc_data.shards.storage import LocalStorage, RemoteStorage, open_storage
from etc_data.shards.tar import SamplePlace, list_samples
from etc_data.sources.regular_files import open_regular

_CHUNK_BYTES = 2**20


def verify_shards(
    place: str | os.PathLike[str],
    *,
    key: SecretKey | None = None,
    tick: Callable[[int], None] = lambda _: None,
) -> Manifest:
    """Checks a whole data set and returns its manifest.

    Without the key this finds accidents: a shard that is missing, cut short, altered or surplus, or a
    side index that tells something else than the manifest.
    Someone who rewrites shards and manifest is found only with the key, by the manifest's HMAC.

    Args:
        place: the data set: a folder, or a URL, whose shards are all fetched for it, one by one.
        key: the owner's key.
        tick: called with the number of bytes checked, for a progress bar.

    Raises:
        ManifestError: the manifest is missing, malformed, newer, or (with the key) altered.
        WrongKeyError: the key is another.
        DamagedShardError: one or more shards are damaged; the message names each.
        StorageError: the URL cannot be reached.
    """
    storage = open_storage(place)
    manifest = Manifest.read(storage)
    if key is not None:
        manifest.check_seal(key)
    problems = []
    keys: set[str] = set()
    for entry in manifest.shards:
        try:
            with _open_anew(storage, entry) as file:
                places = check_shard(file, entry)
        except DamagedShardError as error:
            problems.append(str(error))
        else:
            repeated = next((place.key for place in places if place.key in keys), None)
            if repeated is not None:
                problems.append(f"shard {entry.name}: sample {repeated} occurs in another shard too")
            keys.update(place.key for place in places)
        tick(entry.bytes)
    listed = {entry.name for entry in manifest.shards}
    surplus = sorted(name for name in _names(storage) if name.endswith(".tar") and name not in listed)
    problems += [f"shard {name} is not in the manifest" for name in surplus]
    problems += [
        f"side index {name} is not as it was written"
        for name, content in side_indexes(manifest).items()
        if not _agrees(storage, name, content)
    ]
    if problems:
        raise DamagedShardError(
            "; ".join(problems), "copy the named shards again from where they were written"
        )
    return manifest


@contextlib.contextmanager
def _open_anew(storage: LocalStorage | RemoteStorage, entry: ShardEntry) -> Iterator[IO[bytes]]:
    """Opens a shard as it is in the storage now, whatever the cache holds."""
    if isinstance(storage, LocalStorage):
        with open_shard(storage.folder, entry) as file:
            yield file
        return
    with tempfile.TemporaryDirectory(prefix="etc-data-") as folder:
        try:
            storage.download(entry.name, Path(folder, entry.name))
        except FileNotFoundError:
            raise DamagedShardError(f"shard {entry.name} is missing") from None
        with open_shard(Path(folder), entry) as file:
            yield file


def _names(storage: LocalStorage | RemoteStorage) -> list[str]:
    try:
        return list(storage.sizes())
    except StorageError:
        if isinstance(storage, LocalStorage):
            raise
        return []  # many HTTP servers show no list, and all shards have just come from there


def open_shard(folder: Path, entry: ShardEntry) -> IO[bytes]:
    """Opens a shard and checks its size.

    Raises:
        DamagedShardError: it is missing, is no regular file, cannot be read, or has another size.
    """
    try:
        file = open_regular(folder / entry.name)
    except FileNotFoundError:
        raise DamagedShardError(f"shard {entry.name} is missing") from None
    except OSError as error:
        raise DamagedShardError(f"shard {entry.name} cannot be read: {error.strerror}") from None
    size = os.fstat(file.fileno()).st_size
    if size != entry.bytes:
        file.close()
        what = "cut short" if size < entry.bytes else "too long"
        raise DamagedShardError(
            f"shard {entry.name} is {what}: {size} bytes, the manifest says {entry.bytes}"
        )
    return file


def check_shard(file: IO[bytes], entry: ShardEntry, *, hashed: bool = True) -> list[SamplePlace]:
    """Checks an open shard's hash and number of samples, and returns where the samples lie.

    Raises:
        DamagedShardError: it is not what the manifest says.
    """
    if hashed:
        digest = hashlib.sha256()
        try:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
        except OSError as error:
            raise DamagedShardError(f"shard {entry.name} cannot be read: {error.strerror}") from None
        if digest.hexdigest() != entry.sha256:
            raise DamagedShardError(f"shard {entry.name} was altered: its SHA-256 differs")
    places = list_samples(file, entry.name)
    if len(places) != entry.samples:
        raise DamagedShardError(
            f"shard {entry.name} holds {len(places)} samples, the manifest says {entry.samples}"
        )
    return places


def _agrees(storage: LocalStorage | RemoteStorage, name: str, content: object) -> bool:
    """Returns whether a side index is as it was written; it need not exist."""
    try:
        if isinstance(storage, RemoteStorage):
            return bool(json.loads(storage.read(name)) == content)
        with open_regular(storage.folder / name) as file:
            return bool(json.load(file) == content)
    except FileNotFoundError:
        return True
    except (OSError, ValueError, RecursionError):
        return False
