"""Visible joins: how much of an assembled picture goes on as it should, as far as an eye can tell.

Counting true joins is too strict for the eye: a block of sky in the place of another, or turned, joins
wrongly and spoils nothing.  So a join of two tiles counts where one of them looks like what goes on
beyond the other in the plain picture; and it counts as much as there is to see in the two.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from etc_data.audit.evidence import Bytes
from etc_data.keystream import BoolArray, IntArray

Floats = npt.NDArray[np.float32]

_ALIKE = 6.0  # levels; tiles that differ less on the mean look the same,
_OF_SEEN = 0.5  # unless it is more than this share of what is to be seen: a star is no empty sky
_LEFT, _RIGHT, _UPPER, _LOWER = np.s_[:, :-1], np.s_[:, 1:], np.s_[:-1], np.s_[1:]


def visible_joins(plain: Bytes, index: IntArray, negated: BoolArray, tile: int) -> float:
    """Returns the share of what is to be seen around joins that goes on as in the plain picture.

    A join counts as much as the gray values of its two tiles vary, by their standard deviation.  It is
    1 where there are no joins, and 0 where nothing is to be seen around them.

    Args:
        plain: uint8 [H, W, 3].
        index: intp [values]; value j of the assembled picture is value ``index[j]`` of the plain one,
            numbered by row, column and component.
        negated: bool [values]; or its negative.
        tile: pixels per side of the tiles, which moved whole; at least 2.
    """
    tiles = _Tiles.of(plain, index, negated, tile)
    right, weight = [], []
    for one, other, step in ((_LEFT, _RIGHT, (0, tile)), (_UPPER, _LOWER, (tile, 0))):
        gray = np.stack([tiles.shown[one], tiles.shown[other]]).mean(axis=-1)
        seen = gray.std(axis=(0, 3, 4))
        back = (-step[0], -step[1])
        alike = _alike(tiles.differ(plain, one, step, other), seen)
        alike |= _alike(tiles.differ(plain, other, back, one), seen)
        right.append(alike.reshape(-1))
        weight.append(seen.reshape(-1))
    weights = np.concatenate(weight)
    if not len(weights):
        return 1.0
    total = float(weights.sum())
    return float(weights[np.concatenate(right)].sum()) / total if total else 0.0


def _alike(difference: Floats, seen: Floats) -> BoolArray:
    mean_square = (difference**2).mean(axis=(2, 3, 4))
    little = difference.mean(axis=(2, 3, 4)) <= _ALIKE
    return np.asarray(little & (mean_square <= (_OF_SEEN * seen) ** 2))


@dataclass(frozen=True)
class _Tiles:
    """The tiles of an assembled picture [rows, columns, …], and the frame of each in the plain one.

    Attributes:
        shown: float32 [..., tile, tile, 3], what they show.
        corner: intp [..., 2], the row and column that its first pixel comes from.
        down: intp [..., 2], the step there to its next row; likewise `across`, to its next column.
        across: see `down`.
        colors: intp [..., 3], the component that each of its components comes from.
        negated: bool [...].
    """

    shown: Floats
    corner: IntArray
    down: IntArray
    across: IntArray
    colors: IntArray
    negated: BoolArray

    @classmethod
    def of(cls, plain: Bytes, index: IntArray, negated: BoolArray, tile: int) -> "_Tiles":
        height, width = plain.shape[:2]
        values = plain.reshape(-1)[index]
        picture = np.where(negated, 255 - values, values).astype(np.float32)
        shown = picture.reshape(height // tile, tile, width // tile, tile, 3).swapaxes(1, 2)
        source = index.reshape(plain.shape)
        place = np.stack(np.divmod(source[..., 0] // 3, width), axis=-1)
        corner = place[::tile, ::tile]
        return cls(
            shown,
            corner,
            place[1::tile, ::tile] - corner,
            place[::tile, 1::tile] - corner,
            source[::tile, ::tile] % 3,
            negated.reshape(plain.shape)[::tile, ::tile, 0],
        )

    def differ(self, plain: Bytes, of: Any, step: tuple[int, int], others: Any) -> Floats:
        """Returns the |levels| between `others` and what lies a step beyond tiles; 255 if nothing does.

        Args:
            plain: the picture.
            of: which tiles; likewise `others`.
            step: pixels down and across, as the tile lies.
            others: see `of`.
        """
        down, across = np.indices(self.shown.shape[2:4])[..., None]
        corner, by_row, by_column = (
            each[of][:, :, None, None] for each in (self.corner, self.down, self.across)
        )
        place = corner + by_row * (down + step[0]) + by_column * (across + step[1])
        inside = ((place >= 0) & (place < plain.shape[:2])).all(axis=(2, 3, 4))
        y, x = np.moveaxis(np.where(inside[..., None, None, None], place, 0), -1, 0)
        beyond = plain[y[..., None], x[..., None], self.colors[of][:, :, None, None]].astype(np.float32)
        negated = self.negated[of][:, :, None, None, None]
        beyond = np.where(negated, 255 - beyond, beyond)
        difference: Floats = np.abs(beyond - self.shown[others])
        return np.where(inside[..., None, None, None], difference, np.float32(255))
