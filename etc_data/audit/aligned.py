"""Aligned tiles: they share one state, so that only their arrangement is left to find.

A common rotation, polarity and color order of all tiles is one of the whole picture, once the tiles are
arranged.  So lines are compared as they are, top to bottom and left to right, instead of in 96 states.
Several images of one layout are compared together, by the geometric mean of a join's costs: a join is
good where it is good in most images, and how bad it is in one of them hardly matters.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from etc_data.audit.compatibility import Partners, costs_as_they_lie
from etc_data.audit.edges import Floats
from etc_data.audit.evidence import Bytes
from etc_data.audit.orientations import OPPOSITE, SIDES
from etc_data.keystream import BoolArray, IntArray

Closeness = npt.NDArray[np.floating]

_LEAST_COST = 10.0  # what is cheaper yet, as between two flat tiles, says no more
_WORTH = 0.25  # of closeness beside the logarithm of a cost: photos were arranged best with 0.1 to 0.5


@dataclass(frozen=True)
class AlignedTiles:
    """What joins cost of tiles that share one state.

    Attributes:
        costs: float32 [4 · tiles, tiles], of each tile beyond each edge line, infinite for the line's
            own tile.  Line 4·i + side belongs to tile i in raster order; sides as in `orientations`.
    """

    costs: Floats

    @classmethod
    def of(cls, images: Bytes, tile: int, noise: float) -> "AlignedTiles":
        """Returns the tiles of images that have one layout.

        Args:
            images: uint8 [n, H, W, 3].
            tile: pixels per side, at least 2.
            noise: in levels², see `compatibility`.
        """
        total = np.float32(0)
        for image in images:
            total = total + np.log(_LEAST_COST + costs_as_they_lie(image, tile, noise))
        mean = np.exp(total / np.float32(len(images))) - np.float32(_LEAST_COST)
        below, beside = np.maximum(mean, 0)
        costs = np.stack([below.T, below, beside.T, beside], axis=1)
        own = np.arange(len(below))
        costs[own, :, own] = np.inf
        return cls(costs.reshape(-1, len(own)))

    def drawn_together(self, closeness: Closeness) -> "AlignedTiles":
        """Returns the tiles with what else tells neighbors: joins of close tiles cost less.

        How much less is read off the tiles themselves: the closer the cheapest joins bring them, by so
        much more closeness counts.  Where it has nothing to do with the layout, it counts nothing.

        Args:
            closeness: [tiles, tiles], of mean 0 and variance 1 over all pairs of tiles.
        """
        of_lines = closeness.repeat(SIDES, axis=0)
        cheapest = of_lines[np.arange(len(of_lines)), self.costs.argmin(axis=1)]
        told = max(float(cheapest.mean()), 0.0)
        return AlignedTiles(np.asarray(self.costs * np.exp(-_WORTH * told * of_lines), np.float32))

    def kept_to(self, allowed: BoolArray) -> "AlignedTiles":
        """Returns the tiles with joins of allowed pairs only, bool [tiles, tiles]."""
        return AlignedTiles(np.where(allowed.repeat(SIDES, axis=0), self.costs, np.float32(np.inf)))

    def best_partners(self, count: int) -> Partners:
        """Returns the up to `count` cheapest joins of each line."""
        tiles = np.argsort(self.costs, axis=1, kind="stable")[:, :count]
        side = OPPOSITE[np.arange(len(tiles)) % SIDES]
        other = SIDES * tiles + side[:, None]
        cost = np.take_along_axis(self.costs, tiles, axis=1)
        return Partners(other, np.zeros(other.shape, np.bool_), np.zeros_like(other), cost)

    def fit(self, line: int, others: IntArray) -> Floats:
        """Returns what joining each of `others` to a line spares, float32 [2, 1, others]; see `Fit`."""
        tiles, sides = np.divmod(others, SIDES)
        spared = np.where(sides == OPPOSITE[line % SIDES], -self.costs[line, tiles], -np.inf)
        return np.stack([spared, np.full_like(spared, -np.inf)])[:, None]
