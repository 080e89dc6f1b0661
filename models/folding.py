"""A signed permutation of normalized values, folded into the weights that multiply them.

A model sees (x − mean)/std.  A value that moves to a slot of another color component, or is negated
(x → 1 − x), is an affine function of what its new slot shows: z = scale·ŷ + offset.  So the weights
of a patch embedding absorb any key under any normalization: Ŵ_l = W_{π(l)}·scale_l, and the offsets
go into the bias (lin2024 eq. 10; iijima eq. 8, where mean = std = 0.5 and every offset is 0).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from etc_data.errors import ModelError
from etc_data.keystream import BoolArray, IntArray
from etc_data.states import COLORS

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Normalization:
    """What a model's input is made of pixels by: (x − mean)/std per color component, x in [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, mean: Any, std: Any) -> "Normalization":
        """Returns the normalization of three means and three standard deviations.

        Raises:
            ModelError: they are not three finite numbers each, or a deviation is not above 0.
        """
        try:
            mean, std = np.asarray(mean, np.float64), np.asarray(std, np.float64)
            good = mean.shape == std.shape == (COLORS,)
            good = good and bool(np.isfinite([mean, std]).all() and (std > 0).all())
        except (TypeError, ValueError):
            good = False
        if not good:
            raise ModelError(
                f"the normalization is mean {mean!r}, std {std!r}; it must be three numbers each, and "
                "std above 0",
                "values for pixels in [0, 1], such as mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)",
            )
        return cls(tuple(mean.tolist()), tuple(std.tolist()))

    def undoing(
        self, shown: IntArray, wanted: IntArray, negated: BoolArray
    ) -> tuple[FloatArray, FloatArray]:
        """Returns `scale` and `offset` that make a plain normalized value of an encrypted one.

        Args:
            shown: the color component in whose slot the value stands and is normalized.
            wanted: the component it belongs to; likewise `negated`, arrays of one shape.
            negated: whether it was negated.
        """
        mean, std = np.array(self.mean), np.array(self.std)
        sign = 1.0 - 2.0 * negated
        scale = sign * (std[shown] / std[wanted])
        offset = (sign * mean[shown] + negated - mean[wanted]) / std[wanted]
        return scale, offset


@dataclass(frozen=True)
class Fold:
    """The key of one patch, ready to be folded into a matrix.

    Attributes:
        order: intp [L]; encrypted slot l holds plain slot ``order[l]``.
        scale: float64 [L].
        offset: float64 [L].
    """

    order: IntArray
    scale: FloatArray
    offset: FloatArray

    @classmethod
    def of(
        cls, order: IntArray, negated: BoolArray, colors: IntArray, normalization: Normalization
    ) -> "Fold":
        """Returns the fold of one row of `PatchKeys`; `colors` is the component of each slot."""
        return cls(order, *normalization.undoing(colors, colors[order], negated))

    def fold(self, weight: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Returns the encrypted matrix float64 [D, L], and what is added to the bias, [D]."""
        moved = weight[:, self.order]
        return moved * self.scale, moved @ self.offset

    def unfold(self, weight: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Returns the plain matrix of an encrypted one, and what was added to the bias."""
        moved = weight / self.scale
        plain = np.empty_like(moved)
        plain[:, self.order] = moved
        return plain, moved @ self.offset
