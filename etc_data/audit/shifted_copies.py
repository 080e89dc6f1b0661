"""Shifted copies: several ciphertexts of one photo whose crops do not share the block grid.

A block of one copy then covers corners of up to four blocks of another, and shows how these lie
together: their seams run through it.  Each copy has its own key, so that a block has another place and
state in each; but what overlaps is the same piece of photo, and the mean of a pixel's components is the
same in every color order and only changes its sign around middle gray with the polarity.

First the shift is found: the one under which most corners of blocks have a twin.  Then, for each block
of the other copy, the blocks that lie under its four corners are found.  The joins among them go before
those that the jigsaw finds in the one image itself.  The argument is ours; the papers encrypt an image
once.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from etc_data.audit.assembly import Joins
from etc_data.audit.attack import Criterion, Restoration, timed
from etc_data.audit.compatibility import CODED_NOISE, EXACT_NOISE
from etc_data.audit.edges import Floats
from etc_data.audit.evidence import Bytes, Ciphertexts
from etc_data.audit.jigsaw import solve
from etc_data.audit.orientations import (
    OPPOSITE,
    ORIENTATIONS,
    SIDE_BACKWARD,
    SIDE_SOURCE,
    SIDES,
    orient,
)
from etc_data.audit.smoothness import smoothness
from etc_data.audit.structure import structure_of
from etc_data.audit.tones import INVERSE, JOINED, ORDERS, SIGNS
from etc_data.audit.topology import tile_plan
from etc_data.errors import SchemeError
from etc_data.keystream import IntArray
from etc_data.plans import Plan

_MIDDLE_GRAY = 127.5
_SAME = 6.0  # times the noise: up to so large a mean square of differences, two corners are one piece
_SAME_IN_COLOR = 18.0  # the same for single components, which JPEG codes more coarsely
_NEXT_BEST = 0.5  # and up to this share of the next best's, or they are like much else
_PROBES = 64  # blocks that look for the shift
_FEWEST = 6  # of them that must agree
_SMALLEST = 8  # pixels of a corner; fewer are found too often
_CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1))
_BELOW, _RIGHT = 1, 3  # sides, as in `orientations`


class Shift(NamedTuple):
    """By how many pixels the grid of another copy lies lower and further right, 0 … tile − 1."""

    down: int
    right: int


@dataclass(frozen=True)
class ShiftedCopiesAttack:
    """The attack on several encrypted images of one photo; the first is restored.

    Attributes:
        most_copies: how many are looked at.
    """

    most_copies: int = 4

    name: ClassVar[str] = "shifted copies"
    attacker_holds: ClassVar[str] = "several encrypted images of one photo, each with a key of its own"
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion(
            "joins_revealed",
            0.25,
            "a quarter of all joins stands in another copy: large parts lie together before any guess",
        ),
    )

    def run(self, evidence: Ciphertexts) -> Restoration:
        """Returns the first copy, restored with the help of the others.

        Raises:
            ImageError: there are no images.
            SchemeError: the scheme is not one that scrambles blocks and keeps their inside.
        """
        structure = structure_of(evidence.scheme)
        if structure.shuffled is not None or structure.home is not None:
            raise SchemeError(f"{evidence.scheme.name} does not scramble blocks that keep their inside")
        copies = evidence.take(self.most_copies)
        noise = CODED_NOISE if evidence.codec.startswith("jpeg") else EXACT_NOISE
        tile = structure.tile
        (plan, revealed), seconds = timed(lambda: restore_first(copies, tile, noise))
        restored = plan.apply(copies[:1])
        observed = {"joins_revealed": revealed, "smoothness": smoothness(restored, tile)}
        return Restoration(restored, None, observed, {"images": float(len(copies))}, seconds, [plan])


def restore_first(copies: Bytes, tile: int, noise: float) -> tuple[Plan, float]:
    """Returns the plan that restores the first copy, and the share of its joins the others revealed.

    Args:
        copies: uint8 [n, H, W, 3], encrypted images of one photo.
        tile: pixels per side of a block.
        noise: in levels², see `compatibility`.
    """
    height, width = copies.shape[1:3]
    rows, columns = height // tile, width // tile
    found = [revealed_joins(copies[0], other, tile, noise) for other in copies[1:]]
    known = Joins.concatenate(found)
    pairs = np.unique(np.sort(np.stack([known.line, known.other]), axis=0), axis=1).shape[1]
    plan = tile_plan(solve(copies[0], tile, noise=noise, known=known), (height, width), tile)
    return plan, pairs / (2 * rows * columns - rows - columns)


def revealed_joins(image: Bytes, other: Bytes, tile: int, noise: float) -> Joins:
    """Returns the joins of one image's blocks that another copy shows, the surest first.

    Args:
        image: encrypted, uint8 [H, W, 3].
        other: another copy of the photo, likewise.
        tile: pixels per side of a block.
        noise: in levels², see `compatibility`.
    """
    ours, theirs = _views(image, tile), _views(other, tile)
    shift = find_shift(ours, theirs, noise)
    if shift is None:
        return Joins.concatenate([])
    corners = {corner: _twins(ours, theirs, shift, corner, noise) for corner in _CORNERS}
    parts = [
        _joins_of(corners[first], corners[second], side)
        for first, second, side in (
            ((0, 0), (0, 1), _RIGHT),
            ((1, 0), (1, 1), _RIGHT),
            ((0, 0), (1, 0), _BELOW),
            ((0, 1), (1, 1), _BELOW),
        )
    ]
    doubt = np.concatenate([part[1] for part in parts])
    joins = Joins.concatenate([part[0] for part in parts])
    return joins.take(np.argsort(doubt, kind="stable"))


def find_shift(ours: Floats, theirs: Floats, noise: float) -> Shift | None:
    """Returns by how much the other grid is shifted, up to half a block; None where nothing fits.

    A rotation or flip of the photo makes every shift one of at most half a block; which one it is
    stays unknown, as ever.

    Args:
        ours: the blocks of one copy in all orientations, float32 [blocks, 8, tile, tile, 3].
        theirs: of the other copy.
        noise: in levels².
    """
    tile = ours.shape[2]
    busiest = np.argsort(-theirs[:, 0].std(axis=(1, 2, 3)), kind="stable")[:_PROBES]
    agreeing = {}
    for down in range(tile // 2 + 1):
        for right in range(down, tile // 2 + 1):
            if right:
                shift = Shift(down, right)
                twins = _twins(ours, theirs[busiest], shift, (0, 0), noise)
                agreeing[shift] = int(np.isfinite(twins.doubt).any(axis=1).sum())
    best = max(agreeing, key=lambda shift: agreeing[shift])
    return best if agreeing[best] >= _FEWEST else None


def _views(image: Bytes, tile: int) -> Floats:
    """Returns the blocks of an image in all orientations, float32 [blocks, 8, tile, tile, 3]."""
    height, width = image.shape[:2]
    blocks = image.reshape(height // tile, tile, width // tile, tile, 3).transpose(0, 2, 1, 3, 4)
    centered = blocks.reshape(-1, tile, tile, 3).astype(np.float32) - np.float32(_MIDDLE_GRAY)
    turned = [orient(centered.transpose(1, 2, 0, 3), code) for code in range(ORIENTATIONS)]
    return np.ascontiguousarray(np.stack(turned).transpose(3, 0, 1, 2, 4), np.float32)


class _Twins(NamedTuple):
    """What lies under one corner of each block of a copy, in each of its orientations; all [blocks, 8].

    Attributes:
        block: intp, of the other copy.
        orientation: intp, that it is put into.
        tone: intp, the tone in which the block above looks like it.
        doubt: float32, from 0 for a twin beyond doubt to 1; infinite where there is none.
    """

    block: IntArray
    orientation: IntArray
    tone: IntArray
    doubt: Floats


def _twins(
    under: Floats,
    over: Floats,
    shift: Shift,
    corner: tuple[int, int],
    noise: float,
) -> _Twins:
    """Returns which blocks of one copy lie under a corner of the blocks of another.

    Args:
        under: float32 [n, 8, tile, tile, 3]: views of the blocks among which to look.
        over: float32 [m, 8, tile, tile, 3]: of the blocks under which to look.
        shift: of the grid of `over` against that of `under`.
        corner: of `over`'s blocks: 0 or 1 for top or bottom, then for left or right.
        noise: in levels².
    """
    tile = under.shape[2]
    low = [slice(d, tile) if c == 0 else slice(0, d) for d, c in zip(shift, corner, strict=True)]
    high = [
        slice(0, tile - d) if c == 0 else slice(tile - d, tile)
        for d, c in zip(shift, corner, strict=True)
    ]
    covered = under[:, :, low[0], low[1]].reshape(len(under) * ORIENTATIONS, -1, 3)
    covering = over[:, :, high[0], high[1]].reshape(len(over) * ORIENTATIONS, -1, 3)
    shape = len(over), ORIENTATIONS
    if covered.shape[1] < _SMALLEST:
        nothing = np.zeros(shape, np.intp)
        return _Twins(nothing, nothing, nothing, np.full(shape, np.inf, np.float32))
    best, doubt = _nearest(covering.mean(axis=2), covered.mean(axis=2), noise)
    error = np.stack(
        [
            ((covering[..., order] * np.float32(sign) - covered[best]) ** 2).mean(axis=(1, 2))
            for order, sign in zip(ORDERS, SIGNS, strict=True)
        ]
    )
    doubt[error.min(axis=0) > _SAME_IN_COLOR * noise] = np.inf
    block, orientation = np.divmod(best.reshape(shape), ORIENTATIONS)
    return _Twins(block, orientation, error.argmin(axis=0).reshape(shape), doubt.reshape(shape))


def _nearest(queries: Floats, others: Floats, noise: float) -> tuple[IntArray, Floats]:
    """Returns which of the others is nearest to each query up to the sign, and how doubtful that is."""
    squares = (queries**2).sum(axis=1)[:, None] + (others**2).sum(axis=1)
    distance = np.maximum(squares - 2 * np.abs(queries @ others.T), 0) / queries.shape[1] + noise
    best = distance.argmin(axis=1)
    here = np.arange(len(queries))
    nearest = distance[here, best]
    distance[here, best] = np.inf
    doubt = nearest / distance.min(axis=1)
    doubt[(nearest > (1 + _SAME) * noise) | (doubt > _NEXT_BEST)] = np.inf
    return best, doubt


def _joins_of(first: _Twins, second: _Twins, side: int) -> tuple[Joins, Floats]:
    """Returns the joins of what lies under two corners of a block, the second beside the first."""
    doubt = np.maximum(first.doubt, second.doubt)
    found = np.isfinite(doubt) & (first.block != second.block)
    block, orientation, tone = (column[found] for column in first[:3])
    other, turned, other_tone = (column[found] for column in second[:3])
    facing = int(OPPOSITE[side])
    joins = Joins(
        SIDES * block + SIDE_SOURCE[orientation, side],
        SIDES * other + SIDE_SOURCE[turned, facing],
        SIDE_BACKWARD[orientation, side] ^ SIDE_BACKWARD[turned, facing],
        JOINED[tone, INVERSE[other_tone]],
    )
    return joins, doubt[found]
