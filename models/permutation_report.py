"""How close a trained `PermutationMatrix` came to a permutation, and to the one asked of it."""

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from etc_data.errors import EtcError, GeometryError

IntArray = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class PermutationReport:
    """A matrix U over N positions, measured.

    Attributes:
        order: intp [N]; the permutation matrix P nearest to U has P[i, order[i]] = 1.
        distance: ‖U − P‖, Frobenius; 0 where U is a permutation matrix.
        similarity: ⟨U, P⟩ / (‖U‖ √N), from −1 to 1; 1 where U is a positive multiple of P.
        row_entropy: mean over rows of the entropy of |U| / Σ|U|, in bits; 0 where each row has a single
            entry other than 0, log₂ N where it is flat.
        column_entropy: the same over columns.
        agreeing: positions i with order[i] = block_order[i]; None where `block_order` was not given.
        neighbors_kept: share, 0–1, of the pairs of plain blocks with a common edge that P puts side by
            side; None as above.  Unlike `agreeing` it is 1 also where P restores the image mirrored or
            turned, which serves a network as well.
    """

    order: IntArray
    distance: float
    similarity: float
    row_entropy: float
    column_entropy: float
    agreeing: int | None = None
    neighbors_kept: float | None = None

    def __str__(self) -> str:
        count = len(self.order)
        text = (
            f"{count} positions: distance {self.distance:.2f} to the nearest permutation, similarity "
            f"{self.similarity:.3f}, entropy {self.row_entropy:.2f} (rows) and "
            f"{self.column_entropy:.2f} (columns) of {math.log2(count):.2f} bits"
        )
        if self.agreeing is None or self.neighbors_kept is None:
            return text
        return f"{text}; {self.agreeing} positions agree, {self.neighbors_kept:.1%} of neighbors kept"


def report_permutation(
    matrix: torch.Tensor, block_order: IntArray | None = None, *, grid: tuple[int, int] | None = None
) -> PermutationReport:
    """Returns how close `matrix` is to a permutation and, given the key's, to undoing that one.

    Args:
        matrix: U, floating [N, N], of a `PermutationMatrix`; on any device.
        block_order: int [N]; encrypted position i shows plain block ``block_order[i]``.  For
            experiments, where the key is at hand: ``cipher.plan(height, width).tile_order`` of a scheme
            whose blocks are the patches.
        grid: (rows, columns) of the patches; a square unless given.

    Raises:
        EtcError: scipy, which finds the nearest permutation, is missing.
        GeometryError: the shapes do not fit one another.

    >>> order = np.array([2, 0, 3, 1])
    >>> print(report_permutation(torch.eye(4)[order], order))
    4 positions: distance 0.00 to the nearest permutation, similarity 1.000, entropy 0.00 (rows) and
    0.00 (columns) of 2.00 bits; 4 positions agree, 100.0% of neighbors kept
    """
    U = matrix.detach().double().cpu().numpy()
    count = len(U)
    if U.shape != (count, count):
        raise GeometryError(
            f"a permutation matrix is square, this one is {'×'.join(map(str, U.shape))}"
        )
    order = _nearest_permutation(U)
    inner = float(U[np.arange(count), order].sum())
    norm = float(np.linalg.norm(U))
    measured = PermutationReport(
        order=order,
        distance=math.sqrt(max(0.0, norm**2 + count - 2 * inner)),
        similarity=inner / (norm * math.sqrt(count)) if norm else 0.0,
        row_entropy=_mean_entropy(U),
        column_entropy=_mean_entropy(U.T),
    )
    if block_order is None:
        return measured
    rows, columns = grid or (math.isqrt(count), math.isqrt(count))
    if len(block_order) != count or rows * columns != count:
        raise GeometryError(
            f"a matrix of {count} positions does not fit {len(block_order)} blocks on a grid of "
            f"{rows}×{columns}"
        )
    return replace(
        measured,
        agreeing=int(np.sum(order == block_order)),
        neighbors_kept=_neighbors_kept(order, block_order, columns),
    )


def _nearest_permutation(U: npt.NDArray[np.float64]) -> IntArray:
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError:
        raise EtcError(
            "the report on a permutation matrix needs scipy", "pip install 'etc-data[audit]'"
        ) from None
    order: IntArray = linear_sum_assignment(U, maximize=True)[1]
    return order


def _mean_entropy(U: npt.NDArray[np.float64]) -> float:
    """Returns the mean entropy of the rows in bits; a row of zeros counts as flat."""
    total = np.abs(U).sum(1, keepdims=True)
    share = np.divide(np.abs(U), total, out=np.full_like(U, 1 / len(U)), where=total > 0)
    logarithm = np.log2(share, out=np.zeros_like(share), where=share > 0)
    return float(-(share * logarithm).sum(1).mean()) + 0.0


def _neighbors_kept(order: IntArray, block_order: IntArray, columns: int) -> float:
    place_of_block = np.empty_like(order)
    place_of_block[block_order] = order
    places = np.stack(np.divmod(place_of_block.reshape(-1, columns), columns))
    apart = [np.abs(np.diff(places, axis=axis)).sum(0).ravel() for axis in (1, 2)]
    return float(np.mean(np.concatenate(apart) == 1))
