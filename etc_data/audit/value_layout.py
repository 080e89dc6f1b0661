"""Value layout: where in a block each of its shuffled values was, from how they correlate.

The correlation of two values of a photo falls with their distance and between colors, much the same
everywhere in the block.  So the first eigenvectors of the shuffled values' correlations are smooth
waves over the block: a constant one, whose signs are the polarities; a slope down, a slope across, and
a difference of colors, which together place every value roughly.  Then each value goes, all at once by
linear assignment, where its correlations with all others look most like those of that place, until none
moves.  The idea that correlations give the layout away: Le Roux et al., Learning the 2-D topology of
images, 2007.  This form is ours.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
import numpy.typing as npt

from etc_data.errors import EtcError
from etc_data.keystream import BoolArray, IntArray

Matrix = npt.NDArray[np.float64]

_MODES = 5  # eigenvectors after the constant one that may be a slope or a difference of colors
_TURNS = 6  # modes of equal strength mix, so that they are turned against each other by steps
_STARTS = 3
_FEW = 200  # with so few values, a hundred more turns and all starts cost little
_TURNS_OF_FEW = 100
_ROUNDS = 20


@dataclass(frozen=True)
class ValueLayout:
    """Where the values of a block were.

    Attributes:
        order: intp [V]; place j (raster order, components together) holds value ``order[j]``.
        negated: bool [V]; value i is negated (up to all of them).
        fit: how much of the correlations follows from places alone, up to 1.
    """

    order: IntArray
    negated: BoolArray
    fit: float


def correlate_values(samples: npt.NDArray[np.generic]) -> Matrix:
    """Returns the correlations of V values over samples, float [V, V]; 0 for one that never changes.

    Args:
        samples: [samples, V].
    """
    centered = samples - samples.mean(axis=0, dtype=np.float32)
    centered /= np.maximum(np.linalg.norm(centered, axis=0), np.float32(1e-6))
    return np.asarray(centered.T @ centered, np.float64)


def lay_out(correlations: Matrix, block_size: int, colors: int) -> ValueLayout:
    """Returns the layout that the correlations of a block's values tell.

    It is right up to the block's rotations and flips, one polarity and one order of the colors.

    Args:
        correlations: float [V, V] with V = block_size² · colors.
        block_size: pixels per side.
        colors: values of a pixel that were shuffled on their own: 3, or 1 where pixels stay whole.

    Raises:
        EtcError: SciPy is not installed.
    """
    modes = np.linalg.eigh(correlations)[1][:, ::-1][:, : _MODES + 1]
    sign = np.where(modes[:, 0] < 0, -1.0, 1.0)
    correlations = correlations * sign * sign[:, None]
    modes = modes[:, 1:] * sign[:, None]
    starts = _starts(correlations, modes, block_size, colors)
    refined = [_refine(correlations, order, block_size, colors) for order in starts]
    misfit, order = min(refined, key=lambda pair: pair[0])
    spread = float(correlations.var())
    return ValueLayout(order, sign < 0, 1 - misfit / spread if spread else 0.0)


def _starts(correlations: Matrix, modes: Matrix, block_size: int, colors: int) -> list[IntArray]:
    """Returns rough orders to start from, the best of each choice of modes, the likeliest first.

    Correlations in photos fall alike in all directions; a difference of colors taken for a slope shows.
    """
    few = len(correlations) <= _FEW
    rings, turns = _rings(block_size, colors), _turns(few)
    ranked = []
    for choice in _choices(modes.shape[1], colors):
        orders = _rough_orders(modes[:, choice] @ turns, block_size, colors)
        misfits = _misfits(correlations, orders, rings)
        best = int(misfits.argmin())
        ranked.append((float(misfits[best]), orders[best]))
    return [order for _, order in sorted(ranked, key=_first)[: len(ranked) if few else _STARTS]]


def _first(pair: tuple[float, IntArray]) -> float:
    return pair[0]


def _choices(modes: int, colors: int) -> list[list[int]]:
    """Returns every choice of two slopes and a difference of colors among the modes."""
    pairs = combinations(range(modes), 2)
    if colors == 1:
        return [[*pair, pair[0]] for pair in pairs]
    return [[*pair, color] for pair in pairs for color in range(modes) if color not in pair]


def _turns(few: bool) -> npt.NDArray[np.float64]:
    """Returns rotations [n, 3, 3] of the slopes against each other, for few values of all modes."""
    turns = []
    for angle in np.arange(_TURNS) * (np.pi / 2 / _TURNS):
        cosine, sine = np.cos(angle), np.sin(angle)
        turns.append(np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]]))
    if few:
        random = np.random.default_rng(0)
        turns += [np.linalg.qr(random.normal(size=(3, 3)))[0] for _ in range(_TURNS_OF_FEW)]
    return np.stack(turns)


def _rough_orders(modes: npt.NDArray[np.float64], block_size: int, colors: int) -> IntArray:
    """Returns for modes [n, V, 3] values sorted into rows, in rows into columns, in pixels by color."""
    down, across, color = np.moveaxis(modes, 2, 0)
    count = len(modes)
    order = np.argsort(down, axis=1, kind="stable")
    for keys, width in ((across, block_size * colors), (color, colors)):
        inner = np.take_along_axis(keys, order, axis=1).reshape(count, -1, width).argsort(kind="stable")
        order = np.take_along_axis(order.reshape(count, -1, width), inner, axis=2).reshape(count, -1)
    return np.asarray(order)


def _colors_of_pairs(block_size: int, colors: int) -> IntArray:
    color = np.arange(block_size**2 * colors) % colors
    low, high = np.minimum(color[:, None], color), np.maximum(color[:, None], color)
    return np.asarray(low * colors + high)


def _distances(block_size: int, colors: int) -> tuple[IntArray, IntArray]:
    y, x = np.divmod(np.arange(block_size**2 * colors) // colors, block_size)
    return np.abs(y[:, None] - y), np.abs(x[:, None] - x)


@lru_cache(maxsize=8)
def _kinds(block_size: int, colors: int) -> IntArray:
    """Returns the kind of each pair of places, intp [V²]: distance down, across, and two colors."""
    down, across = _distances(block_size, colors)
    kinds = (down * block_size + across) * colors**2 + _colors_of_pairs(block_size, colors)
    return np.asarray(np.unique(kinds, return_inverse=True)[1].reshape(-1))


@lru_cache(maxsize=8)
def _rings(block_size: int, colors: int) -> IntArray:
    """Returns the kind of each pair of places, intp [V²]: distance in any direction, and two colors."""
    distance = np.rint(np.hypot(*_distances(block_size, colors))).astype(np.intp)
    kinds = distance * colors**2 + _colors_of_pairs(block_size, colors)
    return np.asarray(np.unique(kinds, return_inverse=True)[1].reshape(-1))


def _expected(placed: Matrix, kinds: IntArray) -> Matrix:
    """Returns the mean correlation of each kind of pair, at all pairs of that kind."""
    means = np.bincount(kinds, placed.reshape(-1)) / np.bincount(kinds)
    return np.asarray(means[kinds].reshape(placed.shape))


def _misfits(correlations: Matrix, orders: IntArray, kinds: IntArray) -> npt.NDArray[np.float64]:
    """Returns for orders [n, V] the variance of correlations within the kinds of pairs, float [n]."""
    placed = correlations[orders[:, :, None], orders[:, None, :]].reshape(len(orders), -1)
    sums = np.stack([np.bincount(kinds, row) for row in placed])
    explained = (sums**2 / np.bincount(kinds)).sum(axis=1)
    return np.asarray(((placed**2).sum(axis=1) - explained) / placed.shape[1])


def _misfit(correlations: Matrix, order: IntArray, kinds: IntArray) -> float:
    return float(_misfits(correlations, order[None], kinds)[0])


def _refine(
    correlations: Matrix, order: IntArray, block_size: int, colors: int
) -> tuple[float, IntArray]:
    """Moves all values to the places they look like, until none moves; returns misfit and order.

    Each round maximizes the linear part of a quadratic assignment (Frank and Wolfe's step of length 1).
    """
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError:
        raise EtcError(
            "laying out shuffled values needs SciPy", "pip install etc-data[audit]"
        ) from None
    kinds = _kinds(block_size, colors)
    best = _misfit(correlations, order, kinds), order
    for _ in range(_ROUNDS):
        expected = _expected(correlations[np.ix_(order, order)], kinds)
        likeness = (expected - expected.mean(axis=0)) @ correlations[order]
        order = np.asarray(linear_sum_assignment(likeness, maximize=True)[1])
        misfit = _misfit(correlations, order, kinds)
        if misfit >= best[0]:
            break
        best = misfit, order
    return best
