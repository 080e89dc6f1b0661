"""Plain images in data sets of Hugging Face's `datasets`, local or on the hub.

`datasets` is used to find and prepare a data set. Its result is a set of Arrow files, and items are
read from those: a worker maps them into memory and takes one cell, without importing `datasets`.
"""

import bisect
import contextlib
import functools
import importlib
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from etc_data.errors import SourceError, UnreadableImageError
from etc_data.sources.encrypted import refuse_encrypted_folder
from etc_data.sources.folder import SPLIT_NAMES, printable
from etc_data.sources.item import Item, LazyItems, Stray, read_file
from etc_data.sources.labels import Labels, count_classes

_Table: TypeAlias = Any  # of pyarrow, which carries no types
_Features: TypeAlias = Mapping[str, Any]

_LABEL_COLUMNS = ("label", "labels", "cls")
_SAVED_TO_DISK = ("dataset_dict.json", "state.json")  # what `save_to_disk` leaves
_FILE_FORMATS = {".parquet": "parquet", ".arrow": "arrow"}
_MOST_OPEN_FILES = 256  # of a process; many systems allow 1024


class HuggingFaceDataset:
    """Reads a data set of Hugging Face's `datasets` as a `Source`, in the order of its rows.

    A local data set is a folder of images, of Parquet or of Arrow files, one that `save_to_disk`
    wrote, or a single Parquet or Arrow file; what does not exist here is looked up on the hub.
    `datasets` keeps prepared copies, plain images among them, in its cache (``HF_DATASETS_CACHE``).

    Images are taken as stored, neither decoded nor turned. Class names are those of a `ClassLabel`;
    the distinct values, sorted, of a column of text; the numbers as text for integers. Ids are
    ``split/row``.

    Args:
        name_or_path: a path, or a name on the hub such as ``"uoft-cs/cifar10"``.
        split: the one to read; None takes all.
        config: which configuration, where a data set has several.
        image_column: needed where not exactly one column holds images.
        label_column: by default the only `ClassLabel`, or else "label", "labels" or "cls".

    Raises:
        SourceError: `datasets` is not installed or cannot load the data set; the columns are not
            clear; a label is no class, or missing in some rows of a split; there is no row; the
            folder is one of EtC shards.
    """

    def __init__(
        self,
        name_or_path: str | os.PathLike[str],
        split: str | None = None,
        *,
        config: str | None = None,
        image_column: str | None = None,
        label_column: str | None = None,
    ) -> None:
        _column.cache_clear()  # a file may have been written anew under its old name
        path = os.path.abspath(os.path.expanduser(name_or_path))
        self.root = path if os.path.exists(path) else None
        tables = _load(self.root or os.fspath(name_or_path), split, config)
        features = next(iter(tables.values())).features
        image_column = image_column or _find_image_column(features)
        label_column = label_column or _find_label_column(features)
        rows = {
            name: _Rows.of(name, tables[name], image_column)
            for name in sorted(tables, key=_usual_order)
            if len(tables[name])
        }
        if not rows:
            raise SourceError(f"data set {printable(os.fspath(name_or_path))!r} holds no row")
        self.splits = tuple(rows)
        self.class_names: tuple[str, ...] = ()
        self.strays: tuple[Stray, ...] = ()
        if label_column is not None:
            for name in rows:
                _check_column(label_column, tables[name].features)
            types = [tables[name].features[label_column] for name in rows]
            self.class_names = _add_labels(rows, label_column, types)
        self._items = {
            split: LazyItems(range(part.ends[-1]), part.item) for split, part in rows.items()
        }

    def items(self, split: str) -> Sequence[Item]:
        """Returns the items of a split; they are made as they are asked for.

        Raises:
            SourceError: there is no such split.
        """
        if split not in self._items:
            raise SourceError(f"split {split!r} does not exist; there are {', '.join(self.splits)}")
        return self._items[split]


# --- the data set -----------------------------------------------------------------------------


def _load(name: str, split: str | None, config: str | None) -> Mapping[str, Any]:
    """Returns the `datasets.Dataset` of every split, or of one."""
    if os.path.isdir(name):
        refuse_encrypted_folder(name)
    try:
        datasets = importlib.import_module("datasets")
    except ImportError as error:
        raise SourceError("the package datasets is missing", "pip install 'etc-data[hf]'") from error
    file_format = _FILE_FORMATS.get(os.path.splitext(name)[1].lower())
    if os.path.isfile(name) and file_format is None:
        raise SourceError(
            f"file {printable(name)!r} is neither Parquet nor Arrow",
            "give a folder, a .parquet or .arrow file, or a name on the hub",
        )
    try:
        with _progress_bars(datasets, shown=not os.path.exists(name)):
            if os.path.isfile(name):
                found = datasets.load_dataset(file_format, data_files=name, keep_in_memory=False)
            elif any(os.path.exists(os.path.join(name, mark)) for mark in _SAVED_TO_DISK):
                found = datasets.load_from_disk(name, keep_in_memory=False)
            else:
                found = datasets.load_dataset(name, config, keep_in_memory=False)
    except Exception as error:  # of many kinds, from the network down to single files
        reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        raise SourceError(
            f"data set {printable(name)!r} cannot be loaded: {printable(reason)}"
        ) from error
    tables: Mapping[str, Any] = (
        found if isinstance(found, Mapping) else {str(found.split or "train"): found}
    )
    if split is None:
        return tables
    if split not in tables:
        raise SourceError(
            f"split {printable(split)!r} does not exist; there are {_listed(tables)}",
            "a part of a split is taken by a limit",
        )
    return {split: tables[split]}


@contextlib.contextmanager
def _progress_bars(datasets: Any, *, shown: bool) -> Iterator[None]:
    # For a local data set they would tell of "downloading" files that stay where they are.
    if shown or datasets.are_progress_bars_disabled():
        yield
        return
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.enable_progress_bars()


def _usual_order(split: str) -> tuple[int, str]:
    return (SPLIT_NAMES.index(split) if split in SPLIT_NAMES else len(SPLIT_NAMES), split)


def _find_image_column(features: _Features) -> str:
    images = [name for name, feature in features.items() if _holds_images(feature)]
    if len(images) != 1:
        found = f"several columns hold images: {_listed(images)}"
        missing = f"no column is known to hold images; there are {_listed(features)}"
        raise SourceError(found if images else missing, "name the one to take: image_column=…")
    return images[0]


def _holds_images(feature: Any) -> bool:
    # Parquet files that `datasets` did not write have the same form without the type's name.
    return type(feature).__name__ == "Image" or (
        isinstance(feature, dict) and feature.keys() == {"bytes", "path"}
    )


def _find_label_column(features: _Features) -> str | None:
    classes = [name for name, feature in features.items() if hasattr(feature, "names")]
    usual = [name for name in _LABEL_COLUMNS if name in (classes or features)]
    if len(classes) > 1 and not usual:
        raise SourceError(
            f"several columns hold classes: {_listed(classes)}", "name the one to take: label_column=…"
        )
    return next(iter(usual + classes), None)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(printable, names))


# --- the rows of a split ----------------------------------------------------------------------


@dataclass
class _Rows:
    """The rows of a split, which lie in Arrow files that follow one another.

    Attributes:
        split: its name.
        files: paths of the Arrow files.
        ends: for every file, the number of rows up to its end.
        image_column: what items are read from.
        labels: of all rows; None without any.
    """

    split: str
    files: tuple[str, ...]
    ends: tuple[int, ...]
    image_column: str
    labels: Labels | None = field(default=None, repr=False)

    @classmethod
    def of(cls, split: str, dataset: Any, image_column: str) -> "_Rows":
        files = tuple(os.path.abspath(file["filename"]) for file in dataset.cache_files)
        _check_column(image_column, dataset.features)
        ends = tuple(itertools.accumulate(len(_column(file, image_column)) for file in files))
        if ends[-1:] != (len(dataset),):
            raise SourceError(
                f"split {split!r} is a selection of the rows in its Arrow files",
                "write it anew: dataset.flatten_indices().save_to_disk(…)",
            )
        return cls(split, files, ends, image_column)

    def item(self, row: int) -> Item:
        number = bisect.bisect_right(self.ends, row)
        first = self.ends[number - 1] if number else 0
        label = -1 if self.labels is None else int(self.labels[row])
        reader = _CellReader(self.files[number], self.image_column, row - first)
        return Item(self.item_id(row), label, reader)

    def item_id(self, row: int) -> str:
        return f"{self.split}/{row:09d}"


def _check_column(name: str, features: _Features) -> None:
    if name not in features:
        raise SourceError(f"there is no column {printable(name)!r}; there are {_listed(features)}")


@functools.lru_cache(_MOST_OPEN_FILES)
def _column(file: str, name: str) -> _Table:
    """Returns a column of an Arrow file, mapped into memory."""
    import pyarrow as pa

    return pa.ipc.open_stream(pa.memory_map(file)).read_all().column(name)


@dataclass(frozen=True, slots=True)
class _CellReader:
    """Reads the image in one cell, or the file that the cell names."""

    file: str
    column: str
    row: int

    def __call__(self) -> bytes:
        try:
            cell = _column(self.file, self.column)[self.row].as_py()
        except (OSError, ValueError, LookupError) as error:
            raise UnreadableImageError("its Arrow file cannot be read any more") from error
        data, path = (cell["bytes"], cell["path"]) if isinstance(cell, dict) else (cell, None)
        if data is None and path is not None:
            return read_file(path)
        if not isinstance(data, bytes):
            raise UnreadableImageError("its row holds no image")
        return data


# --- labels -----------------------------------------------------------------------------------


def _add_labels(rows: Mapping[str, _Rows], column: str, types: Sequence[Any]) -> tuple[str, ...]:
    """Gives all rows their labels and returns the names of the classes."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if any(type_ != types[0] for type_ in types):
        raise SourceError(f"the splits do not agree on the classes of column {printable(column)!r}")
    names: list[str] | None = getattr(types[0], "names", None)
    values = {split: _whole_column(part.files, column) for split, part in rows.items()}
    kind = next(iter(values.values())).type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        distinct = {text for labels in values.values() for text in labels.unique().to_pylist()}
        names = sorted(distinct - {None})
        texts = pa.array(names, kind)
        values = {split: pc.index_in(labels, value_set=texts) for split, labels in values.items()}
    elif not (pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        raise SourceError(
            f"column {printable(column)!r} holds {kind}, not classes",
            "name the column of the labels, integers or text: label_column=…",
        )
    count = 0
    for split, part in rows.items():
        part.labels = values[split].cast(pa.int64(), safe=False).fill_null(-1).to_numpy()
        count = max(count, count_classes(part.labels, split, part.item_id))
    if names is None or not count:
        return tuple(map(str, range(count)))
    if count > len(names):
        raise SourceError(
            f"label {count - 1} has no name; column {printable(column)!r} names {len(names)} classes"
        )
    return tuple(map(printable, names))


def _whole_column(files: Sequence[str], name: str) -> _Table:
    import pyarrow as pa

    return pa.chunked_array([chunk for file in files for chunk in _column(file, name).chunks])
