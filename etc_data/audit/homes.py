"""Homes: which tiles a scheme leaves inside which block, and what that rules out.

Where sub-blocks are scrambled inside their block only, or not at all, whoever assembles tiles knows for
each the few cells that it can lie in.
"""

from dataclasses import dataclass

import numpy as np

from etc_data.audit.orientations import ORIENTATIONS, turn_positions
from etc_data.keystream import BoolArray, IntArray


@dataclass(frozen=True)
class Homes:
    """The block that each tile lies in, which is the same in the plain image.

    Attributes:
        block: intp [tiles, 2], the block's row and column.
        span: tiles per side of a block; 1 where tiles stay in their cell.
    """

    block: IntArray
    span: int

    @classmethod
    def of(cls, rows: int, columns: int, span: int) -> "Homes":
        """Returns the homes of a grid of rows × columns tiles in raster order."""
        cells = np.stack(np.divmod(np.arange(rows * columns), columns), axis=1)
        return cls(cells // span, span)

    def touching(self) -> BoolArray:
        """Returns which pairs of tiles lie in one block or in neighbor blocks, bool [tiles, tiles]."""
        return np.asarray(np.abs(self.block[:, None] - self.block).sum(axis=-1) <= 1)

    def at_home_in(self, cell: int) -> BoolArray:
        """Returns which tiles may lie in a cell, given by its raster number, bool [tiles]."""
        return np.asarray((self.block == self.block[cell]).all(axis=1))

    def offsets(self, members: IntArray, positions: IntArray) -> list[tuple[int, IntArray]]:
        """Returns how a rigid group of tiles can be set into the grid with every tile at home.

        Args:
            members: intp [n], the tiles.
            positions: intp [n, 2], where they lie in the group.

        Returns:
            Pairs of an orientation of the group, and the least (row, column) to add to its turned
            positions; one more row or column may do too, as long as every tile stays at home.
        """
        found = []
        corner = self.block[members] * self.span
        for turn in range(ORIENTATIONS):
            least = corner - turn_positions(positions, turn)
            low = least.max(axis=0)
            if (low <= least.min(axis=0) + self.span - 1).all():
                found.append((turn, low))
        return found
