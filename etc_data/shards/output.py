"""The place that shards are written to: made ready so that nothing of someone else is lost."""

import contextlib
import json
import os
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from etc_data.errors import ManifestError, OutputExistsError, SourceError, StorageError
from etc_data.shards.destination import CLAIM_KIND, CLAIM_NAME, Destination
from etc_data.shards.files import TEMPORARY_SUFFIX, writing
from etc_data.shards.indexes import TIMM_INDEX_NAME, WIDS_INDEX_SUFFIX
from etc_data.shards.ledger import Ledger, Owner
from etc_data.shards.manifest import FORMAT_NAME, MANIFEST_NAME, SPLIT_PATTERN
from etc_data.shards.run_plan import check_same_plan
from etc_data.shards.storage import LocalStorage, RemoteStorage, check_local, is_url, open_storage

_PUBLISHED = (
    rf"{re.escape(MANIFEST_NAME)}|{re.escape(TIMM_INDEX_NAME)}"
    rf"|{SPLIT_PATTERN}-[0-9]{{6}}\.tar|{SPLIT_PATTERN}{re.escape(WIDS_INDEX_SUFFIX)}"
)
_TEMPORARY = rf"\.([a-z0-9_]{{8}}\.)?({_PUBLISHED}){re.escape(TEMPORARY_SUFFIX)}"
_OUR_FILES = re.compile(rf"{_PUBLISHED}|{_TEMPORARY}")
_OUR_REMOTE_FILES = re.compile(rf"{_PUBLISHED}|{re.escape(CLAIM_NAME)}")
_TAR_NAME_BYTES = 100  # where a tar begins, the name of its first member


def prepare_output(
    out: str | os.PathLike[str],
    *,
    force: bool = False,
    plan: dict[str, Any] | None = None,
    resume: bool = False,
    source: Path | None = None,
    ledger: str | os.PathLike[str] | None = None,
) -> tuple[Destination, Ledger]:
    """Makes the place of a data set and its ledger ready, and locks them until `Ledger.unlock`.

    Args:
        out: a folder or a URL; it may not hold anything, unless `force` or `resume`.
        force: delete the data set that stands there, and its ledger; other files are never touched.
        plan: what is about to be written.
        resume: keep what an earlier run of the same plan has written; if there was none, start.
        source: a folder of plain images, which may not overlap with `out`.
        ledger: the ledger's folder, if not the usual one.

    Raises:
        OutputExistsError: there is something that would be overwritten, another run is writing
            there, or the earlier run had another plan.
        SourceError: `out` or its ledger overlaps with `source`.
        StorageError: the URL cannot be written to.
        EtcError: the folder cannot be made.
    """
    if ledger is not None:
        check_local(ledger, "a ledger")
    storage = open_storage(out)
    notes = Ledger.of(out) if ledger is None else Ledger(Path(os.path.abspath(ledger)))
    folder = storage.folder if isinstance(storage, LocalStorage) else None
    with writing(folder or notes.folder):
        for one in (notes.folder,) if folder is None else (folder, notes.folder):
            _check_folder(one, source)
    if folder is not None and Path(os.path.abspath(folder)) in (notes.folder, *notes.folder.parents):
        raise OutputExistsError(
            f"the ledger {notes.folder} lies inside {folder}, and would be uploaded with it",
            "choose a folder outside of it",
        )
    if isinstance(storage, RemoteStorage):
        storage.check_writable()
    is_new = folder is not None and not folder.exists()
    notes.lock(folder)
    try:
        place = _Place(storage, notes)
        place.check_owner(force=force)
        present = place.what_may_go()
        if resume and place.may_resume(present, plan):
            destination = place.resume(plan)
        else:
            destination = place.start_anew(present, plan, force=force)
        destination.remove_leftovers()
    except BaseException:
        if folder is not None and is_new:
            with contextlib.suppress(OSError):
                folder.rmdir()
        notes.unlock()
        raise
    return destination, notes


def _check_folder(folder: Path, source: Path | None) -> None:
    if source is not None:
        check_apart(folder, source)
    for ancestor in Path(os.path.abspath(folder)).parents:
        if _is_our_manifest(LocalStorage(ancestor)):
            raise OutputExistsError(
                f"{folder} lies inside the data set {ancestor}, and a ledger would be uploaded too",
                "choose a folder outside of it",
            )
    if (folder.exists() or folder.is_symlink()) and not folder.is_dir():
        raise OutputExistsError(f"{folder} exists and is no folder")


@dataclass(frozen=True)
class _Place:
    """A data set's place and its ledger, which is locked."""

    storage: LocalStorage | RemoteStorage
    ledger: Ledger

    def __str__(self) -> str:
        return str(self.storage)

    @property
    def _out(self) -> str:
        if isinstance(self.storage, LocalStorage):
            return os.path.realpath(self.storage.folder)
        return str(self.storage)

    def _destination(self, owner: Owner) -> Destination:
        return Destination(self.storage, self.ledger.staging, owner.claim)

    def check_owner(self, *, force: bool) -> None:
        """Checks that the ledger is not that of another data set; that of a folder moves with it."""
        owner = self.ledger.read_owner()
        if owner is None:
            if force and is_url(self._out) and not self.ledger.is_empty():
                raise OutputExistsError(
                    f"{self.ledger.folder} does not tell which data set it is of",
                    "name another folder with --ledger",
                )
            return
        if owner.out == self._out:
            return
        is_here = not is_url(owner.out) and not is_url(self._out)
        if is_here and not (force and LocalStorage(Path(owner.out)).sizes()):
            return
        raise OutputExistsError(
            f"{self.ledger.folder} is the ledger of {owner.out}", "name another folder with --ledger"
        )

    def what_may_go(self) -> list[str]:
        """Returns the names of what stands there, once it is clear that all of it is ours."""
        if isinstance(self.storage, LocalStorage):
            with writing(self.storage.folder):
                paths = sorted(self.storage.folder.iterdir()) if self.storage.folder.exists() else []
                folders = {path.name for path in paths if path.is_dir()}
                present = [path.name for path in paths]
        else:
            present, folders = sorted(self.storage.sizes()), set()
        ours = _OUR_FILES if isinstance(self.storage, LocalStorage) else _OUR_REMOTE_FILES
        foreign = [name for name in present if not ours.fullmatch(name) or name in folders]
        if foreign:
            raise OutputExistsError(
                f"folder {self} holds files that are not of a data set, such as {foreign[0]}",
                "choose an empty folder; other files are never deleted, not even with --force",
            )
        stranger = self.ledger.foreign_file()
        if stranger is not None:
            raise OutputExistsError(
                f"{self.ledger.folder} holds files that are not of a ledger, such as {stranger}",
                "choose another folder; other files are never deleted, not even with --force",
            )
        # Every webdataset calls its shards as we do; the manifest or the ledger tells whose they are.
        if present and not _is_ours(self.storage):
            if not self.ledger.is_ours():
                raise OutputExistsError(
                    f"folder {self} holds {present[0]}, but no manifest of etc-data and no ledger",
                    "if this was a data set of etc-data, delete it by hand",
                )
            # The ledger may be left over from a data set that is gone.
            self._check_shards(name for name in present if name.endswith(".tar"))
        return present

    def _check_shards(self, names: Iterable[str]) -> None:
        """Checks that shards begin with a sample as we call it; one without content is nobody's."""
        for name in names:
            start = self.storage.starts(name, _TAR_NAME_BYTES)
            if start and not re.match(rf"{SPLIT_PATTERN}-[0-9]{{9}}\.".encode(), start):
                raise OutputExistsError(
                    f"{self}/{name} is not of etc-data, and would be overwritten or deleted",
                    "choose another folder; other files are never deleted, not even with --force",
                )

    def may_resume(self, present: list[str], plan: dict[str, Any] | None) -> bool:
        """Returns whether there is something to continue, and not something else."""
        try:
            before = self.ledger.read_plan()
        except ManifestError as error:
            raise ManifestError(
                f"{self} cannot be resumed: {error}", "start anew with --force"
            ) from None
        if before is None:
            if present or not self.ledger.is_empty():
                raise OutputExistsError(
                    f"{self} cannot be resumed: {self.ledger.folder} does not tell what was written",
                    "name its ledger with --ledger, or start anew with --force",
                )
            return False
        assert plan is not None
        check_same_plan(before, plan, str(self))
        return True

    def resume(self, plan: dict[str, Any] | None) -> Destination:
        """Makes all ready to go on with what the ledger's run has begun.

        Raises:
            OutputExistsError: behind the URL another run writes, or did.
        """
        owner = self.ledger.read_owner()
        # Where the run before was killed too early to say, a claim that stands is not its own.
        owner = self._new_owner() if owner is None else replace(owner, out=self._out)
        destination = self._destination(owner)
        if owner.claim is not None and destination.is_claimed_by_another():
            raise OutputExistsError(
                f"{self} cannot be resumed: another run writes there, or was cut off",
                "continue that one, with its own --ledger; or start anew with --force",
            )
        self.ledger.create(plan, owner)
        return destination

    def start_anew(
        self, present: list[str], plan: dict[str, Any] | None, *, force: bool
    ) -> Destination:
        """Makes all ready for a data set from the beginning.

        Raises:
            OutputExistsError: one stands there, and `force` is not set.
        """
        if not force and (present or not self.ledger.is_empty()):
            there = f"folder {self} is not empty" if present else f"{self.ledger.folder} exists"
            if plan is None:
                raise OutputExistsError(there, "choose another folder, or replace the data set: force")
            raise OutputExistsError(
                there,
                "choose another folder, replace the data set with --force, or continue it with "
                "--resume",
            )
        if not self.ledger.is_empty() and not self.ledger.is_ours():
            raise OutputExistsError(
                f"{self.ledger.folder} was not written by etc-data, although its names look so",
                "choose another folder; other files are never deleted, not even with --force",
            )
        owner = self._new_owner()
        destination = self._destination(owner)
        if not present:
            self.ledger.clear()
            self.ledger.create(plan, owner)
            destination.lay_claim()
            return destination
        # Without its manifest the old data set is none, so no reader meets a mixture.
        destination.delete(MANIFEST_NAME)
        # What a run that still goes on uploads until it meets the claim is deleted with the rest.
        destination.lay_claim()
        for name in destination.files() if is_url(self._out) else present:
            if name != CLAIM_NAME:
                destination.delete(name)
        self.ledger.clear()
        self.ledger.create(plan, owner)
        return destination

    def _new_owner(self) -> Owner:
        is_local = isinstance(self.storage, LocalStorage)
        return Owner(self._out, None if is_local else secrets.token_hex(16))


def _is_ours(storage: LocalStorage | RemoteStorage) -> bool:
    """Returns whether a data set of ours stands there, or one that is being written."""
    return _is_our_manifest(storage) or _is_of_format(storage, CLAIM_NAME, CLAIM_KIND)


def _is_our_manifest(storage: LocalStorage | RemoteStorage) -> bool:
    return _is_of_format(storage, MANIFEST_NAME, FORMAT_NAME)


def _is_of_format(storage: LocalStorage | RemoteStorage, name: str, kind: str) -> bool:
    try:
        value = json.loads(storage.read(name))
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
        return False
    except StorageError:
        if isinstance(storage, RemoteStorage):
            raise
        return False  # an ancestor's manifest.json that may not be read, or is a folder
    return isinstance(value, dict) and str(value.get("format")).startswith(f"{kind}/")


def check_apart(out: Path, source: Path) -> None:
    """Checks that two folders share no file.

    Raises:
        SourceError: they are the same, or one lies in the other.
    """
    plain, encrypted = source.resolve(), out.resolve()
    if plain == encrypted or plain in encrypted.parents or encrypted in plain.parents:
        raise SourceError(
            f"{out} and the plain images in {source} overlap; uploading one would upload the other",
            "choose a folder outside of the source",
        )
