"""What every source of plain images offers: its splits, its class names, and lazy items."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, overload

from etc_data.errors import UnreadableImageError


@dataclass(frozen=True, slots=True)
class Item:
    """One plain image that has not been read yet; small, and made to be sent to a worker.

    Attributes:
        id: stable and unique in its source, printable; for the owner's eyes only, since it tells
            the source's name, such as a relative path with "/".
        label: index into the source's `class_names`; -1 for none.
        reader: returns the file's bytes; picklable.
    """

    id: str
    label: int
    reader: Callable[[], bytes] = field(repr=False)

    def read(self) -> bytes:
        """Returns the bytes of the image file, as stored.

        Raises:
            UnreadableImageError: the file cannot be read any more.
        """
        return self.reader()


@dataclass(frozen=True, slots=True)
class LazyItems(Sequence[Item]):
    """Items that are made as they are asked for.

    Attributes:
        rows: what tells the items apart, such as a number or a name for each, in order; often a range.
        make: returns the item of a row; picklable.
    """

    rows: Sequence[Any] = field(repr=False)
    make: Callable[[Any], Item] = field(repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | Sequence[Item]:
        if isinstance(index, slice):
            return LazyItems(self.rows[index], self.make)
        return self.make(self.rows[index])


@dataclass(frozen=True, slots=True)
class Stray:
    """Something that was found in a source and not taken.

    Attributes:
        id: as an item's id; a folder has one too.
        reason: why it was not taken, to follow the id in a message.
    """

    id: str
    reason: str


class Source(Protocol):
    """Plain images in splits, in an order that depends on their names only."""

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits, such as "train" and "val"."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes by label, one list for all splits; empty without labels."""

    @property
    def strays(self) -> tuple[Stray, ...]:
        """What was found and not taken."""

    def items(self, split: str) -> Sequence[Item]:
        """Returns the items of a split, in stable order."""


def read_file(path: str | os.PathLike[str]) -> bytes:
    """Returns the bytes of a file.

    Raises:
        UnreadableImageError: the file cannot be read; the message does not tell its path.
    """
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UnreadableImageError(f"the file cannot be read: {reason}") from error
