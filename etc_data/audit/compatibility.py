"""Compatibility of edge lines: how well a tile goes on past its edge in another tile, in any state.

Mahalanobis gradient compatibility (Gallagher, Jigsaw puzzles with pieces of unknown orientation, 2012).
For a line L with the line L′ one pixel further in, G = L − L′ are the gradients toward the edge, with
mean μ and covariance Σ over the line's pixels.  A line X beyond the edge should go on like that:

    D(L → X) = Σ_pixels (x − l − μ)ᵀ (Σ + εI)⁻¹ (x − l − μ)        cost = D(L → X) + D(X → L)

Here X may be read forward or backward and in any of the 12 tones (polarity × color order); with the
four sides of two tiles that is all of their 8 × 2 × 6 relative states.  Written out, D is a product of
numbers that belong to L alone and numbers that belong to X alone, so that one matrix product gives the
costs of all pairs.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from etc_data.audit.edges import Floats, line_pixels
from etc_data.audit.evidence import Bytes
from etc_data.audit.orientations import SIDES
from etc_data.audit.tones import ORDERS, SIGNS, TONES
from etc_data.keystream import IntArray
from etc_data.states import COLORS

EXACT_NOISE = 1.0  # ε in levels²; what rounding to bytes adds to gradients, and a little more
CODED_NOISE = 10.0  # what JPEG adds at qualities of 85 to 95

_TOP, _BOTTOM, _LEFT, _RIGHT = range(SIDES)
_DIRECTIONS = 2
_MIDDLE_GRAY = 127.5
_LINES_AT_ONCE = 128


class Partners(NamedTuple):
    """The cheapest joins of each line, the cheapest first; all [lines, count].

    Attributes:
        other: intp, the line that continues this one.
        backward: bool, whether it is read backward.
        tone: intp, the tone in which it continues this line as it is.
        cost: float32, of the join.
    """

    other: IntArray
    backward: npt.NDArray[np.bool_]
    tone: IntArray
    cost: Floats


@dataclass(frozen=True)
class Compatibility:
    """The costs of all joins of the edge lines of one image's tiles.

    Line 4·i + side belongs to tile i in raster order; sides as in `orientations`.

    Attributes:
        left: float32 [lines, features]; a join costs the product of the features of its two lines.
        right: float32 [lines, 2, 12, features], of each line read forward and backward, in each tone.
        tile_of: intp [lines].
    """

    left: Floats
    right: Floats
    tile_of: IntArray

    @classmethod
    def of(cls, image: Bytes, tile: int, noise: float = EXACT_NOISE) -> "Compatibility":
        """Returns the compatibilities within one image.

        Args:
            image: uint8 [H, W, 3].
            tile: pixels per side, at least 2.
            noise: ε, in levels².
        """
        lines = _edge_and_inner_lines(image, tile)
        model, observed = _features(lines, noise)
        left = np.concatenate([model, observed], axis=1)
        right = np.empty((len(left), _DIRECTIONS, TONES, left.shape[1]), np.float32)
        for backward, read in enumerate((lines, lines[:, :, ::-1])):
            for tone, (order, sign) in enumerate(zip(ORDERS, SIGNS, strict=True)):
                model, observed = _features(read[..., order] * np.float32(sign), noise)
                right[:, backward, tone] = np.concatenate([observed, model], axis=1)
        return cls(left, right, np.arange(len(left)) // SIDES)

    def costs(self, lines: IntArray, others: IntArray) -> Floats:
        """Returns the costs of joining each of `lines` to each of `others`.

        Args:
            lines: intp [m].
            others: intp [n].

        Returns:
            float32 [m, n, 2, 12]: by whether the other is read backward, and by its tone.
        """
        right = self.right[others].reshape(-1, self.left.shape[1])
        costs: Floats = self.left[lines] @ right.T
        return np.maximum(costs, 0, out=costs).reshape(len(lines), -1, _DIRECTIONS, TONES)

    def best_partners(self, count: int, allowed: npt.NDArray[np.bool_] | None = None) -> Partners:
        """Returns the `count` cheapest joins of each line to lines of other tiles.

        Args:
            count: how many.
            allowed: bool [tiles, tiles], the pairs of tiles that can be neighbors at all, None for
                any.  Where there are fewer joins than `count`, the rest cost infinitely much.
        """
        parts = []
        for start in range(0, len(self.left), _LINES_AT_ONCE):
            part = slice(start, start + _LINES_AT_ONCE)
            costs = self.left[part] @ self.right.reshape(-1, self.left.shape[1]).T
            costs = np.maximum(costs, 0, out=costs).reshape(len(costs), -1, _DIRECTIONS * TONES)
            cheapest = costs.min(axis=2)
            barred = self.tile_of[part, None] == self.tile_of
            if allowed is not None:
                barred |= ~allowed[self.tile_of[part]][:, self.tile_of]
            cheapest[barred] = np.inf
            # The cheapest joins are among those to the lines whose best join is cheapest.
            others = np.argpartition(cheapest, count - 1, axis=1)[:, :count]
            flat = np.take_along_axis(costs, others[..., None], axis=1)
            flat[np.isinf(np.take_along_axis(cheapest, others, axis=1))] = np.inf
            flat = flat.reshape(len(flat), -1)
            order = np.argsort(flat, axis=1, kind="stable")[:, :count]
            number, form = np.divmod(order, _DIRECTIONS * TONES)
            other = np.take_along_axis(others, number, axis=1)
            cost = np.take_along_axis(flat, order, axis=1)
            parts.append((other, form >= TONES, form % TONES, cost))
        other, backward, tone, cost = (np.concatenate(column) for column in zip(*parts, strict=True))
        return Partners(other, backward, tone, cost)


def costs_as_they_lie(image: Bytes, tile: int, noise: float = EXACT_NOISE) -> Floats:
    """Returns what joins of tiles as they are cost, neither turned nor in another tone.

    Args:
        image: uint8 [H, W, 3].
        tile: pixels per side, at least 2.
        noise: ε, in levels².

    Returns:
        float32 [2, tiles, tiles]: of the second tile lying below the first, and to the right of it.
    """
    model, observed = _features(_edge_and_inner_lines(image, tile), noise)
    model, observed = (each.reshape(-1, SIDES, each.shape[-1]) for each in (model, observed))
    joined = [
        model[:, side] @ observed[:, facing].T + observed[:, side] @ model[:, facing].T
        for side, facing in ((_BOTTOM, _TOP), (_RIGHT, _LEFT))
    ]
    costs: Floats = np.stack(joined)
    return np.maximum(costs, 0, out=costs)


def _edge_and_inner_lines(image: Bytes, tile: int) -> Floats:
    """Returns the edge lines and those one pixel further in, float32 [lines, 2, tile, 3]; gray is 0."""
    height, width = image.shape[:2]
    pixels = image.reshape(-1, COLORS).astype(np.float32) - np.float32(_MIDDLE_GRAY)
    edge = line_pixels(height, width, tile)
    inward = np.tile([width, -width, 1, -1], len(edge) // SIDES)
    return np.stack([pixels[edge], pixels[edge + inward[:, None]]], axis=1)


def _features(lines: Floats, noise: float) -> tuple[Floats, Floats]:
    """Returns what D takes of a line as L, and what it takes of it as X; their products sum to D.

    With c = l + μ and P = (Σ + εI)⁻¹, D = Σ xᵀ(−2Pc) + trace(P · Σ xxᵀ) + Σ cᵀPc.
    """
    edge = lines[:, 0]
    gradient = edge - lines[:, 1]
    mean = gradient.mean(axis=1, keepdims=True)
    spread = np.swapaxes(gradient - mean, 1, 2) @ (gradient - mean) / (edge.shape[1] - 1)
    precision = np.linalg.inv(spread + noise * np.eye(COLORS)).astype(np.float32)
    expected = edge + mean
    weighted = expected @ precision
    count = len(lines)
    model = (
        -2 * weighted.reshape(count, -1),
        precision.reshape(count, -1),
        (weighted * expected).sum(axis=(1, 2), keepdims=True).reshape(count, 1),
    )
    observed = (
        edge.reshape(count, -1),
        (np.swapaxes(edge, 1, 2) @ edge).reshape(count, -1),
        np.ones((count, 1)),
    )
    return (
        np.concatenate(model, axis=1, dtype=np.float32),
        np.concatenate(observed, axis=1, dtype=np.float32),
    )
