"""Plain images in a folder: class folders, splits, or just images."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from etc_data.errors import SourceError
from etc_data.sources.images import picture_extensions
from etc_data.sources.item import Item, LazyItems, Stray, read_file

SPLIT_NAMES = ("train", "val", "valid", "validation", "test")

_CLUTTER = {"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx"}  # operating systems leave them
# Control characters, line ends, signs that turn the writing direction, and the surrogates that
# stand for bytes which are not UTF-8. A fixed list: str.isprintable changes with Python's version.
_UNPRINTABLE = re.compile(r"[\\\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class ImageFolder:
    """Reads a folder of images as a `Source`; lists it once, reads no file until asked.

    Three layouts are understood:

    * class folders: every folder that holds an image, however deep, is a class; labels follow the
      sorted names, as in torchvision. One split, "train".
    * splits: if all folders are named train, val, valid, validation or test (in any case), each is
      a split with class folders or without; one list of classes serves all splits.
    * no folders: labels are -1 and there are no class names.

    Hidden files and folders and the clutter of operating systems are skipped without a word.
    Other files than pictures, images beside class or split folders, folders without an image, links
    that lead nowhere or back up, and special files are listed as strays. Links to files and
    folders are followed.

    Ids are paths relative to the root, with "/". Characters that cannot be printed, bytes that
    are not UTF-8, and backslashes are escaped in them, each name in its own way.

    Args:
        root: the folder.

    Raises:
        SourceError: the root or a folder in it cannot be listed, two folders name the same split,
            or there is no image.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = os.path.abspath(os.fspath(root))
        found = _list(self.root)
        tops = sorted(folder for folder in found.folders if "/" not in folder)
        # Keyed by the prefix of the paths: "train/", or "" where there are no split folders.
        prefixes = {"": "train"}
        named = [folder for folder in tops if folder.lower() in SPLIT_NAMES]
        others = [folder for folder in tops if folder not in named]
        if len(named) > 1 and others:
            raise SourceError(
                f"folders {', '.join(named)} look like splits, but {printable(others[0])!r} does not",
                hint="move it away; labels and splits would be mixed up",
            )
        if tops and not others:
            prefixes = {f"{folder}/": folder.lower() for folder in tops}
            _check_distinct(tops)
        files: dict[str, list[str]] = {prefix: [] for prefix in prefixes}
        strays = found.strays
        for name in found.files:
            prefix = "" if "" in files else name[: name.find("/") + 1]
            if prefix in files:
                files[prefix].append(name)
            else:
                strays.append(Stray(printable(name), "lies beside the split folders"))

        classes: set[str] = set()
        for prefix, names in files.items():
            start = len(prefix)
            own_classes = {name[start:].partition("/")[0] for name in names if "/" in name[start:]}
            if own_classes:
                beside = [name for name in names if "/" not in name[start:]]
                files[prefix] = [name for name in names if "/" in name[start:]]
                strays += (Stray(printable(name), "lies beside the class folders") for name in beside)
            classes |= own_classes
        strays += (
            Stray(printable(folder), "holds no image")
            for folder in found.folders
            if _is_empty(folder, files, classes)
        )
        if not any(files.values()):
            raise SourceError(
                f"folder {printable(self.root)!r} holds no image",
                hint="expected are images, folders of images by class, or train/ and val/ of them",
            )
        ordered = sorted(classes)
        labels = {name: label for label, name in enumerate(ordered)}
        by_split = {
            prefixes[prefix]: LazyItems(
                sorted(names, key=printable), _FileItems(self.root, prefix, labels)
            )
            for prefix, names in files.items()
            if names
        }
        self.splits = tuple(name for name in SPLIT_NAMES if name in by_split)
        self.class_names = tuple(map(printable, ordered))
        self.strays = tuple(sorted(strays, key=lambda stray: stray.id))
        self._items = by_split

    def items(self, split: str) -> Sequence[Item]:
        """Returns the items of a split, sorted by id; they are made as they are asked for.

        Raises:
            SourceError: there is no such split.
        """
        if split not in self._items:
            raise SourceError(f"split {split!r} does not exist; there are {', '.join(self.splits)}")
        return self._items[split]


def printable(name: str) -> str:
    r"""Returns a name with all that cannot be printed escaped; different names stay different.

    Examples:
        >>> printable("caf\udce9 1.jpg"), printable("Größe\n.png")
        ('caf\\xe9 1.jpg', 'Größe\\u000a.png')
    """
    return _UNPRINTABLE.sub(_escape, name)


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code == ord("\\"):
        return r"\\"
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name that is not UTF-8
        return rf"\x{code - 0xDC00:02x}"
    return rf"\u{code:04x}"


@dataclass(frozen=True, slots=True)
class FileReader:
    """Reads one file; holds its name as the file system gave it, since an id may be escaped."""

    root: str
    name: str

    def __call__(self) -> bytes:
        """Returns the bytes of the file."""
        return read_file(os.path.join(self.root, self.name))


@dataclass(frozen=True, slots=True)
class _FileItems:
    """Makes the items of one split from bare names: a million of these take about 100 MB."""

    root: str
    prefix: str
    labels: Mapping[str, int]

    def __call__(self, name: str) -> Item:
        top, slash, _ = name[len(self.prefix) :].partition("/")
        label = self.labels[top] if slash else -1
        return Item(printable(name), label, FileReader(self.root, name))


@dataclass(frozen=True, slots=True)
class _Listing:
    files: list[str]
    folders: list[str]
    strays: list[Stray]


def _list(root: str) -> _Listing:
    """Returns all pictures, folders and strays under the root, as paths relative to it."""
    extensions = picture_extensions()
    found = _Listing([], [], [])
    # A folder that is one of its own parents was reached through a link.
    pending: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    while pending:
        prefix, parents = pending.pop()
        path = os.path.join(root, prefix) if prefix else root
        try:
            status = os.stat(path)
            identity = (status.st_dev, status.st_ino)
            if identity in parents:
                found.strays.append(Stray(printable(prefix[:-1]), "is a link to a parent folder"))
                continue
            if prefix:
                found.folders.append(prefix[:-1])
            for entry in visible_entries(path):
                name = prefix + entry.name
                kind = _kind(entry)
                if kind == "folder":
                    pending.append((f"{name}/", parents | {identity}))
                elif kind != "file":
                    found.strays.append(Stray(printable(name), kind))
                elif os.path.splitext(entry.name)[1].lower() in extensions:
                    found.files.append(name)
                else:
                    found.strays.append(Stray(printable(name), "has no extension of a picture"))
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise SourceError(f"folder {printable(path)!r} cannot be listed: {reason}") from error
    return found


def visible_entries(path: str) -> Iterator[os.DirEntry[str]]:
    """Yields what lies in a folder, without hidden entries and the clutter of operating systems.

    Raises:
        OSError: the folder cannot be listed.
    """
    with os.scandir(path) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and entry.name.lower() not in _CLUTTER:
                yield entry


def _kind(entry: os.DirEntry[str]) -> str:
    """Returns "file", "folder", or the reason why it is neither."""
    try:
        if entry.is_file():
            return "file"
        if entry.is_dir():
            return "folder"
        return "is a link that leads nowhere" if entry.is_symlink() else "is a special file"
    except OSError as error:  # such as a link to itself
        return f"cannot be examined: {error.strerror or type(error).__name__}"


def _is_empty(folder: str, files: Mapping[str, list[str]], classes: set[str]) -> bool:
    """Tells whether a split or class folder yields no image in any split; deeper ones may."""
    prefix, _, rest = folder.rpartition("/")
    if f"{folder}/" in files:
        return not files[f"{folder}/"]
    return (f"{prefix}/" if prefix else "") in files and rest not in classes


def _check_distinct(folders: list[str]) -> None:
    seen: dict[str, str] = {}
    for folder in folders:
        twin = seen.setdefault(folder.lower(), folder)
        if twin != folder:
            raise SourceError(f"folders {twin!r} and {folder!r} name the same split; rename one")
