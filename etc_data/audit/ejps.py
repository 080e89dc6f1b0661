"""The extended jigsaw puzzle solver: each encrypted image alone, without key, other images or training.

Our own reconstruction of the idea of Chuman and Kiya (A jigsaw puzzle solver-based attack on image
encryption using vision transformer, 2023), whose code is not public.  Its two stages:

1. Where all blocks share the arrangement and states of their sub-blocks, the blocks vote: what makes
   the seams inside all of them smoothest together is searched in full (`brute_force`).
2. The blocks, or with independent keys the sub-blocks, are a jigsaw of pieces in 96 states each
   (`jigsaw`); those that the scheme keeps inside a block may only lie there (`homes`).

It is the attack that a key for every image does not stop.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from etc_data.audit.attack import Criterion, Restoration, timed
from etc_data.audit.brute_force import arrange_alike, turn_alike
from etc_data.audit.compatibility import CODED_NOISE, EXACT_NOISE
from etc_data.audit.evidence import Bytes, Ciphertexts
from etc_data.audit.homes import Homes
from etc_data.audit.jigsaw import best_buddies, solve
from etc_data.audit.smoothness import smoothness
from etc_data.audit.structure import structure_of
from etc_data.audit.topology import tile_plan
from etc_data.errors import SchemeError
from etc_data.operations import ScrambleBlocks
from etc_data.plans import Plan
from etc_data.schemes import Scheme


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
            "nc",
            0.5,
            "half of all neighbor blocks are neighbors again: large connected parts of a picture show",
        ),
        Criterion(
            "best_buddies",
            0.3,
            "three of ten joins are the likeliest there are, seen from either side; where that was so, "
            "half of all joins and more were right",
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
        plans: list[Plan] = []
        spent = 0.0
        for image in images:
            plan, seconds = timed(lambda: find_layout(image, evidence.scheme, noise))  # noqa: B023
            plans.append(plan)
            spent += seconds
            if spent > self.seconds:
                break
        restored = np.stack([plan.apply(image) for plan, image in zip(plans, images, strict=False)])
        structure = structure_of(evidence.scheme)
        # Short edges have many likely partners, so that whole blocks tell more where there are some.
        block = structure.home or structure.tile
        buddies = float(np.mean([best_buddies(image, block, noise) for image in restored]))
        observed = {"smoothness": smoothness(restored, structure.tile), "best_buddies": buddies}
        cost = {"images": float(len(plans)), "seconds_per_image": spent / len(plans)}
        return Restoration(restored, None, observed, cost, spent, plans)


def check_edges(scheme: Scheme) -> None:
    """Checks that a scheme leaves tiles whose edges a jigsaw can match.

    Raises:
        SchemeError: it shuffles values inside its tiles, or moves single pixels.
    """
    structure = structure_of(scheme)
    if structure.shuffled is not None or structure.pixelwise:
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
    block, tile = max(step.block_size for step in scheme.steps), structure.tile
    scrambled = any(isinstance(step, ScrambleBlocks) for step in scheme.steps)
    common = {"common"} == {step.assignment for step in scheme.steps if hasattr(step, "assignment")}
    height, width = image.shape[:2]
    if not common or block > 2 * tile:
        homes = None
        if structure.home is not None:
            homes = Homes.of(height // tile, width // tile, structure.home // tile)
        return tile_plan(solve(image, tile, homes, noise), (height, width), tile)
    inside = Plan.identity(height, width, (tile, tile))
    if block == 2 * tile:
        inside = arrange_alike(image[None], block, tile)
    blocks = inside.apply(image)
    if scrambled:
        return inside.then(tile_plan(solve(blocks, block, None, noise), (height, width), block))
    return inside.then(turn_alike(blocks[None], block))
