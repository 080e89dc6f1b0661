"""The report's folder: made before the work, whole or not at all, and for its owner alone."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from etc_data.audit.report import AuditReport
from etc_data.audit.report_page import page_template, render
from etc_data.errors import ManifestError, OutputExistsError
from etc_data.shards.files import published, readable_json, writing
from etc_data.shards.ledger import Ledger
from etc_data.shards.manifest import Manifest
from etc_data.shards.storage import check_local

_JSON_NAME, _PAGE_NAME = "report.json", "report.html"


@contextmanager
def report_folder(folder: Path) -> Iterator[None]:
    """Makes a folder that only the owner may read, before the work; an error leaves nothing of it.

    Args:
        folder: for the report; it holds nothing yet.

    Raises:
        OutputExistsError: the folder holds something, or lies in a data set or a ledger.
        StorageError: it is a URL.
        EtcError: it cannot be made, or Jinja2 is not installed.
    """
    check_local(folder, "the report's folder")
    page_template()  # its package may be missing
    with writing(folder):
        if folder.is_dir() and any(folder.iterdir()):
            raise OutputExistsError(f"{folder} is not empty", "choose another folder")
        _check_outside(folder)
        missing = [one for one in (folder, *folder.parents) if not one.exists()]
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    try:
        yield
    except BaseException:
        for name in (_JSON_NAME, _PAGE_NAME):
            (folder / name).unlink(missing_ok=True)
        with suppress(OSError):
            for made in missing:
                made.rmdir()
        raise


def _check_outside(folder: Path) -> None:
    resolved = folder.resolve()
    for ancestor in (resolved, *resolved.parents):
        if Ledger(ancestor).is_ours():
            raise OutputExistsError(
                f"{folder} lies inside the ledger {ancestor}, which holds nothing else",
                "choose a folder outside of it",
            )
        with suppress(ManifestError):
            Manifest.read(ancestor)
            raise OutputExistsError(
                f"{folder} lies inside the data set {ancestor}, and its plain pictures would be "
                "uploaded too",
                "choose a folder outside of it",
            )


def write_report(report: AuditReport, folder: Path) -> tuple[Path, Path]:
    """Writes ``report.json`` and ``report.html``, each whole or not at all; see `report_folder`.

    Returns:
        The paths of both.

    Raises:
        EtcError: the folder cannot be written.
    """
    contents = {
        folder / _PAGE_NAME: render(report).encode(),
        folder / _JSON_NAME: readable_json(report.to_dict()),
    }
    with writing(folder):
        for path, data in contents.items():
            with published(path) as file:
                file.write(data)
    return folder / _JSON_NAME, folder / _PAGE_NAME
