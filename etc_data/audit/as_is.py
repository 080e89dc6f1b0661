"""As is: the encrypted images, and nothing is done to them.

Where blocks stay in their places and keep their brightness, each still stands for its piece of the
picture.  With small blocks or large images they are as the dots of a print: one need only step back.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from etc_data.audit.attack import Criterion, Restoration
from etc_data.audit.evidence import Bytes, Ciphertexts
from etc_data.audit.smoothness import smoothness


@dataclass(frozen=True)
class AsIs:
    """The look at encrypted images.

    Attributes:
        images: how many are looked at.
    """

    images: int = 24

    name: ClassVar[str] = "as is"
    attacker_holds: ClassVar[str] = "encrypted images, and only looks at them"
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion(
            "contours",
            0.2,
            "the outlines correlate with those of the plain pictures; where they do by 0.3, faces are "
            "made out, and unrelated pictures reach 0.1 on the mean of 24",
        ),
        Criterion(
            "block_smoothness",
            0.25,
            "blocks are about as bright as their neighbors: 0.6 in photos, at most 0.15 where they "
            "were negated or moved each on its own",
        ),
    )

    def run(self, evidence: Ciphertexts) -> Restoration:
        """Returns the images; its observation is how smooth they are from block to block.

        Raises:
            ImageError: there are no images.
        """
        images = evidence.take(self.images)
        block = max(step.block_size for step in evidence.scheme.steps)
        each = [smoothness(image[None], 1) for image in _means(images, block)]
        observed = {"block_smoothness": float(np.mean(each))}
        return Restoration(images, None, observed, {"images": float(len(images))}, 0.0)


def _means(images: Bytes, block: int) -> Bytes:
    """Returns the mean of each block, uint8 [n, rows, columns, 3]."""
    count, height, width = images.shape[:3]
    blocks = images.reshape(count, height // block, block, width // block, block, 3)
    means: Bytes = blocks.mean(axis=(2, 4)).astype(np.uint8)
    return means
