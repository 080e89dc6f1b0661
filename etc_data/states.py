"""Block states: the signed permutations of the values inside one tile.

A tile of h × w pixels with 3 color components has L = 3·h·w values, numbered in raster order with
the components of a pixel together: value (y, x, c) is number (y·w + x)·3 + c.  A state is an int32
row of L entries: entry ``v ≥ 0`` takes value v, entry ``v < 0`` takes value ``~v`` and negates it.
So ``~`` negates an entry just as it negates an 8-bit value (255 − x), and joining two states is one
gather and one exclusive-or.

Over 4-bit halves (LE, ELE) a tile has 2L values: first the low halves, then the high ones.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations

import numpy as np
import numpy.typing as npt

COLORS = 3

SignedRows = npt.NDArray[np.int32]

# Out component c takes component COLOR_ORDERS[code][c]: RGB, RBG, GRB, GBR, BRG, BGR.
COLOR_ORDERS = tuple(permutations(range(COLORS)))


@dataclass(frozen=True, eq=False)
class StateTable:
    """T states of a tile: `rows` is int32 [T, L].  A shared table is the same for every key."""

    rows: SignedRows
    shared: bool = False

    def __post_init__(self) -> None:
        self.rows.flags.writeable = False

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def values(self) -> int:
        """L, the number of values in a tile."""
        return int(self.rows.shape[1])

    def __repr__(self) -> str:
        return f"StateTable({len(self)} states of {self.values} values)"


def taken_values(rows: SignedRows) -> SignedRows:
    """Returns which value each entry takes, without the signs."""
    return rows ^ (rows >> 31)


def join_rows(second: SignedRows, first: SignedRows) -> SignedRows:
    """Returns the rows that act as `first`, then `second`; both int32 [T, L], row by row."""
    taken: SignedRows = np.take_along_axis(first, taken_values(second), axis=1)
    return taken ^ (second >> 31)


def invert_rows(rows: SignedRows) -> SignedRows:
    """Returns the rows that undo the given ones."""
    inverse = np.empty_like(rows)
    own_number = np.arange(rows.shape[1], dtype=np.int32) ^ (rows >> 31)
    np.put_along_axis(inverse, taken_values(rows), own_number, axis=1)
    return inverse


@lru_cache(maxsize=64)
def join_shared(second: StateTable, first: StateTable) -> StateTable:
    """Returns all T₂·T₁ joined states of two shared tables; row number is ``s₂·T₁ + s₁``."""
    rows = join_rows(np.repeat(second.rows, len(first), axis=0), np.tile(first.rows, (len(second), 1)))
    return StateTable(rows, shared=True)


@lru_cache(maxsize=64)
def invert_shared(table: StateTable) -> StateTable:
    """Returns the inverse of each state of a shared table."""
    return StateTable(invert_rows(table.rows), shared=True)


@lru_cache(maxsize=32)
def identity_states(height: int, width: int) -> StateTable:
    """Returns the one state that leaves a tile as it is."""
    return StateTable(_numbers(height, width).reshape(1, -1), shared=True)


@lru_cache(maxsize=32)
def orientation_states(size: int) -> StateTable:
    """Returns the 8 rotations and flips of a square tile (lin2024 Fig. 5).

    Code ``4·t + 2·v + h``: transpose if t, then flip upside down if v, then left–right if h.
    """
    numbers = _numbers(size, size)
    rows = []
    for code in range(8):
        tile = numbers.transpose(1, 0, 2) if code & 4 else numbers
        tile = tile[::-1] if code & 2 else tile
        tile = tile[:, ::-1] if code & 1 else tile
        rows.append(tile.reshape(-1))
    return StateTable(np.stack(rows), shared=True)


@lru_cache(maxsize=32)
def polarity_states(size: int) -> StateTable:
    """Returns the 2 polarities of a square tile: as it is, and negated (maungmaung2022 eq. 1)."""
    numbers = _numbers(size, size).reshape(-1)
    return StateTable(np.stack([numbers, ~numbers]), shared=True)


@lru_cache(maxsize=32)
def color_states(size: int) -> StateTable:
    """Returns the 6 orders of the color components of a square tile (lin2024 Fig. 7)."""
    numbers = _numbers(size, size)
    return StateTable(
        np.stack([numbers[:, :, order].reshape(-1) for order in COLOR_ORDERS]), shared=True
    )


@lru_cache(maxsize=8)
def sign_states(values: int) -> StateTable:
    """Returns all 2^L sign patterns of a tile of L ≤ 8 values; bit i of the code negates value i."""
    codes = np.arange(2**values, dtype=np.int32)[:, None]
    numbers = np.arange(values, dtype=np.int32)
    return StateTable(numbers ^ -(codes >> numbers & 1), shared=True)


def _numbers(height: int, width: int) -> SignedRows:
    return np.arange(height * width * COLORS, dtype=np.int32).reshape(height, width, COLORS)
