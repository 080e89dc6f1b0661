"""A bounded local cache of remote shards, shared safely by processes, and verified.

Shards are kept under their SHA-256, so that data sets share what is equal and nothing stale is ever
found.  One process downloads a shard while the others wait for it; a shard that is deleted to make
room stays readable for who has it open.  What lies here is encrypted, as it was in the storage.
"""

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from etc_data.errors import DamagedShardError, StorageError
from etc_data.shards.manifest import ShardEntry
from etc_data.shards.storage import RemoteStorage
from etc_data.sources.regular_files import open_regular

CACHE_VARIABLE = "ETC_DATA_CACHE"
DEFAULT_CACHE_BYTES = 10 * 2**30

_CHUNK_BYTES = 2**20


class ShardCache:
    """Keeps downloaded shards in a folder of bounded size."""

    def __init__(
        self,
        folder: str | os.PathLike[str] | None = None,
        *,
        max_bytes: int = DEFAULT_CACHE_BYTES,
        fetches: int = 3,
    ) -> None:
        """Names the folder; nothing is created yet.

        Args:
            folder: by default ``ETC_DATA_CACHE`` of the environment, or ``~/.cache/etc-data``.
            max_bytes: what all shards together may take; the least recently used go first.  A shard
                that is larger is fetched each time it is opened.
            fetches: how often a shard is fetched whose bytes are not what the manifest says.

        Raises:
            ValueError: a number is too small.
            StorageError: no folder is given and this user has no home.
        """
        if max_bytes < 0 or fetches < 1:
            raise ValueError(f"max_bytes {max_bytes} must be at least 0, fetches {fetches} at least 1")
        self.folder = _default_folder() if folder is None else Path(folder)
        self.max_bytes = max_bytes
        self._fetches = fetches

    def open(self, storage: RemoteStorage, entry: ShardEntry) -> IO[bytes]:
        """Opens a shard whose bytes are those of the manifest, from the cache or the storage.

        Raises:
            DamagedShardError: it is missing there, or every fetch brought other bytes.
            StorageError: the storage cannot be reached, or the cache's folder cannot be used.
        """
        path = self.folder / f"{entry.sha256}.tar"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = _open_checked(path, entry)
            if file is None:
                with self._locked(entry.sha256):
                    # Another process may have fetched it while this one waited.
                    file = _open_checked(path, entry) or self._fetch(storage, entry, path)
            with contextlib.ExitStack() as on_error:
                on_error.callback(file.close)
                os.utime(file.fileno())
                self._make_room(0)
                on_error.pop_all()
        except OSError as error:
            raise StorageError(
                f"the cache {self.folder} cannot be used: {error.strerror or error}",
                f"name another folder, for example with {CACHE_VARIABLE}",
            ) from None
        return file

    def _fetch(self, storage: RemoteStorage, entry: ShardEntry, path: Path) -> IO[bytes]:
        kept = entry.bytes <= self.max_bytes
        if kept:
            self._make_room(entry.bytes)
        temporary = path.with_suffix(".partial")
        try:
            for _ in range(self._fetches):
                try:
                    storage.download(entry.name, temporary)
                except FileNotFoundError:
                    raise DamagedShardError(f"shard {entry.name} is missing in {storage}") from None
                file = _open_checked(temporary, entry)
                if file is not None:
                    if kept:
                        temporary.replace(path)
                    return file
        finally:
            temporary.unlink(missing_ok=True)
        raise DamagedShardError(
            f"shard {entry.name} of {storage} is not what the manifest says: its size or SHA-256 "
            f"differed in {self._fetches} fetches",
            "it was cut short or altered; upload it again from where it was written",
        )

    def _make_room(self, needed: int) -> None:
        found = []
        for path in self.folder.iterdir():
            # Another process may delete what stands here at the same time.
            with contextlib.suppress(FileNotFoundError):
                if path.suffix == ".tar":
                    status = path.stat()
                    found.append((status.st_mtime_ns, status.st_size, path))
                elif path.suffix == ".partial":
                    # Whoever is still fetching it holds the lock; else it was killed.
                    with contextlib.suppress(BlockingIOError), self._locked(path.stem, wait=False):
                        path.unlink()
        total = needed + sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self.max_bytes:
                return
            path.unlink(missing_ok=True)
            total -= size

    @contextlib.contextmanager
    def _locked(self, sha256: str, *, wait: bool = True) -> Iterator[None]:
        """Holds the lock of a shard's download; it ends with the process, however that ends.

        Shards share 256 lock files, so that these do not pile up.
        """
        with (self.folder / f"{sha256[:2]}.lock").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                yield
            finally:
                # Closing is not enough: a child forked meanwhile has the file open as well.
                fcntl.flock(file, fcntl.LOCK_UN)


def _default_folder() -> Path:
    named = os.environ.get(CACHE_VARIABLE)
    try:
        return Path(named).expanduser() if named else Path.home() / ".cache" / "etc-data"
    except RuntimeError:
        raise StorageError(
            "there is no home folder for the cache of shards", f"set {CACHE_VARIABLE} to a folder"
        ) from None


def _open_checked(path: Path, entry: ShardEntry) -> IO[bytes] | None:
    """Opens a file that has the bytes of the manifest's shard; None where there is none."""
    try:
        file = open_regular(path)
    except FileNotFoundError:
        return None
    with contextlib.ExitStack() as on_error:
        on_error.callback(file.close)
        if os.fstat(file.fileno()).st_size != entry.bytes:
            return None
        digest = hashlib.sha256()
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
        if digest.hexdigest() != entry.sha256:
            return None
        file.seek(0)
        on_error.pop_all()
    return file
