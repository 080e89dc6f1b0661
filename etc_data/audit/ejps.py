"""The extended jigsaw puzzle solver: each encrypted image alone, without key, other images or training.

Our own reconstruction of the idea of Chuman and Kiya (A jigsaw puzzle solver-based attack on image
encryption using vision transformer, 2023), whose code is not public.  Its two stages:

1. Where all blocks share the arrangement and states of their sub-blocks, the blocks vote: what makes
   the seams inside all of them smoothest together is searched in full (`brute_force`).
2. The blocks, or with independent keys the sub-blocks, are a jigsaw of pieces in 96 states each
   (`jigsaw`); those that the scheme keeps inside a block may only lie there (`homes`).

It is the attack that a key for every image does not stop.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from etc_data.audit.aligned import AlignedTiles, Closeness
from etc_data.audit.attack import Criterion, Restoration, timed
from etc_data.audit.brute_force import arrange_alike, turn_alike
from etc_data.audit.compatibility import CODED_NOISE, EXACT_NOISE
from etc_data.audit.evidence import Bytes, Ciphertexts
from etc_data.audit.homes import Homes
from etc_data.audit.jigsaw import best_buddies, solve, solve_aligned
from etc_data.audit.smoothness import smoothness
from etc_data.audit.structure import structure_of
from etc_data.audit.topology import tile_plan
from etc_data.errors import SchemeError
from etc_data.operations import (
    NegativePositive,
    RotateFlip,
    ScrambleSubBlocks,
    ShuffleColorComponents,
)
from etc_data.plans import Plan
from etc_data.schemes import Scheme

_AT_ONCE = 4  # images; what is slow lets other threads run, but takes memory
_VOTERS = 8  # images that are tried in all 96 states, each of which is held in memory


@dataclass(frozen=True)
class JigsawAttack:
    """The attack on single images.

    Attributes:
        most_images: how many are attacked, each on its own.
        seconds: no further image is begun after so long; the first is always finished.
    """

    most_images: int = 4
    seconds: float = 60.0

    name: ClassVar[str] = "jigsaw"
    attacker_holds: ClassVar[str] = "one encrypted image, and the name of the scheme"
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion(
            "visible_joins",
            0.25,
            "a quarter of what is to be seen goes on from block to block as in the photo: from there "
            "on things can be made out, below 0.2 hardly any",
        ),
        Criterion(
            "best_buddies",
            0.2,
            "every fifth join is the likeliest there is, seen from either side; wherever that was so, "
            "more than a quarter of what is to be seen went on rightly",
        ),
    )

    def run(self, evidence: Ciphertexts) -> Restoration:
        """Returns the restored pictures, each with its own plan.

        Raises:
            ImageError: there are no images.
            SchemeError: the scheme shuffles values inside its tiles, which have no edges then.
        """
        images = evidence.take(self.most_images)
        noise = CODED_NOISE if evidence.codec.startswith("jpeg") else EXACT_NOISE
        start = time.monotonic()

        def lay_out(number: int, image: Bytes) -> tuple[Plan, float] | None:
            if number and time.monotonic() - start > self.seconds:
                return None
            return timed(lambda: find_layout(image, evidence.scheme, noise))

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            found = [one for one in pool.map(lay_out, range(len(images)), images) if one is not None]
        spent = time.monotonic() - start
        plans = [plan for plan, _ in found]
        restored = np.stack([plan.apply(image) for plan, image in zip(plans, images, strict=False)])
        structure = structure_of(evidence.scheme)
        # Short edges have many likely partners, so that whole blocks tell more where there are some.
        block = structure.home or structure.tile
        if max(images.shape[1:3]) == block:
            block = structure.tile
        buddies = float(np.mean([best_buddies(image, block, noise) for image in restored]))
        observed = {"smoothness": smoothness(restored, structure.tile), "best_buddies": buddies}
        per_image = float(np.mean([seconds for _, seconds in found]))
        cost = {"images": float(len(plans)), "seconds_per_image": per_image}
        return Restoration(restored, None, observed, cost, spent, plans)


def check_edges(scheme: Scheme) -> None:
    """Checks that a scheme leaves tiles whose edges a jigsaw can match.

    Raises:
        SchemeError: it shuffles values inside its tiles, or moves single pixels.
    """
    if not _has_edges(scheme):
        raise SchemeError(
            f"{scheme.name} moves single values or pixels; a jigsaw needs tiles with edges"
        )


def find_layout(image: Bytes, scheme: Scheme, noise: float = EXACT_NOISE) -> Plan:
    """Returns the plan that turns one encrypted image into a picture, up to one state of the whole.

    Args:
        image: uint8 [H, W, 3].
        scheme: that it was encrypted with.
        noise: in levels², see `compatibility`.

    Raises:
        SchemeError: the scheme shuffles values inside its tiles, which have no edges then.
    """
    structure = structure_of(scheme)
    check_edges(scheme)
    if is_alike(scheme):
        return find_common_layout(image[None], scheme, noise)
    (height, width), tile = image.shape[:2], structure.tile
    homes = None
    if structure.home is not None:
        homes = Homes.of(height // tile, width // tile, structure.home // tile)
    return tile_plan(solve(image, tile, homes, noise), (height, width), tile)


def is_alike(scheme: Scheme) -> bool:
    """Returns whether blocks share what is drawn inside them, so that one state of all stays unknown.

    Either each tile is put into the same state, wherever it lies then; or the four tiles of a block are
    arranged and put into states alike in all blocks.
    """
    if not _has_edges(scheme):
        return False
    alike = [step for step in scheme.steps if hasattr(step, "assignment")]
    if not _differ_within_blocks(scheme):
        alike = [step for step in alike if not isinstance(step, ScrambleSubBlocks)]
    elif block_of(scheme) != 2 * structure_of(scheme).tile:
        return False
    return all(step.assignment == "common" for step in alike)


def _has_edges(scheme: Scheme) -> bool:
    structure = structure_of(scheme)
    return structure.shuffled is None and not structure.pixelwise and structure.tile > 1


def _differ_within_blocks(scheme: Scheme) -> bool:
    """Returns whether the tiles of a block are put into states of their own."""
    tile = structure_of(scheme).tile
    states = (RotateFlip, NegativePositive, ShuffleColorComponents)
    return any(isinstance(step, states) and step.block_size > tile for step in scheme.steps)


def find_common_layout(
    images: Bytes, scheme: Scheme, noise: float, closeness: Closeness | None = None
) -> Plan:
    """Returns the plan that turns images of one layout, whose blocks are alike, into pictures.

    Args:
        images: uint8 [n, H, W, 3]; one is enough, more make it surer.
        scheme: one that `is_alike`.
        noise: in levels², see `compatibility`.
        closeness: [pieces, pieces], what else tells neighbors; see `AlignedTiles.drawn_together`.
    """
    structure, (height, width) = structure_of(scheme), images.shape[1:3]
    piece = structure.tile
    inside = Plan.identity(height, width, (piece, piece))
    if _differ_within_blocks(scheme):
        piece = block_of(scheme)
        inside = arrange_alike(images[:_VOTERS], piece, structure.tile)
    pieces = inside.apply(images)
    if structure.home == piece:
        return inside.then(turn_alike(pieces[:_VOTERS], piece))
    tiles = AlignedTiles.of(pieces, piece, noise)
    if closeness is not None:
        tiles = tiles.drawn_together(closeness)
    rows, columns = height // piece, width // piece
    homes = None if structure.home is None else Homes.of(rows, columns, structure.home // piece)
    layout = solve_aligned(tiles, rows, columns, homes)
    return inside.then(tile_plan(layout, (height, width), piece))


def block_of(scheme: Scheme) -> int:
    """Returns the pixels per side of a scheme's blocks."""
    return max(step.block_size for step in scheme.steps)
