"""The owner's ledger: what may never be uploaded, beside the folder that is."""

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from etc_data.errors import ManifestError
from etc_data.shards.files import (
    TEMPORARY_SUFFIX,
    canonical_json,
    published,
    readable_json,
    writing,
)
from etc_data.shards.job import Failure, ShardResult
from etc_data.shards.lock import FolderLock
from etc_data.shards.manifest import ShardEntry
from etc_data.shards.storage import LocalStorage, open_storage

LEDGER_SUFFIX = ".ledger"
PLAN_NAME = "plan.json"
PLAN_KIND = "etc-data-plan"
_README_NAME = "README.txt"
_OWNER_NAME = "out.json"
_SAMPLES_FOLDER = "samples"
_DONE_FOLDER = "done"
_STAGING_FOLDER = "staging"
_FIRST_FILES = (PLAN_NAME, _README_NAME, _OWNER_NAME)
_HALF_FILES = tuple(f".{name}{TEMPORARY_SUFFIX}" for name in _FIRST_FILES)
_OUR_FILES = re.compile(
    rf"{'|'.join(map(re.escape, _FIRST_FILES + _HALF_FILES))}|(classes|run)\.json|failures\.jsonl"
    rf"|{_SAMPLES_FOLDER}(/[^/]+\.jsonl)?|{_DONE_FOLDER}(/[^/]+\.json)?"
    rf"|{_DONE_FOLDER}/\.[^/]+\.json{re.escape(TEMPORARY_SUFFIX)}"
    rf"|{_STAGING_FOLDER}(/\.[^/]+{re.escape(TEMPORARY_SUFFIX)})?"
)
_README = """\
This folder is for the owner of the key alone: it tells which encrypted sample is which photo.
Upload the folder beside it, never this one.  Without it, an unfinished run cannot be resumed.
"""


@dataclass(frozen=True)
class Owner:
    """The data set that a ledger is of.

    Attributes:
        out: its folder or URL.
        claim: of the run where `out` is a URL, see `Destination`; else None.
    """

    out: str
    claim: str | None


class Ledger:
    """Writes and reads ``OUT.ledger/``: what only the owner may see (mode 0700).

    Attributes:
        folder: of the ledger.
    """

    def __init__(self, folder: Path) -> None:
        """Names the ledger's folder; nothing is created yet."""
        self.folder = folder

    @classmethod
    def of(cls, out: str | os.PathLike[str]) -> "Ledger":
        """Returns the ledger beside the data set `out`; of one behind a URL, in the current folder."""
        storage = open_storage(out)
        if not isinstance(storage, LocalStorage):
            return cls(Path.cwd() / f"{str(storage).rpartition('/')[2]}{LEDGER_SUFFIX}")
        # Resolved, so that a folder has one ledger, by whatever link it is reached.
        path = Path(os.path.realpath(storage.folder))
        return cls(path.parent / f"{path.name}{LEDGER_SUFFIX}")

    @property
    def staging(self) -> Path:
        """A folder for shards that wait to be uploaded."""
        return self.folder / _STAGING_FOLDER

    def lock(self, out: Path | None = None) -> None:
        """Makes the folder and keeps other runs away from it until `unlock`, or this process ends.

        Args:
            out: the data set's folder, for which the same is done; None where it has no folder.

        Raises:
            OutputExistsError: another run holds one of them.
            EtcError: a folder cannot be made.
        """
        with contextlib.ExitStack() as locks:
            locks.callback(FolderLock(self.folder, 0o700).release)
            locks.callback(_remove_if_empty, self.folder)
            if out is not None:
                locks.callback(FolderLock(out).release)
            self._locks = locks.pop_all()

    def unlock(self) -> None:
        """Lets other runs in; if the ledger holds nothing, it is removed."""
        self._locks.close()

    def create(self, plan: dict[str, Any] | None, owner: "Owner") -> None:
        """Fills the folder with a note to the owner and with what the run is about to do.

        Args:
            plan: what a later run must agree with to continue; None where none can.
            owner: the data set that the ledger is of.
        """
        with writing(self.folder):
            self.folder.chmod(0o700)
            # The plan comes first and goes last, so that the rest is always known as its run's.
            if plan is not None:
                self._publish(PLAN_NAME, readable_json(plan))
            self._publish(_README_NAME, _README.encode())
            self._publish(_OWNER_NAME, readable_json(asdict(owner)))
            for name in (_SAMPLES_FOLDER, _DONE_FOLDER, _STAGING_FOLDER):
                (self.folder / name).mkdir(mode=0o700, exist_ok=True)

    def is_empty(self) -> bool:
        """Returns whether no run has left anything in the folder, or there is none."""
        return not self.folder.exists() or all(
            path.name in _HALF_FILES for path in self.folder.iterdir()
        )

    def is_ours(self) -> bool:
        """Returns whether a run has written what is in the folder: names alone would not tell."""
        with contextlib.suppress(OSError):
            if (self.folder / _README_NAME).read_bytes() == _README.encode():
                return True
        with contextlib.suppress(OSError, ManifestError):
            return str((self.read_plan() or {}).get("format")).startswith(f"{PLAN_KIND}/")
        return False

    def foreign_file(self) -> str | None:
        """Returns the name of something in the folder that no ledger holds, or None."""
        for path in sorted(self.folder.rglob("*")):
            name = path.relative_to(self.folder).as_posix()
            if not _OUR_FILES.fullmatch(name):
                return name
        return None

    def clear(self) -> None:
        """Deletes what an earlier run wrote; the folder itself, and the lock on it, stay."""
        with writing(self.folder):
            # Without a plan or a note the rest would be nobody's.
            last = [_README_NAME, PLAN_NAME]
            for path in sorted(self.folder.iterdir(), key=lambda path: (path.name in last, path.name)):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()

    def read_plan(self) -> dict[str, Any] | None:
        """Returns what the run that wrote the ledger was about to do; None if it left no word.

        Raises:
            ManifestError: the ledger is damaged.
        """
        plan = self._read_json(PLAN_NAME)
        if plan is not None and not isinstance(plan, dict):
            raise ManifestError(f"the ledger's {PLAN_NAME} is damaged: it is no plan")
        return plan

    def read_owner(self) -> Owner | None:
        """Returns the data set that the ledger is of; None if it does not tell, or no more."""
        try:
            return Owner(**self._read_json(_OWNER_NAME))
        except (ManifestError, TypeError):
            return None

    def write_result(self, result: ShardResult) -> None:
        """Notes that a shard is written, and which of its samples is which item."""
        entry = result.entry
        rows = [{"sample": key, "item": item, "label": label} for key, item, label in result.samples]
        samples = _json_lines(rows)
        self._write(_samples_name(entry.name), samples)
        record = {
            "entry": asdict(entry),
            "failures": [[failure.item, failure.reason] for failure in result.failures],
            "source_bytes": result.source_bytes,
            "mark": result.mark,
        }
        record |= {"check": _check(record, samples)}
        self._publish(_done_name(entry.name), readable_json(record))

    def read_result(self, shard: str) -> ShardResult | None:
        """Returns what `write_result` noted of a shard, or None if that is not all there, unharmed."""
        try:
            record = self._read_json(_done_name(shard))
            samples = (self.folder / _samples_name(shard)).read_bytes()
            if record.pop("check") != _check(record, samples):
                return None
        except (OSError, ManifestError, AttributeError, KeyError, TypeError):
            return None
        rows = map(json.loads, samples.splitlines())
        return ShardResult(
            entry=ShardEntry(**record["entry"]),
            samples=tuple((row["sample"], row["item"], row["label"]) for row in rows),
            failures=tuple(Failure(item, reason) for item, reason in record["failures"]),
            source_bytes=record["source_bytes"],
            mark=record["mark"],
        )

    def write_json(self, name: str, value: Any) -> None:
        """Writes one file as readable JSON."""
        self._write(name, _utf8(json.dumps(value, indent=1, ensure_ascii=False) + "\n"))

    def write_lines(self, name: str, rows: Iterable[dict[str, Any]]) -> None:
        """Writes one file of JSON lines."""
        self._write(name, _json_lines(rows))

    def read_items(self, shard: str) -> dict[str, str]:
        """Returns sample key → item id of a shard; empty where there is no ledger.

        Raises:
            ManifestError: the ledger is damaged.
        """
        name = _samples_name(shard)
        path = self.folder / name
        try:
            rows = map(json.loads, path.read_bytes().splitlines() if path.exists() else ())
            return {str(row["sample"]): str(row["item"]) for row in rows}
        except (KeyError, TypeError, ValueError, RecursionError):
            raise ManifestError(f"the ledger's {name} is damaged: it lists no samples") from None

    def read_class_names(self) -> list[str]:
        """Returns the class names by label; empty where there is no ledger.

        Raises:
            ManifestError: the ledger is damaged.
        """
        names = self._read_json("classes.json")
        if not isinstance(names, list | None):
            raise ManifestError("the ledger's classes.json is damaged: it is no list of names")
        return list(map(str, names or []))

    def _read_json(self, name: str) -> Any:
        path = self.folder / name
        try:
            return json.loads(path.read_bytes()) if path.exists() else None
        except (ValueError, RecursionError):
            raise ManifestError(f"the ledger's {name} is damaged: it is not JSON") from None

    def _publish(self, name: str, data: bytes) -> None:
        """Writes what another run will trust: whole, or not at all."""
        path = self.folder / name
        with writing(path):
            if not _holds(path, data):
                with published(path) as file:
                    os.fchmod(file.fileno(), 0o600)
                    file.write(data)

    def _write(self, name: str, data: bytes) -> None:
        path = self.folder / name
        with writing(path):
            if not _holds(path, data):
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(data)


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def _holds(path: Path, data: bytes) -> bool:
    """Returns whether a file is already as it should be; then a finished run leaves it alone."""
    return path.is_file() and path.read_bytes() == data


def _utf8(text: str) -> bytes:
    # Half of a surrogate pair has no UTF-8, but as an escape it is JSON.
    return text.encode("utf-8", "backslashreplace")


def _json_lines(rows: Iterable[dict[str, Any]]) -> bytes:
    return _utf8("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _check(record: dict[str, Any], samples: bytes) -> str:
    """Returns what tells a later run that the notes of a shard are as they were written."""
    return hashlib.sha256(canonical_json(record) + samples).hexdigest()


def _samples_name(shard: str) -> str:
    return f"{_SAMPLES_FOLDER}/{Path(shard).stem}.jsonl"


def _done_name(shard: str) -> str:
    return f"{_DONE_FOLDER}/{Path(shard).stem}.json"
