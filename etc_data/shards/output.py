"""The place that shards are written to: made ready so that nothing of someone else is lost."""

import contextlib
import json
import os
import re
from pathlib import Path
from typing import Any

from etc_data.errors import ManifestError, OutputExistsError, SourceError, StorageError
from etc_data.shards.destination import Destination
from etc_data.shards.files import TEMPORARY_SUFFIX, writing
from etc_data.shards.indexes import TIMM_INDEX_NAME, WIDS_INDEX_SUFFIX
from etc_data.shards.ledger import Ledger
from etc_data.shards.manifest import FORMAT_NAME, MANIFEST_NAME, SPLIT_PATTERN
from etc_data.shards.run_plan import check_same_plan
from etc_data.shards.storage import LocalStorage, RemoteStorage, check_local, open_storage

_PUBLISHED = (
    rf"{re.escape(MANIFEST_NAME)}|{re.escape(TIMM_INDEX_NAME)}"
    rf"|{SPLIT_PATTERN}-[0-9]{{6}}\.tar|{SPLIT_PATTERN}{re.escape(WIDS_INDEX_SUFFIX)}"
)
_TEMPORARY = rf"\.([a-z0-9_]{{8}}\.)?({_PUBLISHED}){re.escape(TEMPORARY_SUFFIX)}"
_OUR_FILES = re.compile(rf"{_PUBLISHED}|{_TEMPORARY}")


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
    place = Ledger.of(out) if ledger is None else Ledger(Path(os.path.abspath(ledger)))
    folder = storage.folder if isinstance(storage, LocalStorage) else None
    if isinstance(storage, LocalStorage):
        _check_folder(storage.folder, place.folder, source)
    else:
        storage.check_writable()
        if source is not None:
            check_apart(place.folder, source)
        if plan is not None:
            plan = plan | {"out": str(storage)}
    destination = Destination(storage, place.staging)
    is_new = folder is not None and not folder.exists()
    place.lock(folder)
    try:
        _check_owner(place, None if folder else str(storage))
        present = _what_may_go(destination, place)
        if not (resume and _may_resume(destination, present, place, plan)):
            _start_anew(destination, present, place, force=force, plan=plan)
        destination.remove_leftovers()
    except BaseException:
        if folder is not None and is_new:
            with contextlib.suppress(OSError):
                folder.rmdir()
        place.unlock()
        raise
    return destination, place


def _check_folder(out: Path, ledger: Path, source: Path | None) -> None:
    for folder in (out, ledger):
        if source is not None:
            check_apart(folder, source)
    with writing(out):
        for ancestor in Path(os.path.abspath(out)).parents:
            if _is_our_manifest(LocalStorage(ancestor)):
                raise OutputExistsError(
                    f"{out} lies inside the data set {ancestor}, and its ledger would be uploaded too",
                    "choose a folder outside of it",
                )
        for folder in (out, ledger):
            if (folder.exists() or folder.is_symlink()) and not folder.is_dir():
                raise OutputExistsError(f"{folder} exists and is no folder")
    if Path(os.path.abspath(out)) in (ledger, *ledger.parents):
        raise OutputExistsError(
            f"the ledger {ledger} lies inside {out}, and would be uploaded with it",
            "choose a folder outside of it",
        )


def _check_owner(ledger: Ledger, url: str | None) -> None:
    """Checks that the ledger is not that of another URL's data set; a folder's moves with it."""
    with contextlib.suppress(ManifestError):
        other = (ledger.read_plan() or {}).get("out", url)
        if other != url:
            raise OutputExistsError(
                f"{ledger.folder} is the ledger of {other}", "name another folder with --ledger"
            )


def _may_resume(
    destination: Destination, present: list[str], ledger: Ledger, plan: dict[str, Any] | None
) -> bool:
    """Returns whether there is something to continue, and not something else."""
    try:
        before = ledger.read_plan()
    except ManifestError as error:
        raise ManifestError(
            f"{destination} cannot be resumed: {error}", "start anew with --force"
        ) from None
    if before is None:
        if present or not ledger.is_empty():
            raise OutputExistsError(
                f"{destination} cannot be resumed: {ledger.folder} does not tell what was written",
                "name its ledger with --ledger, or start anew with --force",
            )
        return False
    assert plan is not None
    check_same_plan(before, plan, str(destination))
    ledger.create(plan)
    return True


def _start_anew(
    destination: Destination,
    present: list[str],
    ledger: Ledger,
    *,
    force: bool,
    plan: dict[str, Any] | None,
) -> None:
    if not force and (present or not ledger.is_empty()):
        what = f"folder {destination} is not empty" if present else f"{ledger.folder} exists"
        raise OutputExistsError(
            what,
            "choose another folder, replace the data set with --force, or continue it with --resume",
        )
    # Without its manifest the old data set is none, so no reader meets a mixture.
    for name in sorted(present, key=lambda name: name != MANIFEST_NAME):
        destination.delete(name)
    ledger.clear()
    ledger.create(plan)


def _what_may_go(destination: Destination, ledger: Ledger) -> list[str]:
    """Returns the names of what stands there, once it is clear that all of it is ours."""
    storage = destination.storage
    if isinstance(storage, LocalStorage):
        with writing(storage.folder):
            paths = sorted(storage.folder.iterdir()) if storage.folder.exists() else []
            folders = {path.name for path in paths if path.is_dir()}
            present = [path.name for path in paths]
    else:
        present, folders = sorted(storage.sizes()), set()
    foreign = [name for name in present if not _OUR_FILES.fullmatch(name) or name in folders]
    if foreign:
        raise OutputExistsError(
            f"folder {destination} holds files that are not of a data set, such as {foreign[0]}",
            "choose an empty folder; other files are never deleted, not even with --force",
        )
    # Every webdataset calls its shards as we do; the manifest or the ledger tells whose they are.
    if present and ledger.is_empty() and not _is_our_manifest(storage):
        raise OutputExistsError(
            f"folder {destination} holds {present[0]}, but no manifest of etc-data and no ledger",
            "if this was a data set of etc-data, delete it by hand",
        )
    stranger = ledger.foreign_file()
    if stranger is not None:
        raise OutputExistsError(
            f"{ledger.folder} holds files that are not of a ledger, such as {stranger}",
            "choose another folder; other files are never deleted, not even with --force",
        )
    return present


def _is_our_manifest(storage: LocalStorage | RemoteStorage) -> bool:
    try:
        value = json.loads(storage.read(MANIFEST_NAME))
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
        return False
    except StorageError:
        if isinstance(storage, RemoteStorage):
            raise
        return False  # an ancestor's manifest.json that may not be read, or is a folder
    return isinstance(value, dict) and str(value.get("format")).startswith(f"{FORMAT_NAME}/")


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
