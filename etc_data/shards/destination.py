"""Where shards are written to: a folder, or a URL reached by upload; whole or not at all."""

import contextlib
import hashlib
import os
import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from etc_data.errors import OutputExistsError, StorageError
from etc_data.shards.files import TEMPORARY_SUFFIX, published, readable_json, writing
from etc_data.shards.manifest import ShardEntry
from etc_data.shards.storage import LocalStorage, RemoteStorage

CLAIM_NAME = "unfinished.json"
CLAIM_KIND = "etc-data-claim"


@dataclass(frozen=True)
class Destination:
    """A data set's folder that is being written; small, and made to be sent to a worker.

    A folder is locked by its run; a URL cannot be.  There each run lays down a claim of its own, and
    looks before every upload whether it is still the last one that did.

    Attributes:
        storage: where the files go.
        staging: a folder of this machine that keeps files until they are uploaded; None takes the
            system's folder for temporary files.  A local folder needs none.
        claim: random, of the run; None where nobody else can write, or nothing is to be written.
    """

    storage: LocalStorage | RemoteStorage
    staging: Path | None = None
    claim: str | None = None

    def __str__(self) -> str:
        return str(self.storage)

    @contextlib.contextmanager
    def publishing(self, name: str) -> Iterator[IO[bytes]]:
        """Opens a file that appears under its name, whole, when the block ends without error.

        Raises:
            OSError: it cannot be written on this machine.
            OutputExistsError: another run has laid a claim to the URL meanwhile.
            StorageError: it cannot be uploaded, or did not arrive whole.
        """
        if isinstance(self.storage, LocalStorage):
            final = self.storage.folder / name
            # Two attempts at one shard may overlap: Ray takes a machine for lost that it only cannot
            # reach.  Both write the same bytes, but not into the same temporary file.
            temporary = final.with_name(f".{secrets.token_hex(4)}.{name}{TEMPORARY_SUFFIX}")
            with published(final, temporary=temporary) as file:
                yield file
            return
        with self._uploading(name) as file:
            yield file
            self._check_claim()

    @contextlib.contextmanager
    def _uploading(self, name: str) -> Iterator[IO[bytes]]:
        assert isinstance(self.storage, RemoteStorage)
        descriptor, path = tempfile.mkstemp(f".{name}{TEMPORARY_SUFFIX}", ".", self.staging)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
            self.storage.upload(Path(path), name)
        finally:
            Path(path).unlink(missing_ok=True)

    def lay_claim(self) -> None:
        """Says behind a URL that this run writes there; the runs before it stop at their next upload.

        Raises:
            StorageError: it cannot be uploaded.
        """
        if self.claim is not None:
            with writing(Path(str(self))), self._uploading(CLAIM_NAME) as file:
                file.write(self._claim_file())

    def drop_claim(self) -> "Destination":
        """Removes the claim, once all but the manifest is there; returns what needs none any more.

        Raises:
            OutputExistsError: another run has laid a claim meanwhile.
            StorageError: it cannot be removed.
        """
        if self.claim is not None:
            self._check_claim()
            self.delete(CLAIM_NAME)
        return replace(self, claim=None)

    def is_claimed_by_another(self) -> bool:
        """Returns whether another run writes behind the URL, or was cut off before its end.

        Raises:
            StorageError: the URL cannot be reached.
        """
        return self._claim_there() not in (None, self._claim_file())

    def _check_claim(self) -> None:
        if self.claim is not None and self._claim_there() != self._claim_file():
            raise OutputExistsError(
                f"another run writes to {self} since this one began",
                "let that one finish; or stop it, and start anew with --force",
            )

    def _claim_there(self) -> bytes | None:
        try:
            return self.storage.read(CLAIM_NAME)
        except FileNotFoundError:
            return None

    def _claim_file(self) -> bytes:
        return readable_json({"format": f"{CLAIM_KIND}/1", "run": self.claim})

    def sizes(self) -> dict[str, int]:
        """Returns the size in bytes of every file that is there.

        Raises:
            StorageError: the place cannot be listed.
        """
        return self.storage.sizes()

    def holds(self, name: str, content: bytes) -> bool:
        """Returns whether a small file is already there as it should be.

        Raises:
            StorageError: it is there and cannot be read.
        """
        try:
            return self.storage.read(name) == content
        except FileNotFoundError:
            return False

    def delete(self, name: str) -> None:
        """Deletes a file; it need not exist.

        Raises:
            EtcError: it cannot be deleted.
        """
        if isinstance(self.storage, RemoteStorage):
            self.storage.delete(name)
            return
        with writing(self.storage.folder):
            (self.storage.folder / name).unlink(missing_ok=True)

    def has_content_of(self, entry: ShardEntry) -> bool:
        """Returns whether a local shard has this SHA-256: another run may have replaced it.

        A remote one would have to be fetched for that, and is trusted.
        """
        if isinstance(self.storage, RemoteStorage) or not entry.samples:
            return True
        with writing(self.storage.folder), (self.storage.folder / entry.name).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == entry.sha256

    def remove_leftovers(self) -> None:
        """Deletes what killed processes had half written on this machine, as far as it can be."""
        for folder in (getattr(self.storage, "folder", None), self.staging):
            for leftover in folder.glob(f".*{TEMPORARY_SUFFIX}") if folder else ():
                # An error that is on its way tells more of a folder that cannot be written.
                with contextlib.suppress(OSError):
                    leftover.unlink()

    def check_arrived(self, sizes: dict[str, int]) -> None:
        """Checks that files are there with all their bytes, before anything says that they are.

        Args:
            sizes: file name → size in bytes.

        Raises:
            StorageError: one is missing or has another size.
        """
        present = self.sizes()
        for name, size in sizes.items():
            if present.get(name) != size:
                raise StorageError(
                    f"{self}/{name} has {present.get(name, 0)} bytes, but {size} were written",
                    "something else changed it; write again with --resume",
                )
