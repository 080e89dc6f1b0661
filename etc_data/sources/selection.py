"""A part of a source: some of its splits, and of each at most so many items, evenly spread."""

from collections.abc import Iterable, Sequence

from etc_data.errors import SourceError
from etc_data.sources.item import Item, LazyItems, Source, Stray

_GOLDEN = 0x9E3779B97F4A7C15  # 2^64 divided by the golden ratio


class Selection:
    """Reads a part of another source as a `Source`; its class names stay those of the whole.

    Args:
        source: any source.
        splits: the names of the splits to keep, in the source's order; None keeps all.
        limit: the most items to take of each split; None takes all. See `spread`.

    Raises:
        SourceError: a split does not exist.
        ValueError: `limit` is less than 1, or no split is named.
    """

    def __init__(
        self, source: Source, *, splits: Iterable[str] | None = None, limit: int | None = None
    ) -> None:
        chosen = set(source.splits if splits is None else splits)
        if not chosen:
            raise ValueError("no split is named")
        if limit is not None and limit < 1:
            raise ValueError(f"limit is {limit}; it must be at least 1")
        for split in sorted(chosen.difference(source.splits)):
            raise SourceError(f"split {split!r} does not exist; there are {', '.join(source.splits)}")
        self._source = source
        self._limit = limit
        self.root: str | None = getattr(source, "root", None)
        self.splits = tuple(split for split in source.splits if split in chosen)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes by label, those without an item in the selection included."""
        return self._source.class_names

    @property
    def strays(self) -> tuple[Stray, ...]:
        """What the whole source did not take; what the selection leaves out is no stray."""
        return self._source.strays

    def items(self, split: str) -> Sequence[Item]:
        """Returns the selected items of a split, in the source's order.

        Raises:
            SourceError: there is no such split.
        """
        if split not in self.splits:
            raise SourceError(f"split {split!r} does not exist; there are {', '.join(self.splits)}")
        items = self._source.items(split)
        if self._limit is None or len(items) <= self._limit:
            return items
        return LazyItems(spread(len(items), self._limit), items.__getitem__)


def spread(count: int, limit: int) -> tuple[int, ...]:
    """Returns `limit` ascending numbers below `count`, spread evenly and always the same.

    One number is taken from each of `limit` equal stretches, so that items sorted by class are
    taken from every class in proportion. Where in its stretch it lies follows the multiples of the
    golden ratio, not a fixed step: that would always meet the same class if classes take turns.

    Args:
        count: of all items.
        limit: from 1 to `count`.

    Examples:
        >>> spread(100, 5), spread(3, 3)
        ((0, 32, 44, 77, 89), (0, 1, 2))
    """
    borders = [number * count // limit for number in range(limit + 1)]
    return tuple(
        border + ((number * _GOLDEN % 2**64) * (borders[number + 1] - border) >> 64)
        for number, border in enumerate(borders[:-1])
    )
