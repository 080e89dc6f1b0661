"""The owner's ledger: what may never be uploaded, beside the folder that is."""

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from etc_data.errors import ManifestError
from etc_data.shards.files import writing

LEDGER_SUFFIX = ".ledger"
_SAMPLES_FOLDER = "samples"
_OUR_FILES = re.compile(
    rf"README\.txt|(classes|run)\.json|failures\.jsonl|{_SAMPLES_FOLDER}(/[^/]+\.jsonl)?"
)
_README = """\
This folder is for the owner of the key alone: it tells which encrypted sample is which photo.
Upload the folder beside it, never this one.
"""


class Ledger:
    """Writes and reads ``OUT.ledger/``: JSON lines that only the owner may see (mode 0700)."""

    def __init__(self, out: Path) -> None:
        """Names the ledger of the data set `out`; nothing is created yet."""
        # An absolute path, since "." has no name to put the suffix to.
        out = Path(os.path.abspath(out))
        self.folder = out.parent / f"{out.name}{LEDGER_SUFFIX}"

    def create(self) -> None:
        """Makes the folder, empty but for a note to the owner."""
        with writing(self.folder):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.folder.chmod(0o700)
            (self.folder / _SAMPLES_FOLDER).mkdir(mode=0o700, exist_ok=True)
        self._write("README.txt", _README)

    def foreign_file(self) -> str | None:
        """Returns the name of something in the folder that no ledger holds, or None."""
        for path in sorted(self.folder.rglob("*")):
            name = path.relative_to(self.folder).as_posix()
            if not _OUR_FILES.fullmatch(name):
                return name
        return None

    def remove(self) -> None:
        """Deletes the ledger of an earlier run."""
        with writing(self.folder):
            if self.folder.is_dir():
                shutil.rmtree(self.folder)

    def write_json(self, name: str, value: Any) -> None:
        """Writes one file as readable JSON."""
        self._write(name, json.dumps(value, indent=1, ensure_ascii=False) + "\n")

    def write_lines(self, name: str, rows: Iterable[dict[str, Any]]) -> None:
        """Writes one file of JSON lines."""
        self._write(name, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))

    def write_samples(self, shard: str, samples: Iterable[tuple[str, str, int]]) -> None:
        """Writes which item became which sample of a shard: (sample key, item id, label)."""
        rows = ({"sample": key, "item": item, "label": label} for key, item, label in samples)
        self.write_lines(_samples_name(shard), rows)

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
        path = self.folder / "classes.json"
        try:
            names = json.loads(path.read_bytes()) if path.exists() else []
        except (ValueError, RecursionError):
            names = None
        if not isinstance(names, list):
            raise ManifestError("the ledger's classes.json is damaged: it is no list of names")
        return list(map(str, names))

    def _rows(self, name: str) -> Iterator[dict[str, Any]]:
        path = self.folder / name
        if not path.exists():
            return
        try:
            for line in path.read_bytes().splitlines():
                yield json.loads(line)
        except (ValueError, RecursionError):
            raise ManifestError(f"the ledger's {name} is damaged: it is not JSON lines") from None

    def _write(self, name: str, text: str) -> None:
        path = self.folder / name
        with writing(path):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            # Half of a surrogate pair has no UTF-8, but as an escape it is JSON.
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)


def _samples_name(shard: str) -> str:
    return f"{_SAMPLES_FOLDER}/{Path(shard).stem}.jsonl"
