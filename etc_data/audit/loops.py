"""Loops: a join of two tiles is surer where it closes a ring of four that all fit.

Two tiles side by side, their neighbors beyond one end of the seam, and the join of those two: if all
four joins are among the candidates, in tones that agree around the ring, they support each other.
Wrong joins hardly ever close a ring.  The idea: Son, Hays and Cooper, Solving square jigsaw puzzles
with loop constraints, 2014.  This form is ours.
"""

import numpy as np

from etc_data.audit.compatibility import Partners
from etc_data.audit.edges import Floats
from etc_data.audit.orientations import SIDES
from etc_data.audit.tones import INVERSE, JOINED, TONES
from etc_data.keystream import BoolArray, IntArray

# The side of the tile that lies around the corner at the start and at the end of each side's line.
_AROUND = np.array([[2, 3], [2, 3], [0, 1], [0, 1]])
_LINES_AT_ONCE = 512


def loop_support(partners: Partners, certainty: Floats) -> Floats:
    """Returns how certain the surest ring at each end of each join is, 0 where there is none.

    A ring is as certain as the least certain of its three other joins.

    Args:
        partners: the candidate joins, all [lines, count].
        certainty: of each, float32 [lines, count], above 0.

    Returns:
        float32 [lines, count, 2].
    """
    known, value = _table(partners, certainty)
    support = np.empty((*certainty.shape, 2), np.float32)
    for start in range(0, len(certainty), _LINES_AT_ONCE):
        lines = np.arange(start, min(start + _LINES_AT_ONCE, len(certainty)))
        for end in range(2):
            support[lines, :, end] = _ring_certainty(partners, certainty, lines, end, known, value)
    return support


def _code(
    line: IntArray, other: IntArray, backward: IntArray | BoolArray, tone: IntArray, lines: int
) -> IntArray:
    """Returns a number that stands for a join."""
    return np.asarray(((line * 2 + backward) * TONES + tone) * lines + other)


def _table(partners: Partners, certainty: Floats) -> tuple[IntArray, Floats]:
    """Returns the numbers of all joins, seen from either side, sorted, and how certain each is."""
    other, backward, tone = partners.other, partners.backward, partners.tone
    line = np.broadcast_to(np.arange(len(other))[:, None], other.shape)
    codes = np.concatenate(
        [
            _code(line, other, backward, tone, len(other)).reshape(-1),
            _code(other, line, backward, INVERSE[tone], len(other)).reshape(-1),
        ]
    )
    order = np.argsort(codes, kind="stable")
    known, first = np.unique(codes[order], return_index=True)
    return known, np.maximum.reduceat(np.tile(certainty.reshape(-1), 2)[order], first)


def _ring_certainty(
    partners: Partners,
    certainty: Floats,
    lines: IntArray,
    end: int,
    known: IntArray,
    value: Floats,
) -> Floats:
    """Returns how certain the surest ring is beyond one end of the joins of some lines, [lines, count].

    Axes of the arrays below: line, join, candidate x around the corner of the line's tile, candidate y
    around that of the other's.
    """
    other, backward, tone = partners.other[lines], partners.backward[lines], partners.tone[lines]
    ours = SIDES * (lines // SIDES) + _AROUND[lines % SIDES, end]
    theirs = SIDES * (other // SIDES) + _AROUND[other % SIDES, end ^ backward]
    x, y = partners.other[ours], partners.other[theirs]
    # The ends of the lines around the corner, and of what lies along them, that are near the seam.
    x_end = (lines % 2)[:, None] ^ partners.backward[ours]
    y_end = (other % 2)[:, :, None] ^ partners.backward[theirs]
    x_line = SIDES * (x // SIDES) + _AROUND[x % SIDES, x_end]
    y_line = SIDES * (y // SIDES) + _AROUND[y % SIDES, y_end]
    y_tone = JOINED[tone[:, :, None], partners.tone[theirs]]
    closing = _code(
        x_line[:, None, :, None],
        y_line[:, :, None, :],
        (x % 2)[:, None, :, None] ^ (y % 2)[:, :, None, :],
        JOINED[INVERSE[partners.tone[ours]][:, None, :, None], y_tone[:, :, None, :]],
        len(partners.other),
    )
    found = np.minimum(np.searchsorted(known, closing), len(known) - 1)
    ring = np.where(known[found] == closing, value[found], np.float32(0))
    ring = np.minimum(ring, certainty[ours][:, None, :, None])
    ring = np.minimum(ring, certainty[theirs][:, :, None, :])
    apart = (x // SIDES)[:, None, :, None] != (other // SIDES)[:, :, None, None]
    apart = apart & ((y // SIDES) != (lines // SIDES)[:, None, None])[:, :, None, :]
    return np.asarray(np.where(apart, ring, 0).max(axis=(2, 3)))
