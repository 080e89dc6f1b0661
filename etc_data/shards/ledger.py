"""The owner's ledger: what may never be uploaded, beside the folder that is."""

import contextlib
import fcntl
import json
import os
import re
import shutil
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from etc_data.errors import ManifestError, OutputExistsError
from etc_data.shards.files import TEMPORARY_SUFFIX, published, readable_json, writing
from etc_data.shards.job import Failure, ShardResult
from etc_data.shards.manifest import ShardEntry
from etc_data.shards.storage import LocalStorage, is_url, open_storage

LEDGER_SUFFIX = ".ledger"
PLAN_NAME = "plan.json"
_SAMPLES_FOLDER = "samples"
_DONE_FOLDER = "done"
_STAGING_FOLDER = "staging"
_OUR_FILES = re.compile(
    rf"README\.txt|(classes|run)\.json|\.?{re.escape(PLAN_NAME)}({re.escape(TEMPORARY_SUFFIX)})?"
    rf"|failures\.jsonl|{_SAMPLES_FOLDER}(/[^/]+\.jsonl)?|{_DONE_FOLDER}(/[^/]+\.json)?"
    rf"|{_DONE_FOLDER}/\.[^/]+\.json{re.escape(TEMPORARY_SUFFIX)}"
    rf"|{_STAGING_FOLDER}(/\.[^/]+{re.escape(TEMPORARY_SUFFIX)})?"
)
_README = """\
This folder is for the owner of the key alone: it tells which encrypted sample is which photo.
Upload the folder beside it, never this one.  Without it, an unfinished run cannot be resumed.
"""


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
        if is_url(out) and not isinstance(open_storage(out), LocalStorage):
            name = str(out).rstrip("/").rpartition("/")[2]
            return cls(Path.cwd() / f"{name}{LEDGER_SUFFIX}")
        # An absolute path, since "." has no name to put the suffix to.
        path = Path(os.path.abspath(out))
        return cls(path.parent / f"{path.name}{LEDGER_SUFFIX}")

    @property
    def staging(self) -> Path:
        """A folder for shards that wait to be uploaded."""
        return self.folder / _STAGING_FOLDER

    def lock(self) -> None:
        """Makes the folder and keeps other runs away from it until `unlock`, or this process ends.

        Raises:
            OutputExistsError: another run holds it.
            EtcError: the folder cannot be made.
        """
        with writing(self.folder):
            while True:
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                descriptor = os.open(self.folder, os.O_RDONLY)
                release = weakref.finalize(self, os.close, descriptor)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    release()
                    raise OutputExistsError(
                        f"another run is writing this data set: it holds {self.folder}",
                        "wait for it, or stop it first",
                    ) from None
                # The holder before may have removed the folder while we waited to open it.
                with contextlib.suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(descriptor), self.folder.stat()):
                        self._release = release
                        return
                release()

    def unlock(self) -> None:
        """Lets other runs in; a folder that holds nothing is removed."""
        with contextlib.suppress(OSError):
            self.folder.rmdir()
        self._release()

    def create(self, plan: dict[str, Any] | None) -> None:
        """Fills the folder with a note to the owner and with what the run is about to do.

        Args:
            plan: what a later run must agree with to continue; None where none can.
        """
        with writing(self.folder):
            self.folder.chmod(0o700)
            for name in (_SAMPLES_FOLDER, _DONE_FOLDER, _STAGING_FOLDER):
                (self.folder / name).mkdir(mode=0o700, exist_ok=True)
            self._write("README.txt", _README)
            if plan is not None:
                self._publish(PLAN_NAME, plan)

    def is_empty(self) -> bool:
        """Returns whether nothing lies in the folder, or there is none."""
        return not self.folder.exists() or not any(self.folder.iterdir())

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
            # The plan goes last: until then the rest is still known as that run's.
            for path in sorted(self.folder.iterdir(), key=lambda path: path.name == PLAN_NAME):
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

    def write_result(self, result: ShardResult) -> None:
        """Notes that a shard is written, and which of its samples is which item."""
        entry = result.entry
        rows = [{"sample": key, "item": item, "label": label} for key, item, label in result.samples]
        if rows:
            self.write_lines(_samples_name(entry.name), rows)
        record = {
            "entry": asdict(entry),
            "failures": [[failure.item, failure.reason] for failure in result.failures],
            "source_bytes": result.source_bytes,
        }
        self._publish(_done_name(entry.name), record)

    def read_result(self, shard: str) -> ShardResult | None:
        """Returns what `write_result` noted of a shard, or None if that is not all there."""
        try:
            record = self._read_json(_done_name(shard))
            if record is None:
                return None
            rows = self._rows(_samples_name(shard))
            samples = tuple((str(row["sample"]), str(row["item"]), int(row["label"])) for row in rows)
            entry = ShardEntry(**record["entry"])
            if len(samples) != entry.samples:
                return None
            return ShardResult(
                entry=entry,
                samples=samples,
                failures=tuple(Failure(item, reason) for item, reason in record["failures"]),
                source_bytes=record["source_bytes"],
            )
        except (ManifestError, KeyError, TypeError, ValueError):
            return None

    def write_json(self, name: str, value: Any) -> None:
        """Writes one file as readable JSON."""
        self._write(name, json.dumps(value, indent=1, ensure_ascii=False) + "\n")

    def write_lines(self, name: str, rows: Iterable[dict[str, Any]]) -> None:
        """Writes one file of JSON lines."""
        self._write(name, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))

    def read_items(self, shard: str) -> dict[str, str]:
        """Returns sample key → item id of a shard; empty where there is no ledger.

        Raises:
            ManifestError: the ledger is damaged.
        """
        name = _samples_name(shard)
        try:
            return {str(row["sample"]): str(row["item"]) for row in self._rows(name)}
        except (KeyError, TypeError):
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

    def _rows(self, name: str) -> Iterator[dict[str, Any]]:
        path = self.folder / name
        if not path.exists():
            return
        try:
            for line in path.read_bytes().splitlines():
                yield json.loads(line)
        except (ValueError, RecursionError):
            raise ManifestError(f"the ledger's {name} is damaged: it is not JSON lines") from None

    def _publish(self, name: str, value: Any) -> None:
        """Writes what another run will trust: whole, or not at all."""
        with writing(self.folder / name), published(self.folder / name) as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(readable_json(value))

    def _write(self, name: str, text: str) -> None:
        path = self.folder / name
        with writing(path):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            # Half of a surrogate pair has no UTF-8, but as an escape it is JSON.
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)


def _samples_name(shard: str) -> str:
    return f"{_SAMPLES_FOLDER}/{Path(shard).stem}.jsonl"


def _done_name(shard: str) -> str:
    return f"{_DONE_FOLDER}/{Path(shard).stem}.json"
