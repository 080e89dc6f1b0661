"""Edge lines of tiles, and how strongly they correlate over images: what neighbors cannot hide.

Pixels on both sides of a block border are nearly equal in almost every photo.  A fixed key moves the
border's two lines to the same two places in every image, so over many images they stay correlated
wherever they are; the sign of the correlation is their relative polarity.  Statistics of this kind over
blocks: Li and Liu 2023, arXiv 2305.04543.  This form is ours.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from etc_data.audit.assembly import Joins
from etc_data.audit.evidence import Bytes
from etc_data.audit.orientations import SIDES
from etc_data.keystream import IntArray

Floats = npt.NDArray[np.float32]

_TINY = 1e-6
_ROWS_AT_ONCE = 1024


def line_pixels(height: int, width: int, tile: int) -> IntArray:
    """Returns the raster numbers of the pixels of all edge lines, intp [4 · tiles, tile].

    Line 4·i + side belongs to tile i in raster order; sides as in `orientations`.
    """
    grid = np.arange(height * width).reshape(height // tile, tile, width // tile, tile)
    tiles = grid.transpose(0, 2, 1, 3).reshape(-1, tile, tile)
    lines = [tiles[:, 0], tiles[:, -1], tiles[:, :, 0], tiles[:, :, -1]]
    return np.stack(lines, axis=1).reshape(-1, tile)


def edge_lines(images: Bytes, tile: int) -> Floats:
    """Returns the edge lines of all tiles, float32 [4 · tiles, images, tile].

    A value is the mean of the three color components, so that their order does not matter.
    """
    count, height, width = images.shape[:3]
    gray = images.reshape(count, -1, 3).mean(axis=2, dtype=np.float32)
    lines: Floats = gray[:, line_pixels(height, width, tile)].transpose(1, 0, 2)
    return np.ascontiguousarray(lines)


class LineCorrelations(NamedTuple):
    """Correlations of all pairs of lines, float16 [lines, lines], 0 within a tile."""

    forward: npt.NDArray[np.float16]
    backward: npt.NDArray[np.float16]

    def joins(self, count: int) -> Joins:
        """Returns the `count` strongest joins of each line, the strongest of all first."""
        partner, backward, rho = self.best_partners(min(count, 2 * len(self.forward)))
        order = np.argsort(-np.abs(rho), axis=None, kind="stable")
        order = order[rho.reshape(-1)[order] != 0]
        line = order // partner.shape[1]
        other, back, strength = (x.reshape(-1)[order] for x in (partner, backward, rho))
        return Joins(line, other, back, (strength < 0).astype(np.intp))

    def fit(self, line: int, others: IntArray) -> Floats:
        """Returns how well each of `others` continues a line, float32 [2, 2, others]: ρ and −ρ."""
        rho = np.stack([self.forward[line, others], self.backward[line, others]]).astype(np.float32)
        return np.stack([rho, -rho], axis=1)

    def best_partners(self, count: int) -> tuple[IntArray, npt.NDArray[np.bool_], Floats]:
        """Returns the strongest partners of each line, the strongest first.

        Returns:
            `partner`: intp [lines, count]; `backward`: whether it is read backward; `rho`: signed.
        """
        lines = len(self.forward)
        both = np.concatenate([self.forward, self.backward], axis=1)
        strength = np.abs(both)
        found = np.argpartition(-strength, count - 1, axis=1)[:, :count]
        order = np.argsort(-np.take_along_axis(strength, found, axis=1), axis=1, kind="stable")
        found = np.take_along_axis(found, order, axis=1)
        rho = np.take_along_axis(both, found, axis=1).astype(np.float32)
        return found % lines, found >= lines, rho


def correlate_lines(lines: Floats, allowed: npt.NDArray[np.bool_] | None = None) -> LineCorrelations:
    """Returns how strongly edge lines correlate over images × pixels.

    From every value its mean over the images is subtracted; for one image, which has no such mean, the
    mean of each line.

    Args:
        lines: from `edge_lines`.
        allowed: bool [tiles, tiles], the pairs of tiles that can be neighbors at all; None for any.
    """
    centered = lines - lines.mean(axis=1 if lines.shape[1] > 1 else 2, keepdims=True)
    rows, backward_rows = _unit_rows(centered), _unit_rows(centered[:, :, ::-1])
    own = np.arange(len(rows)) // SIDES
    forward, backward = (np.empty((len(rows), len(rows)), np.float16) for _ in range(2))
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        barred = own[part, None] == own if allowed is None else ~allowed[own[part]][:, own]
        for target, other in ((forward, rows), (backward, backward_rows)):
            rho = rows[part] @ other.T
            rho[barred] = 0
            target[part] = rho
    return LineCorrelations(forward, backward)


def _unit_rows(lines: Floats) -> Floats:
    rows = lines.reshape(len(lines), -1)
    unit: Floats = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), _TINY)
    return unit
