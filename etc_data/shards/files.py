"""Files that are whole under their final name or do not exist there."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Protocol

from etc_data.errors import EtcError

TEMPORARY_SUFFIX = ".partial"


class Writable(Protocol):
    """What bytes can be written to."""

    def write(self, data: bytes, /) -> object:
        """Writes all of `data`."""


class HashingFile:
    """Counts and hashes what is written through it, for a tar that is written once, front to back.

    Attributes:
        bytes_written: so far.
    """

    def __init__(self, file: Writable) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.bytes_written = 0

    def write(self, data: bytes) -> None:
        """Writes all of `data`."""
        self._file.write(data)
        self._hash.update(data)
        self.bytes_written += len(data)

    def sha256(self) -> str:
        """Returns the hash of all that was written, in hex."""
        return self._hash.hexdigest()


@contextlib.contextmanager
def published(
    path: Path, *, durable: bool = True, temporary: Path | None = None
) -> Iterator[IO[bytes]]:
    """Opens a temporary file beside `path` and renames it there when the block ends without error.

    Args:
        path: the file's final name.
        durable: wait until the file is on the disk before it gets its name, so that even a power cut
            leaves it whole; many small files that can be made again are quicker without.
        temporary: the temporary file's name, where several processes may write `path` at once.
    """
    temporary = temporary or path.with_name(f".{path.name}{TEMPORARY_SUFFIX}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def publish_json(path: Path, value: Any) -> None:
    """Publishes a value as readable JSON; the same value gives the same bytes."""
    with published(path) as file:
        file.write(readable_json(value))


def readable_json(value: Any) -> bytes:
    """Returns a value as JSON for people; the same value gives the same bytes."""
    return (json.dumps(value, indent=1) + "\n").encode("ascii")


def canonical_json(value: Any) -> bytes:
    """Returns a value as JSON with sorted keys, no spaces and escaped non-ASCII, for hashing."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns the operating system's refusal to write, such as a full disk, into our error.

    Raises:
        EtcError: the block raised an `OSError`.
    """
    try:
        yield
    except OSError as error:
        raise EtcError(f"{path} cannot be written: {error.strerror or error}") from None
