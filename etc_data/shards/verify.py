"""Checks shards against their manifest: sizes, hashes, counts; with the key also the seal."""

import errno
import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from etc_data.errors import DamagedShardError
from etc_data.keys import SecretKey
from etc_data.shards.indexes import side_indexes
from etc_data.shards.manifest import Manifest, ShardEntry
from etc_data.shards.samples import Sample
from etc_data.shards.tar import SamplePlace, list_samples

_CHUNK_BYTES = 2**20


def verify_shards(
    folder: str | os.PathLike[str],
    *,
    key: SecretKey | None = None,
    tick: Callable[[int], None] = lambda _: None,
) -> Manifest:
    """Checks a whole data set and returns its manifest.

    Without the key this finds accidents: a shard that is missing, cut short, altered or surplus, or a
    side index that tells something else than the manifest.
    Someone who rewrites shards and manifest is found only with the key, by the manifest's HMAC.

    Args:
        folder: the data set.
        key: the owner's key.
        tick: called with the number of bytes checked, for a progress bar.

    Raises:
        ManifestError: the manifest is missing, malformed, newer, or (with the key) altered.
        WrongKeyError: the key is another.
        DamagedShardError: one or more shards are damaged; the message names each.
    """
    folder = Path(folder)
    manifest = Manifest.read(folder)
    if key is not None:
        manifest.check_seal(key)
    problems = []
    keys: set[str] = set()
    for entry in manifest.shards:
        try:
            with open_shard(folder, entry) as file:
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
    surplus = sorted(path.name for path in folder.glob("*.tar") if path.name not in listed)
    problems += [f"shard {name} is not in the manifest" for name in surplus]
    problems += [
        f"side index {name} is not as it was written"
        for name, content in side_indexes(manifest).items()
        if (folder / name).exists() and not _holds(folder / name, content)
    ]
    if problems:
        raise DamagedShardError(
            "; ".join(problems), "copy the named shards again from where they were written"
        )
    return manifest


def open_shard(folder: Path, entry: ShardEntry) -> IO[bytes]:
    """Opens a shard and checks its size.

    Raises:
        DamagedShardError: it is missing, is no regular file, cannot be read, or has another size.
    """
    try:
        file = _open_regular(folder / entry.name)
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


def iterate_samples(folder: Path, entry: ShardEntry) -> Iterator[Sample]:
    """Yields the verified samples of one shard, undecoded.

    Raises:
        DamagedShardError: the shard is missing, cut short or altered.
    """
    with open_shard(folder, entry) as file:
        for place in check_shard(file, entry):
            try:
                yield place.read(file)
            except DamagedShardError as error:
                raise DamagedShardError(
                    f"shard {entry.name}: sample {place.key} cannot be read: {error}"
                ) from None


def _open_regular(path: Path) -> IO[bytes]:
    """Opens a file that is one; a pipe or device in its place, which could block for ever, is refused.

    Raises:
        OSError: it cannot be opened, or is no regular file.
    """
    file = open(path, "rb", opener=_open_at_once)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return file


def _open_at_once(path: str, flags: int) -> int:
    # Opening a pipe would wait for its other end; Windows has neither the pipe nor the flag.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _holds(path: Path, content: object) -> bool:
    try:
        with _open_regular(path) as file:
            return bool(json.load(file) == content)
    except (OSError, ValueError, RecursionError):
        return False
