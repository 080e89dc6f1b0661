"""The folder that shards are written to: made ready so that nothing of someone else is lost."""

import json
import os
import re
from pathlib import Path

from etc_data.errors import OutputExistsError, SourceError
from etc_data.shards.files import TEMPORARY_SUFFIX, writing
from etc_data.shards.indexes import TIMM_INDEX_NAME, WIDS_INDEX_SUFFIX
from etc_data.shards.ledger import Ledger
from etc_data.shards.manifest import FORMAT_NAME, MANIFEST_NAME, SPLIT_PATTERN

_PUBLISHED = (
    rf"{re.escape(MANIFEST_NAME)}|{re.escape(TIMM_INDEX_NAME)}"
    rf"|{SPLIT_PATTERN}-[0-9]{{6}}\.tar|{SPLIT_PATTERN}{re.escape(WIDS_INDEX_SUFFIX)}"
)
_OUR_FILES = re.compile(rf"{_PUBLISHED}|\.({_PUBLISHED}){re.escape(TEMPORARY_SUFFIX)}")


def prepare_output(out: Path, *, force: bool, source: Path | None = None) -> Ledger:
    """Makes the folder and its ledger ready for a new data set.

    Args:
        out: the folder; it may not hold anything, unless `force`.
        force: delete the data set that stands there, and its ledger; other files are never touched.
        source: a folder of plain images, which may not overlap with `out`.

    Raises:
        OutputExistsError: there is something that would be overwritten.
        SourceError: `out` or its ledger overlaps with `source`.
        EtcError: the folder cannot be made.
    """
    ledger = Ledger(out)
    if source is not None:
        for folder in (out, ledger.folder):
            check_apart(folder, source)
    with writing(out):
        for ancestor in Path(os.path.abspath(out)).parents:
            if _has_our_manifest(ancestor):
                raise OutputExistsError(
                    f"{out} lies inside the data set {ancestor}, and its ledger would be uploaded too",
                    "choose a folder outside of it",
                )
        present = _what_may_go(out, ledger)
        if (present or ledger.folder.exists()) and not force:
            what = f"folder {out} is not empty" if present else f"{ledger.folder} exists"
            raise OutputExistsError(what, "choose another folder, or replace the data set with --force")
        # Without its manifest the old data set is none, so no reader meets a mixture.
        for name in sorted(present, key=lambda name: name != MANIFEST_NAME):
            (out / name).unlink()
        ledger.remove()
        out.mkdir(parents=True, exist_ok=True)
    ledger.create()
    return ledger


def _what_may_go(out: Path, ledger: Ledger) -> list[str]:
    """Returns the names of what stands in the folder, once it is clear that all of it is ours."""
    for folder in (out, ledger.folder):
        if (folder.exists() or folder.is_symlink()) and not folder.is_dir():
            raise OutputExistsError(f"{folder} exists and is no folder")
    paths = sorted(out.iterdir()) if out.exists() else []
    foreign = [path.name for path in paths if not _OUR_FILES.fullmatch(path.name) or path.is_dir()]
    if foreign:
        raise OutputExistsError(
            f"folder {out} holds files that are not of a data set, such as {foreign[0]}",
            "choose an empty folder; other files are never deleted, not even with --force",
        )
    # Every webdataset calls its shards as we do; the manifest or the ledger tells whose they are.
    if paths and not ledger.folder.exists() and not _has_our_manifest(out):
        raise OutputExistsError(
            f"folder {out} holds {paths[0].name}, but no manifest of etc-data and no ledger",
            "if this was a data set of etc-data, delete it by hand",
        )
    stranger = ledger.foreign_file()
    if stranger is not None:
        raise OutputExistsError(
            f"{ledger.folder} holds files that are not of a ledger, such as {stranger}",
            "choose another folder; other files are never deleted, not even with --force",
        )
    return [path.name for path in paths]


def _has_our_manifest(out: Path) -> bool:
    try:
        value = json.loads((out / MANIFEST_NAME).read_bytes())
    except (FileNotFoundError, ValueError, RecursionError):
        return False
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
