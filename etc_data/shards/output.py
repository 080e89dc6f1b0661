"""The folder that shards are written to: made ready so that nothing of someone else is lost."""

import re
from pathlib import Path

from etc_data.errors import OutputExistsError, SourceError
from etc_data.shards.files import TEMPORARY_SUFFIX
from etc_data.shards.ledger import Ledger
from etc_data.shards.manifest import MANIFEST_NAME, SPLIT_PATTERN

TIMM_INDEX_NAME = "_info.json"
WIDS_INDEX_SUFFIX = ".wids"

_OUR_FILES = re.compile(
    rf"{re.escape(MANIFEST_NAME)}|{re.escape(TIMM_INDEX_NAME)}"
    rf"|{SPLIT_PATTERN}-[0-9]{{6}}\.tar|{SPLIT_PATTERN}\.wids"
    rf"|\..*{re.escape(TEMPORARY_SUFFIX)}"
)


def prepare_output(out: Path, *, force: bool, source: Path | None = None) -> Ledger:
    """Makes the folder and its ledger ready for a new data set.

    Args:
        out: the folder; it may not hold anything, unless `force`.
        force: delete the data set that stands there, and its ledger; other files are never touched.
        source: a folder of plain images, which may not overlap with `out`.

    Raises:
        OutputExistsError: there is something that would be overwritten.
        SourceError: `out` and `source` overlap.
    """
    if source is not None:
        _check_apart(out, source)
    ledger = Ledger(out)
    if out.exists() and not out.is_dir():
        raise OutputExistsError(f"{out} exists and is no folder")
    present = sorted(path.name for path in out.iterdir()) if out.exists() else []
    foreign = [name for name in present if not _OUR_FILES.fullmatch(name)]
    if foreign:
        raise OutputExistsError(
            f"folder {out} holds files that are not of a data set, such as {foreign[0]}",
            "choose an empty folder; other files are never deleted, not even with --force",
        )
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


def _check_apart(out: Path, source: Path) -> None:
    plain, encrypted = source.resolve(), out.resolve()
    if plain == encrypted or plain in encrypted.parents or encrypted in plain.parents:
        raise SourceError(
            f"{out} and the plain images in {source} overlap; uploading one would upload the other",
            "choose a folder outside of the source",
        )
