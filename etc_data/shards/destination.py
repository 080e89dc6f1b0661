"""Where shards are written to: a folder, or a URL reached by upload; whole or not at all."""

import contextlib
import hashlib
import os
import secrets
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from etc_data.errors import OutputExistsError, StorageError
from etc_data.shards.files import TEMPORARY_SUFFIX, published, readable_json, writing
from etc_data.shards.manifest import ShardEntry
from etc_data.shards.storage import LocalStorage, RemoteStorage, Stored

CLAIM_NAME = "unfinished.json"
CLAIM_KIND = "etc-data-claim"


class Publication:
    """A file that is being published.

    Attributes:
        mark: of the uploaded file (see `Stored`), once it is there.
    """

    def __init__(self, file: IO[bytes]) -> None:
        """Writes into an open file."""
        self._file = file
        self.mark = ""

    def write(self, data: bytes) -> int:
        """Writes all of `data`."""
        return self._file.write(data)


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
    def publishing(self, name: str) -> Iterator[Publication]:
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
                yield Publication(file)
            return
        with self._uploading(name) as publication:
            yield publication
            self._check_claim()

    @contextlib.contextmanager
    def _uploading(self, name: str) -> Iterator[Publication]:
        assert isinstance(self.storage, RemoteStorage)
        descriptor, path = tempfile.mkstemp(f".{name}{TEMPORARY_SUFFIX}", ".", self.staging)
        try:
            with os.fdopen(descriptor, "wb") as file:
                publication = Publication(file)
                yield publication
            publication.mark = self.storage.upload(Path(path), name)
        finally:
            Path(path).unlink(missing_ok=True)

    def lay_claim(self) -> None:
        """Says behind a URL that this run writes there; the runs before it stop at their next upload.

        Raises:
            StorageError: it cannot be uploaded.
        """
        if self.claim is not None:
            # It is no secret, and there may be no ledger yet.
            here = replace(self, staging=None)
            with writing(Path(str(self))), here._uploading(CLAIM_NAME) as file:
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
                "let that one finish, or stop it before you try again",
            )

    def _claim_there(self) -> bytes | None:
        try:
            return self.storage.read(CLAIM_NAME)
        except FileNotFoundError:
            return None

    def _claim_file(self) -> bytes:
        return readable_json({"format": f"{CLAIM_KIND}/1", "run": self.claim})

    def files(self) -> dict[str, Stored]:
        """Returns every file that is there by its name.

        Raises:
            StorageError: the place cannot be listed.
        """
        return self.storage.files()

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

    def is_unchanged(self, entry: ShardEntry, mark: str, stored: Stored | None) -> bool:
        """Returns whether a shard is still the one that was written: another run may have replaced it.

        A local one is read, and compared by its SHA-256; a remote one by its size and mark.

        Args:
            entry: of the shard; one without samples is not kept.
            mark: that it got when it was written.
            stored: what the place tells of it now, from `files`.
        """
        if not entry.samples or stored is None:
            return not entry.samples and stored is None
        if stored != Stored(entry.bytes, mark):
            return False
        if isinstance(self.storage, RemoteStorage):
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

    def check_arrived(self, shards: Iterable[ShardEntry], marks: Mapping[str, str]) -> None:
        """Checks that shards are there as they were written, before anything says that they are.

        What else a run that was stopped may have uploaded meanwhile is deleted.

        Args:
            shards: of the manifest.
            marks: shard → mark that it got when it was written.

        Raises:
            OutputExistsError: another run has laid a claim meanwhile.
            StorageError: a shard is missing, or not the one that was written.
        """
        self._check_claim()
        present = self.files()
        for entry in shards:
            stored = present.pop(entry.name, None)
            if stored != Stored(entry.bytes, marks.get(entry.name, "")):
                met = "is missing" if stored is None else "is not as it was written"
                raise StorageError(
                    f"{self}/{entry.name} {met}: something else changed it",
                    "make sure that nothing else writes there, and write again with --resume",
                )
        if isinstance(self.storage, RemoteStorage):
            for name in present:
                if name.endswith(".tar"):
                    self.storage.delete(name)
