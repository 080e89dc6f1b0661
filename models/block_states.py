"""Groups of block states: the rotations, flips and negations that a block may have gone through.

EtC puts every block into one of 8 orientations × 2 polarities × 6 color orders.  Here are the groups of
orientations and polarities, as they act on square kernels; `color_planes` deals with the color orders.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from etc_data.keystream import IntArray
from etc_data.states import COLORS, orientation_states

ORIENTATIONS, POLARITIES = 8, 2


@dataclass(frozen=True)
class StateGroup:
    """A group of G block states: element g turns by orientation ``g // P`` and negates if ``g % P``.

    Attributes:
        orientations: how many, 8 or 1 (the upright one); numbered as in `states.orientation_states`.
        polarities: P, how many, 2 or 1 (the positive one).

    Example:
        >>> len(StateGroup()), len(StateGroup(orientations=1, polarities=1))
        (16, 1)
    """

    orientations: int = ORIENTATIONS
    polarities: int = POLARITIES

    def __len__(self) -> int:
        return self.orientations * self.polarities

    @property
    def signs(self) -> npt.NDArray[np.float32]:
        """What each element multiplies a value by that is centered at 0: float32 [G], 1 or −1."""
        return np.tile(np.array([1, -1], np.float32)[: self.polarities], self.orientations)

    def kernel_rows(self, kernel_size: int) -> IntArray:
        """Returns how each element turns a square kernel: ``turned = kernel[..., rows[g]]``.

        Args:
            kernel_size: K, in pixels.

        Returns:
            intp [G, K²], for kernels of K × K weights flattened in raster order.
        """
        pixels = orientation_states(kernel_size).rows[: self.orientations, ::COLORS] // COLORS
        return np.repeat(pixels, self.polarities, axis=0).astype(np.intp)

    def relative(self) -> IntArray:
        """Returns the number of g⁻¹h for all pairs of elements, intp [G, G]."""
        rows = self.kernel_rows(2)
        turn_number = {row.tobytes(): code for code, row in enumerate(rows[:: self.polarities])}
        table = np.empty((len(self), len(self)), np.intp)
        for g, h in np.ndindex(table.shape):
            turned = rows[h][np.argsort(rows[g])]  # turned by h, then back by g
            table[g, h] = turn_number[turned.tobytes()] * self.polarities + (g ^ h) % self.polarities
        return table
