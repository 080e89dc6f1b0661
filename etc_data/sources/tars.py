"""Plain images in webdataset tars: samples of adjacent members, found once and read by a seek."""

import array
import glob
import json
import os
import re
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np

from etc_data.errors import SourceError, UnreadableImageError
from etc_data.sources.encrypted import already_encrypted, is_encrypted_sample, refuse_encrypted_folder
from etc_data.sources.folder import SPLIT_NAMES, printable, visible_entries
from etc_data.sources.images import picture_extensions
from etc_data.sources.item import Item, LazyItems, Stray
from etc_data.sources.labels import Labels, count_classes
from etc_data.sources.regular_files import open_regular

_COMPRESSED = re.compile(r"\.(tgz|tbz2?|txz|tzst|tar\.(gz|bz2|xz|zst|lz4|Z))$", re.IGNORECASE)
# webdataset's rule: the key goes up to the first dot of the base name; the rest tells the kind.
_MEMBER = re.compile(r"(?P<key>(?:.*/)?[^./][^./]*)\.(?P<extension>[^/]+)", re.DOTALL)
_HIDDEN = re.compile(r"(^|/)(\.|__[^/]*__($|/))")  # webdataset keeps notes in members called __…__
_BLOCK = 512


class TarShards:
    """Reads webdataset tars of plain images as a `Source`; lists them once, then seeks.

    A sample is a run of members with the same key: one image, and its class as the integer text of
    `cls` or, without that, as the integer ``"label"`` of `json`. Other members are passed over, and
    so are hidden ones and what webdataset calls ``__…__``. Folders in a tar are part of the key.

    A file whose name holds the name of a split, set off by ``-``, ``_`` or ``.``, belongs to that
    split, and so do all tars of a folder of that name: ``train-000000.tar``, ``x_val-3.tar``,
    ``test/0.tar``. If no file names a split, all are "train". Ids are ``tar/key``; the order is
    that of the files' names, then that inside each. Class names are the numbers as text.

    Samples without an image, with several, or with the key of an earlier one are strays, and so are
    links in a tar and files of a folder that are no tars.

    Args:
        tars: a folder, a tar, a pattern (``train-{000000..000009}.tar``, ``train-*.tar``), or a
            sequence of tars and patterns.

    Raises:
        SourceError: a tar cannot be read, is cut short, compressed, or holds samples that etc-data
            has encrypted; the members of a sample are not adjacent; a label is no integer, or
            missing in some samples of a split; only some files name a split; there is no image.
    """

    def __init__(self, tars: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> None:
        strays: list[Stray] = []
        if isinstance(tars, str | os.PathLike) and os.path.isdir(tars):
            self.root = os.path.abspath(tars)
            paths = _tars_in(self.root, strays)
        else:
            paths = _tars_of(tars)
            self.root = os.path.commonpath([os.path.dirname(path) for path in paths])
        for folder in sorted({self.root, *map(os.path.dirname, paths)}):
            refuse_encrypted_folder(folder)
        names = {os.path.relpath(path, self.root).replace(os.sep, "/"): path for path in paths}
        for path in paths:
            if _COMPRESSED.search(path):
                raise _compressed(path)
        splits = _split_names(sorted(names))

        found: dict[str, _Samples] = {}
        for name, split in splits.items():
            found.setdefault(split, _Samples()).add_tar(name, names[name], strays)
        if not any(samples.keys for samples in found.values()):
            raise SourceError(
                f"{printable(self.root)!r} holds no tar with images",
                "expected are webdataset tars, whose samples are members such as 0001.jpg, 0001.cls",
            )
        self._items = {
            split: found[split].items() for split in SPLIT_NAMES if split in found and found[split].keys
        }
        self.splits = tuple(self._items)
        classes = max(samples.count_classes(split) for split, samples in found.items())
        self.class_names = tuple(map(str, range(classes)))
        self.strays = tuple(sorted(strays, key=lambda stray: stray.id))

    def items(self, split: str) -> Sequence[Item]:
        """Returns the items of a split; they are made as they are asked for.

        Raises:
            SourceError: there is no such split.
        """
        if split not in self._items:
            raise SourceError(f"split {split!r} does not exist; there are {', '.join(self.splits)}")
        return self._items[split]


def holds_tars(folder: str) -> bool:
    """Tells whether a folder is one of tars: at its top or in split folders, beside no other image.

    Compressed tars count too: `TarShards` tells why it does not take them.

    Raises:
        SourceError: a folder cannot be listed.
    """
    folders, files = _entries(folder)
    for name in folders:
        if name.lower() not in SPLIT_NAMES:
            return False
        inner_folders, inner_files = _entries(os.path.join(folder, name))
        if inner_folders:
            return False
        files += inner_files
    extensions = {os.path.splitext(name)[1].lower() for name in files}
    return any(map(is_tar, files)) and not extensions & picture_extensions()


# --- finding the files ------------------------------------------------------------------------


def _entries(folder: str) -> tuple[list[str], list[str]]:
    """Returns the sorted names of the folders and of the files that lie in a folder."""
    try:
        entries = sorted(visible_entries(folder), key=lambda entry: entry.name)
        folders = [entry.name for entry in entries if entry.is_dir()]
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise SourceError(f"folder {printable(folder)!r} cannot be listed: {reason}") from error
    return folders, [entry.name for entry in entries if entry.name not in folders]


def is_tar(name: str) -> bool:
    """Tells whether a file is called a tar archive, a compressed one included."""
    return name.lower().endswith(".tar") or bool(_COMPRESSED.search(name))


def _tars_in(root: str, strays: list[Stray]) -> list[str]:
    folders, files = _entries(root)
    for folder in folders:
        if folder.lower() in SPLIT_NAMES:
            files += (f"{folder}/{name}" for name in _entries(os.path.join(root, folder))[1])
        else:
            strays.append(Stray(printable(folder), "is no folder of a split"))
    strays += (Stray(printable(name), "is no tar archive") for name in files if not is_tar(name))
    tars = [os.path.join(root, name) for name in files if is_tar(name)]
    if not tars:
        raise SourceError(f"folder {printable(root)!r} holds no tar archive")
    return tars


def _tars_of(patterns: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[str]:
    import braceexpand

    if isinstance(patterns, str | os.PathLike):
        patterns = [patterns]
    found: set[str] = set()
    for pattern in (os.fspath(pattern) for pattern in patterns):
        try:
            names = [pattern] if os.path.exists(pattern) else list(braceexpand.braceexpand(pattern))
        except ValueError as error:
            raise SourceError(f"pattern {printable(pattern)!r} is malformed: {error}") from None
        for name in names:
            paths = [name] if os.path.exists(name) else glob.glob(name)
            if not paths:
                raise SourceError(f"no file {printable(name)!r} exists")
            found |= set(map(os.path.abspath, paths))
    if not found:
        raise SourceError("no tar archive is given")
    return sorted(found)


def _split_names(names: Iterable[str]) -> dict[str, str]:
    """Returns the split of every tar, by its path relative to the root."""
    splits: dict[str, str] = {}
    unnamed: list[str] = []
    for name in names:
        words = {word for word in re.split("[-_./]", name.lower()) if word in SPLIT_NAMES}
        if len(words) > 1:
            both = " and ".join(sorted(words))
            raise SourceError(f"{printable(name)!r} names the splits {both}; rename it to tell one")
        if words:
            splits[name] = words.pop()
        else:
            unnamed.append(name)
    if splits and unnamed:
        raise SourceError(
            f"{printable(unnamed[0])!r} names no split, but {printable(next(iter(splits)))!r} does",
            "name the split in all names or in none, or give the tars by name or pattern",
        )
    return splits or dict.fromkeys(unnamed, "train")


# --- the samples of a split -------------------------------------------------------------------


@dataclass(slots=True)
class _Samples:
    """The samples of one split in columns: a million take about 120 MB."""

    tars: list[tuple[str, str]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    tar_numbers: "array.array[int]" = field(default_factory=lambda: array.array("q"))
    offsets: "array.array[int]" = field(default_factory=lambda: array.array("q"))
    sizes: "array.array[int]" = field(default_factory=lambda: array.array("q"))
    labels: "array.array[int]" = field(default_factory=lambda: array.array("q"))

    def add_tar(self, name: str, path: str, strays: list[Stray]) -> None:
        """Lists one tar completely."""
        number = len(self.tars)
        self.tars.append((printable(name), path))
        whole: dict[str, bool] = {}  # by key: does the first run of members hold an image?
        try:
            with open_regular(path) as file:
                for sample in _samples(file, path, f"{printable(name)}/", strays):
                    if not whole and is_encrypted_sample(sample.read_info(file)):
                        raise already_encrypted(path)
                    reason = sample.flaw()
                    has_image = bool(sample.images)
                    if sample.key in whole:
                        if not (has_image and whole[sample.key]):
                            raise SourceError(
                                f"{printable(path)!r}: the members of sample {printable(sample.key)!r} "
                                "are not adjacent",
                                "pack it anew in sorted order: tar --sort=name",
                            )
                        reason = "has the key of an earlier sample"
                    whole.setdefault(sample.key, has_image)
                    if reason:
                        strays.append(Stray(f"{printable(name)}/{printable(sample.key)}", reason))
                        continue
                    self.labels.append(sample.read_label(file, path))
                    self.keys.append(sample.key)
                    self.tar_numbers.append(number)
                    offset, size = sample.members[sample.images[0]]
                    self.offsets.append(offset)
                    self.sizes.append(size)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise SourceError(f"{printable(path)!r} cannot be read: {reason}") from error

    def items(self) -> Sequence[Item]:
        return LazyItems(range(len(self.keys)), self.item)

    def item(self, row: int) -> Item:
        _, path = self.tars[self.tar_numbers[row]]
        reader = _MemberReader(path, self.offsets[row], self.sizes[row])
        return Item(self.item_id(row), self.labels[row], reader)

    def item_id(self, row: int) -> str:
        return f"{self.tars[self.tar_numbers[row]][0]}/{printable(self.keys[row])}"

    def count_classes(self, split: str) -> int:
        labels: Labels = np.array(self.labels, np.int64)
        return count_classes(labels, split, self.item_id)


@dataclass(frozen=True, slots=True)
class _MemberReader:
    """Reads one member of a tar by where it lies."""

    path: str
    offset: int
    size: int

    def __call__(self) -> bytes:
        try:
            with open_regular(self.path) as file:
                file.seek(self.offset)
                data = file.read(self.size)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise UnreadableImageError(f"its tar archive cannot be read: {reason}") from error
        if len(data) != self.size:
            raise UnreadableImageError("its tar archive was cut short since it was listed")
        return data


# --- one archive ------------------------------------------------------------------------------


@dataclass(slots=True)
class _Sample:
    """Adjacent members with the same key: extension → (offset, size)."""

    key: str
    members: dict[str, tuple[int, int]] = field(default_factory=dict)
    images: list[str] = field(default_factory=list)
    twice: str | None = None

    def add(self, extension: str, offset: int, size: int) -> None:
        if extension in self.members:
            self.twice = extension
        elif f".{extension}" in picture_extensions():
            self.images.append(extension)
        self.members[extension] = (offset, size)

    def flaw(self) -> str | None:
        """Returns why the sample cannot be taken, None if it can."""
        if self.twice is not None:
            return f"holds the member {printable(self.twice)} twice"
        if not self.images:
            return f"holds no image, only {', '.join(map(printable, self.members))}"
        if len(self.images) > 1:
            return f"holds several images: {', '.join(self.images)}"
        return None

    def read_label(self, file: BinaryIO, path: str) -> int:
        """Returns the class number, -1 if there is none."""
        if "cls" in self.members:
            text = self._read("cls", file).decode("ascii", "replace").strip()
            if not re.fullmatch("-1|[0-9]{1,18}", text, re.ASCII):
                raise self._bad_label(path, text)
            return int(text)
        info = self.read_info(file)
        label = info.get("label", -1) if isinstance(info, dict) else -1
        if type(label) is not int or not -1 <= label < 10**18:
            raise self._bad_label(path, label)
        return label

    def read_info(self, file: BinaryIO) -> Any:
        """Returns the content of the JSON member, None if there is none or if it is no JSON."""
        if "json" not in self.members:
            return None
        try:
            return json.loads(self._read("json", file))
        except (ValueError, RecursionError):
            return None

    def _read(self, extension: str, file: BinaryIO) -> bytes:
        offset, size = self.members[extension]
        file.seek(offset)
        return file.read(size)

    def _bad_label(self, path: str, label: object) -> SourceError:
        return SourceError(
            f"{printable(path)!r}: the label of sample {printable(self.key)!r} is no integer from 0: "
            f"{printable(repr(label))[:60]}"
        )


def _samples(file: BinaryIO, path: str, prefix: str, strays: list[Stray]) -> Iterator[_Sample]:
    """Yields the samples of an archive, in order; `prefix` begins the ids of strays."""
    sample: _Sample | None = None
    for info in _members(file, path):
        name = info.name.removeprefix("./")
        if info.isdir() or _HIDDEN.search(name):
            continue
        member = _MEMBER.fullmatch(name)
        if not info.isreg() or info.issparse():
            strays.append(Stray(prefix + printable(name), "is a link or a special member of the tar"))
            continue
        if member is None:
            strays.append(Stray(prefix + printable(name), "has no extension"))
            continue
        if sample is None or sample.key != member["key"]:
            if sample is not None:
                yield sample
            sample = _Sample(member["key"])
        sample.add(member["extension"].lower(), info.offset_data, info.size)
    if sample is not None:
        yield sample


def _members(file: BinaryIO, path: str) -> Iterator[tarfile.TarInfo]:
    """Yields the members of an archive and then checks that it is whole.

    Python's `tarfile` takes a damaged header, or the file's end, for the end of the archive.
    """
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while (info := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # it would grow without bound
                yield info
            file.seek(tar.offset)
    except (tarfile.TarError, ValueError, EOFError) as error:
        raise SourceError(f"{printable(path)!r} is damaged or no tar archive: {error}") from error
    if file.read(_BLOCK) != bytes(_BLOCK):
        raise SourceError(f"{printable(path)!r} is damaged or cut short at byte {tar.offset}")
    if any(any(block) for block in iter(lambda: file.read(1 << 20), b"")):
        raise SourceError(
            f"{printable(path)!r} goes on after its end, as joined archives do",
            "unpack it with tar --ignore-zeros and pack it anew",
        )


def _compressed(path: str) -> SourceError:
    return SourceError(
        f"{printable(path)!r} is compressed, so that no image in it can be reached without the others",
        "unpack it to a plain .tar first: images hardly shrink",
    )
