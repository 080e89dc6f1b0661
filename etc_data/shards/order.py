"""The order of an epoch: a function of the seed and the epoch alone, alike in every process."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from etc_data.shards.integers import to_integer

Indices = np.ndarray[Any, np.dtype[np.intp]]


@dataclass(frozen=True)
class Order:
    """Puts the samples of all shards in an order, without ever listing them all.

    Shuffled are the shards and the samples inside each; the samples of a shard stay together, so
    that whoever reads a range of the order opens few shards.

    Attributes:
        counts: how many samples each shard holds.
        shuffle: a new order every epoch; else always that of the shards.
        seed: of the orders, at least 0.
    """

    counts: tuple[int, ...]
    shuffle: bool
    seed: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", to_integer("seed", self.seed))
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; it must be at least 0")

    @cached_property
    def samples(self) -> int:
        """How many samples all shards hold."""
        return sum(self.counts)

    def pieces(self, epoch: int, positions: range) -> Iterator[tuple[int, Indices]]:
        """Yields the samples at some positions of an epoch's order, shard by shard.

        Args:
            epoch: at least 0.
            positions: consecutive; those from `samples` on are the order's beginning again.

        Yields:
            The number of a shard, and the numbers of its samples in their order.
        """
        if not positions:
            return
        random = np.random.default_rng((self.seed, epoch))
        number_of_shards = len(self.counts)
        shards = random.permutation(number_of_shards) if self.shuffle else np.arange(number_of_shards)
        # Drawn for all shards, also for those that others read: every process draws alike.
        inner_seeds = random.integers(2**63, size=number_of_shards)
        ends = np.cumsum(np.asarray(self.counts, dtype=np.int64)[shards])
        for first, end in self._stretches(positions):
            for place in range(int(np.searchsorted(ends, first, side="right")), number_of_shards):
                number = int(shards[place])
                start = int(ends[place]) - self.counts[number]
                if start >= end:
                    break
                inner = np.arange(self.counts[number])
                if self.shuffle:
                    inner = np.random.default_rng(inner_seeds[place]).permutation(inner)
                chosen = inner[max(0, first - start) : end - start]
                if len(chosen):
                    yield number, chosen

    def _stretches(self, positions: range) -> Iterator[tuple[int, int]]:
        """Splits positions where the order begins again."""
        first, rest = positions.start % self.samples, len(positions)
        while rest:
            end = min(first + rest, self.samples)
            yield first, end
            first, rest = 0, rest - (end - first)
