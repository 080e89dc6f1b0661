"""Plain images in the data sets that torchvision knows; nothing is ever downloaded.

Where torchvision takes a loader of files, items are those files, byte for byte. Where it keeps
pixels in arrays or opens files itself, items are its pixels in an uncompressed file. PNG would be
lossless too, but what zlib makes of the same pixels changes with its version, and costs time.
"""

import difflib
import functools
import inspect
import io
import operator
import os
import re
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from PIL import Image

from etc_data.codecs import pillow_reason
from etc_data.errors import SourceError, UnreadableImageError
from etc_data.sources.folder import SPLIT_NAMES, FileReader, printable
from etc_data.sources.item import Item, LazyItems, Stray
from etc_data.sources.labels import Labels, count_classes

Option: TypeAlias = str | int | bool
_Arguments: TypeAlias = dict[str, Any]

_NOT_OPTIONS = {"download", "loader", "root", "train", "transform", "target_transform", "transforms"}
_MOST_OPEN = 8  # data sets that a process keeps open: more than one has splits


class TorchvisionDataset:
    """Reads an image classification data set of `torchvision.datasets` as a `Source`.

    The splits are "train" and "test" where torchvision tells them apart by ``train=``. Where it
    does by ``split=``, they are those of the usual names that exist, and its default in the place
    of a missing "train" ("trainval", "train_standard"). Otherwise all is "train". A split whose
    files are missing is a stray.

    Ids are paths relative to the root, in sorted order, where items are files, and ``split/row``
    in torchvision's order where they are not. What torchvision keeps in memory, every worker does.
    Class names are those that torchvision knows, or else the numbers as text.

    Args:
        name: of the class, such as ``"CIFAR10"``.
        root: the folder that the class takes as ``root``.
        split: the one to read, in torchvision's words; None takes all.
        **options: further arguments of the class, such as ``size="160px"`` for ``Imagenette``; the
            text of a number, true or false is taken for what it says.

    Raises:
        SourceError: there is no such data set, split or option; its files are missing or damaged;
            it does not give images with class numbers; its splits have different classes.
    """

    def __init__(
        self,
        name: str,
        /,
        *,
        root: str | os.PathLike[str],
        split: str | None = None,
        **options: Option,
    ) -> None:
        self.root = os.path.abspath(os.path.expanduser(root))
        if not os.path.isdir(self.root):
            raise SourceError(f"root {printable(self.root)!r} is no folder")
        _open.cache_clear()  # files may have changed since
        parameters = _parameters(_dataset_class(name))
        if split is not None and {"train", "split"} <= parameters.keys():
            options, split = {**options, "split": split}, None  # EMNIST names its variants so
        arguments = _arguments(name, parameters, self.root, options)

        strays: list[Stray] = []
        parts: dict[str, _Part] = {}
        class_names: set[tuple[str, ...]] = set()
        specs = _open_splits(name, parameters, arguments, split, strays)
        for part_name, spec in specs.items():
            part = _list(part_name, spec, self.root, strays)
            if part is None:
                continue
            parts[part_name] = part
            count = count_classes(part.labels, part_name, part.item_id)
            if count:
                class_names.add(_class_names(spec.open(), count))
        if not parts:
            first = f"; the first, {strays[0].id}, {strays[0].reason}" if strays else ""
            raise SourceError(f"{name} in {printable(self.root)!r} has no readable image{first}")
        # Numbers as text stand for missing names, and then a split may have fewer of them.
        longest = max(class_names, key=len, default=())
        if any(names != longest[: len(names)] for names in class_names):
            raise SourceError(f"the splits of {name} do not agree on the names of the classes")
        self.class_names = longest
        self.splits = tuple(parts)
        self.strays = tuple(sorted(strays, key=lambda stray: stray.id))
        self._items = {
            part_name: LazyItems(range(len(part.labels)), part.item)
            for part_name, part in parts.items()
        }

    def items(self, split: str) -> Sequence[Item]:
        """Returns the items of a split; they are made as they are asked for.

        Raises:
            SourceError: there is no such split.
        """
        if split not in self._items:
            raise SourceError(f"split {split!r} does not exist; there are {', '.join(self.splits)}")
        return self._items[split]


# --- what torchvision offers ------------------------------------------------------------------


@functools.cache
def _torchvision() -> Any:
    import etc_data.torchvision_cpu  # noqa: F401

    # isort: split
    from torchvision import datasets

    return datasets


def _dataset_class(name: str) -> Any:
    datasets = _torchvision()
    known = [name for name in datasets.__all__ if isinstance(getattr(datasets, name), type)]
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        raise SourceError(
            f"torchvision has no data set {printable(name)!r}",
            f"did you mean {close[0]}?" if close else None,
        )
    return getattr(datasets, name)


def _parameters(dataset_class: type) -> dict[str, inspect.Parameter]:
    """Returns what the constructor takes by name, what it passes on to its base classes included."""
    found: dict[str, inspect.Parameter] = {}
    for base in dataset_class.__mro__:
        if "__init__" in vars(base):
            parameters = list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]
            named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
            found = {p.name: p for p in named} | found
            if not any(p.kind is p.VAR_KEYWORD for p in parameters):
                break
    return found


def _arguments(
    name: str, parameters: Mapping[str, inspect.Parameter], root: str, options: Mapping[str, Option]
) -> _Arguments:
    """Returns the constructor's arguments that are the same for all splits."""
    if "root" not in parameters:
        raise SourceError(f"{name} has no folder of its own to read from")
    arguments: _Arguments = {"root": root}
    for option, value in options.items():
        if option not in parameters or option in _NOT_OPTIONS:
            allowed = [name for name in parameters if name not in _NOT_OPTIONS]
            raise SourceError(
                f"{name} has no option {printable(option)!r} to set; "
                f"it has {', '.join(allowed) or 'none'}"
            )
        text = isinstance(value, str) and not isinstance(parameters[option].default, str)
        arguments[option] = _understood(str(value)) if text else value
    if "download" in parameters:
        arguments["download"] = False
    if "loader" in parameters:
        arguments["loader"] = os.fspath  # takes a path for the image, and nothing is read
    return arguments


def _understood(text: str) -> Option:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    return int(text) if re.fullmatch("-?[0-9]{1,9}", text, re.ASCII) else text


# --- splits -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Spec:
    """All that is needed to open one split of a data set, in any process."""

    name: str
    arguments: tuple[tuple[str, Any], ...]

    def open(self) -> Any:
        return _open(self)


@functools.lru_cache(_MOST_OPEN)
def _open(spec: _Spec) -> Any:
    return _dataset_class(spec.name)(**dict(spec.arguments))


def _open_splits(
    name: str,
    parameters: Mapping[str, inspect.Parameter],
    arguments: _Arguments,
    wanted: str | None,
    strays: list[Stray],
) -> dict[str, _Spec]:
    """Returns the splits that exist and could be opened; those without their files become strays.

    Raises:
        SourceError: none can be opened.
    """
    specs: dict[str, _Spec] = {}
    errors: list[Exception] = []
    for split, choice in _choices(name, parameters, wanted).items():
        if split not in SPLIT_NAMES and "train" in {*specs, *(stray.id for stray in strays)}:
            continue  # a default such as "trainval" or "10fold" repeats what "train" holds
        spec = _Spec(name, tuple(sorted({**arguments, **choice}.items())))
        our_name = re.sub(r"\W", "_", split)
        try:
            spec.open()
        except Exception as error:  # of many kinds, from a missing package to a wrong checksum
            errors.append(error)
            if not (isinstance(error, ValueError) and "split" in choice):  # that is an unknown name
                strays.append(Stray(our_name, f"cannot be opened: {_reason(error)}"))
        else:
            specs[our_name] = spec
    if not specs:
        where = printable(arguments["root"])
        hint = "etc-data downloads nothing; put the files where torchvision looks for them"
        if "download" in parameters:
            hint += f", as torchvision.datasets.{name}(…, download=True) does"
        raise SourceError(
            f"{name} cannot be opened in {where!r}: {_reason(errors[0])}", hint
        ) from errors[0]
    # What stands in for "train" comes first too.
    return dict(sorted(specs.items(), key=lambda entry: entry[0] in SPLIT_NAMES))


def _choices(
    name: str, parameters: Mapping[str, inspect.Parameter], wanted: str | None
) -> dict[str, _Arguments]:
    """Returns the arguments that select each split, by torchvision's name of it."""
    choices: dict[str, _Arguments] = {"train": {}}
    if "train" in parameters:
        choices = {"train": {"train": True}, "test": {"train": False}}
    elif "split" in parameters:
        names = [wanted] if wanted else [*SPLIT_NAMES, parameters["split"].default]
        choices = {split: {"split": split} for split in names if isinstance(split, str)}
    if wanted is None:
        return choices
    if wanted not in choices:
        raise SourceError(f"{name} has no split {printable(wanted)!r}; it has {', '.join(choices)}")
    return {wanted: choices[wanted]}


def _reason(error: Exception) -> str:
    # torchvision's advice to download does not help here.
    line = pillow_reason(error).partition(" You can use download")[0]
    return printable(line).rstrip(".")


# --- the items of a split ---------------------------------------------------------------------


class _Part(Protocol):
    """The items of one split."""

    labels: Labels

    def item_id(self, row: int) -> str: ...
    def item(self, row: int) -> Item: ...


@dataclass
class _Files:
    """Items that are files, in sorted order."""

    root: str
    names: list[str]
    labels: Labels

    def item_id(self, row: int) -> str:
        return printable(self.names[row].replace(os.sep, "/"))

    def item(self, row: int) -> Item:
        reader = FileReader(self.root, self.names[row])
        return Item(self.item_id(row), int(self.labels[row]), reader)


@dataclass
class _Pixels:
    """Items that only torchvision can read, by their number in the data set."""

    split: str
    spec: _Spec
    numbers: Sequence[int]
    labels: Labels

    def item_id(self, row: int) -> str:
        return _number_id(self.split, self.numbers[row])

    def item(self, row: int) -> Item:
        reader = _PixelReader(self.spec, self.numbers[row])
        return Item(self.item_id(row), int(self.labels[row]), reader)


@dataclass(frozen=True, slots=True)
class _PixelReader:
    """Takes an image out of a data set and puts it into a file."""

    spec: _Spec
    number: int

    def __call__(self) -> bytes:
        file = io.BytesIO()
        try:
            image = self.spec.open()[self.number][0]
            # What PPM cannot hold, torchvision's data sets hardly have.
            image.save(file, "PPM" if image.mode in ("L", "RGB") else "PNG")
        except Exception as error:
            raise UnreadableImageError(f"torchvision cannot read it: {_reason(error)}") from error
        return file.getvalue()


def _list(split: str, spec: _Spec, root: str, strays: list[Stray]) -> _Part | None:
    """Returns the items of a split, None without any; what cannot be read is added to the strays."""
    dataset = spec.open()
    names: list[str] = []
    numbers, labels = array("q"), array("q")
    for number in range(len(dataset)):
        try:
            pair = dataset[number]
        except Exception as error:
            strays.append(Stray(_number_id(split, number), f"cannot be read: {_reason(error)}"))
            continue
        if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], Image.Image | str)):
            raise SourceError(f"{spec.name} does not give pairs of an image and its class")
        if isinstance(pair[0], str):
            names.append(os.path.relpath(pair[0], root))
        numbers.append(number)
        labels.append(_class_number(pair[1], spec.name))
    if not numbers:
        return None
    as_array = np.array(labels, np.int64)
    if not names:
        return _Pixels(split, spec, numbers, as_array)
    order = sorted(range(len(names)), key=lambda row: printable(names[row]))
    return _Files(root, [names[row] for row in order], as_array[order])


def _class_number(target: Any, name: str) -> int:
    if target is None:
        return -1
    try:
        return operator.index(target)  # of Python, NumPy and torch alike
    except TypeError:
        raise SourceError(
            f"{name} gives targets of type {type(target).__name__}, not class numbers",
            "some data sets have an option for that, such as target_type=category",
        ) from None


def _class_names(dataset: Any, count: int) -> tuple[str, ...]:
    """Returns the names that torchvision knows, or numbers where it knows none or too few."""
    names = getattr(dataset, "classes", None)
    if not isinstance(names, list | tuple) or len(names) < count:
        return tuple(map(str, range(count)))
    # Imagenette's and ImageNet's classes have several names each.
    return tuple(printable(name if isinstance(name, str) else ", ".join(name)) for name in names)


def _number_id(split: str, number: int) -> str:
    return f"{split}/{number:09d}"
