"""Value layout: where in a block each of its shuffled values was, from how they correlate.

The correlation of two values of a photo falls with their distance and between colors, much the same
everywhere in the block.  So the first eigenvectors of the shuffled values' correlations, their modes,
are smooth waves over the block: a constant one, whose signs are the polarities; then a slope down, a
slope across and a difference of colors, mixed.  These three do not depend on each other over the
values, which tells them apart (`independent_components`) and places every value roughly.  Then values
go, all at once by linear assignment, where they correlate most with what lies around, in ever smaller
circles.  What is still bent is straightened by matching values and places mode by mode, with the modes
that correlations would have if they followed from places alone.

The idea that correlations give the layout away: Le Roux et al., Learning the 2-D topology of images,
2007; sorting in circles: Barthel et al., Improved evaluation and generation of grid layouts, 2022;
matching by more and more modes: Melzi et al., ZoomOut, 2019.  This form is ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
import numpy.typing as npt

from etc_data.audit.assignment import assign
from etc_data.audit.independent_components import independent_components
from etc_data.keystream import BoolArray, IntArray

Matrix = npt.NDArray[np.float64]

FEW = 200  # values; their modes are too few to be matched, but all starts cost little
_MODES = 5  # eigenvectors after the constant one that may hold slopes and colors
_SETTLING = 3
_FIRST_RADIUS, _LAST_RADIUS, _SHRINKING = 0.375, 0.5, 0.85  # of the block, pixels, from step to step
_COLOR_STEP = 1.5  # pixels; so far away correlations have fallen as between red and green
_ROUNDS = 20
_MATCHED = ((20, 30, 40, 50), (30, 50, 70, 90))  # how many modes: the more, the finer and noisier


@dataclass(frozen=True)
class ValueLayout:
    """Where the values of a block were.

    Attributes:
        order: intp [V]; place j (raster order, components together) holds value ``order[j]``.
        negated: bool [V]; value i is negated (up to all of them).
    """

    order: IntArray
    negated: BoolArray


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
    block = _Block(block_size, colors)
    modes = _modes(correlations)
    sign = np.where(modes[:, 0] < 0, -1.0, 1.0)
    correlations = correlations * sign * sign[:, None]
    modes = modes * sign[:, None]
    starts = _starts(correlations, modes, block)
    orders = [_refined(correlations, modes, order, block) for order in starts]
    return ValueLayout(min(orders, key=lambda order: _misfit(correlations, order, block)), sign < 0)


@dataclass(frozen=True)
class _Block:
    """The places of a block.

    Attributes:
        size: pixels per side.
        colors: places of a pixel.
    """

    size: int
    colors: int

    @property
    def values(self) -> int:
        return self.size**2 * self.colors

    @property
    def few(self) -> bool:
        return self.values <= FEW


def _modes(correlations: Matrix) -> Matrix:
    """Returns the eigenvectors of correlations, the strongest first, [V, V]."""
    return np.asarray(np.linalg.eigh(correlations)[1][:, ::-1])


# -- where to start --------------------------------------------------------------------------------


def _starts(correlations: Matrix, modes: Matrix, block: _Block) -> list[IntArray]:
    """Returns rough orders to start from, the likeliest first."""
    axes = 3 if block.colors > 1 else 2
    ranked = [
        (_closeness(correlations, order, block), choice, order)
        for choice in combinations(range(1, modes.shape[1])[:_MODES], axes)
        for order in _rough_orders(independent_components(modes[:, choice]), block)
    ]
    ranked.sort(key=_rank, reverse=True)
    count = len(ranked) if block.few else 1
    return [_settled(modes[:, [0, *choice]], order, block) for _, choice, order in ranked[:count]]


def _rank(start: tuple[float, tuple[int, ...], IntArray]) -> float:
    return start[0]


def _rough_orders(components: Matrix, block: _Block) -> list[IntArray]:
    """Returns values sorted into rows, in rows into columns, in pixels by color.

    One order for each of the components, [V, 2 or 3], that may be the color.
    """
    axes = components.shape[1]
    if axes == 2:
        return [_sorted_order(components[:, 0], components[:, 1], components[:, 1], block)]
    orders = []
    for color in range(axes):
        down, across = (components[:, axis] for axis in range(axes) if axis != color)
        orders.append(_sorted_order(down, across, components[:, color], block))
    return orders


def _sorted_order(down: Matrix, across: Matrix, color: Matrix, block: _Block) -> IntArray:
    order = np.argsort(down, kind="stable")
    for keys, width in ((across, block.size * block.colors), (color, block.colors)):
        inner = keys[order].reshape(-1, width).argsort(axis=1, kind="stable")
        order = np.take_along_axis(order.reshape(-1, width), inner, axis=1).reshape(-1)
    return np.asarray(order)


def _settled(modes: Matrix, order: IntArray, block: _Block) -> IntArray:
    """Returns an order after moving values to where their few modes are nearest those of places."""
    waves = _first_waves(block)
    for _ in range(_SETTLING):
        order = _matched(modes, waves, order, [waves.shape[1]])
    return order


@lru_cache(maxsize=8)
def _first_waves(block: _Block) -> Matrix:
    """Returns the modes of an ideal block: constant, down, across and from color to color."""
    place, color = np.divmod(np.arange(block.values), block.colors)
    down, across = (np.cos(np.pi * (x + 0.5) / block.size) for x in np.divmod(place, block.size))
    waves = [np.ones(block.values), down, across]
    if block.colors > 1:
        waves.append(color - (block.colors - 1) / 2)
    return np.stack([wave / np.linalg.norm(wave) for wave in waves], axis=1)


def _closeness(correlations: Matrix, order: IntArray, block: _Block) -> float:
    """Returns the mean correlation of the values of one color in neighbor pixels."""
    order = order.reshape(block.size, block.size, block.colors)
    down, across = correlations[order[1:], order[:-1]], correlations[order[:, 1:], order[:, :-1]]
    return float(down.mean() + across.mean()) / 2


# -- from there on ---------------------------------------------------------------------------------


def _refined(correlations: Matrix, modes: Matrix, order: IntArray, block: _Block) -> IntArray:
    """Returns an order after moving all values at once, again and again, as long as neighbors gain."""
    order = _sorted_by_neighbors(correlations, order, block)
    closeness = _closeness(correlations, order, block)
    for counts in () if block.few else _MATCHED:
        for _ in range(_ROUNDS):
            moved = _matched(modes, _modes(_expected(correlations, order, block)), order, counts)
            gained = _closeness(correlations, moved, block)
            if gained <= closeness:
                break
            order, closeness = moved, gained
    return order


def _sorted_by_neighbors(correlations: Matrix, order: IntArray, block: _Block) -> IntArray:
    """Returns an order after putting values where they correlate most with all that lies around.

    What counts as around shrinks from step to step (linear assignment sorting).
    """
    radius = _FIRST_RADIUS * block.size
    while radius > _LAST_RADIUS:
        order = assign(_around(block, radius) @ correlations[order], maximize=True)
        radius *= _SHRINKING
    return order


def _around(block: _Block, radius: float) -> Matrix:
    """Returns how much each place counts around each, [V, V]: a Gaussian of `radius` in pixels."""
    place, color = np.divmod(np.arange(block.values), block.colors)
    y, x = np.divmod(place, block.size)
    points = np.stack([y, x, _COLOR_STEP * color], axis=1).astype(np.float64)
    distances = ((points[:, None] - points) ** 2).sum(axis=2)
    weights = np.exp(-distances / (2 * radius**2))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _matched(modes: Matrix, waves: Matrix, order: IntArray, counts: Sequence[int]) -> IntArray:
    """Returns an order after matching values to places by more and more modes.

    Args:
        modes: of the values, [V, M].
        waves: the modes of places, [V, M]; those of one strength may be mixed otherwise than `modes`,
            so that a rotation between the two is fitted to `order` first.
        order: to start from.
        counts: how many modes are compared, step by step.
    """
    for count in counts:
        left, _, right = np.linalg.svd(waves[:, :count].T @ modes[order, :count])
        order = assign(waves[:, :count] @ (left @ right) @ modes[:, :count].T, maximize=True)
    return order


def _misfit(correlations: Matrix, order: IntArray, block: _Block) -> float:
    """Returns how far correlations are from what places alone make of them."""
    difference = correlations[np.ix_(order, order)] - _expected(correlations, order, block)
    return float((difference**2).mean())


def _expected(correlations: Matrix, order: IntArray, block: _Block) -> Matrix:
    """Returns for all pairs of places the mean correlation of pairs of their kind, [V, V]."""
    kinds = _kinds(block)
    placed = correlations[np.ix_(order, order)]
    means = np.bincount(kinds, placed.reshape(-1)) / np.bincount(kinds)
    return np.asarray(means[kinds].reshape(placed.shape))


@lru_cache(maxsize=8)
def _kinds(block: _Block) -> IntArray:
    """Returns the kind of each pair of places, intp [V²]: distance down, across, and two colors."""
    place, color = np.divmod(np.arange(block.values), block.colors)
    down, across = (np.abs(x[:, None] - x) for x in np.divmod(place, block.size))
    first, second = np.minimum(color[:, None], color), np.maximum(color[:, None], color)
    kinds = ((down * block.size + across) * block.colors + first) * block.colors + second
    return np.asarray(np.unique(kinds, return_inverse=True)[1].reshape(-1))
