"""FR: the feature reconstruction attack of Chang & Case (2020) on images whose pixels stay in place.

Negation hides the look of a picture but not its contours.  The basic form takes the darker one of every
value and its negative, so that polarity vanishes.  The advanced form walks over the image and puts each
pixel into the one of its 48 states (8 polarities, 6 orders of the components) that is nearest to its
neighbors.  Next to a dark value the darker one is always the nearer, so that the walk settles the
orders and leaves the polarities as the basic form has them.  Every image is attacked on its own: a key
per image is no help.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from etc_data.audit.attack import Criterion, Restoration, timed
from etc_data.audit.evidence import Bytes, Ciphertexts
from etc_data.keystream import IntArray
from etc_data.states import COLOR_ORDERS, COLORS

_ORDERS = np.array(COLOR_ORDERS)
_IMAGES_AT_ONCE = 64


@dataclass(frozen=True)
class FeatureReconstruction:
    """The FR attack.

    Attributes:
        form: ``"basic"`` or ``"advanced"``.
        images: how many ciphertexts are attacked.
    """

    form: Literal["basic", "advanced"] = "advanced"
    images: int = 24

    attacker_holds: ClassVar[str] = "encrypted images alone, each attacked on its own"
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion(
            "contours",
            0.2,
            "the outlines correlate with those of the plain pictures; unrelated pictures reach 0.1 on "
            "the mean of 24",
        ),
        Criterion("ssim", 0.25, "pictures emerge; unrelated ones of the same statistics reach 0.15"),
    )

    @property
    def name(self) -> str:
        """``"feature reconstruction, basic"`` or ``"…, advanced"``."""
        return f"feature reconstruction, {self.form}"

    def run(self, evidence: Ciphertexts) -> Restoration:
        """Returns the pictures; no plan, since what is restored is less than the plain images.

        Raises:
            ImageError: there are no images.
        """
        images = evidence.take(self.images)
        reconstruct = fold if self.form == "basic" else follow_neighbors
        restored, seconds = timed(lambda: reconstruct(images))
        return Restoration(restored, None, {}, {"images": float(len(images))}, seconds)


def fold(images: Bytes) -> Bytes:
    """Returns the darker one of every value and its negative, uint8, 0–127.

    Args:
        images: uint8, of any shape.
    """
    return np.minimum(images, 255 - images)


def follow_neighbors(images: Bytes) -> Bytes:
    """Returns folded images in which every pixel's components have the order nearest to its neighbors'.

    Args:
        images: encrypted, uint8 [n, H, W, 3].
    """
    parts = [_walk(images[i : i + _IMAGES_AT_ONCE]) for i in range(0, len(images), _IMAGES_AT_ONCE)]
    return np.concatenate(parts)


def _walk(images: Bytes) -> Bytes:
    """Goes from corner to corner; all pixels of a diagonal follow those to their left and above."""
    count, height, width = images.shape[:3]
    folded = fold(images).astype(np.int16)
    done = np.zeros((count, height + 1, width + 1, COLORS), np.int16)  # first a border of no pixels
    is_pixel = np.zeros((height + 1, width + 1), np.int16)
    is_pixel[1:, 1:] = 1
    place = np.arange(COLORS)
    for y, x in _diagonals(height, width):
        pixels = folded[:, y, x]
        costs = np.zeros((*pixels.shape, COLORS), np.int32)  # of each component at each place
        for above, left in ((y, x + 1), (y + 1, x)):
            difference = np.abs(pixels[..., :, None] - done[:, above, left][..., None, :])
            costs += difference * is_pixel[above, left][:, None, None]
        order = costs[:, :, _ORDERS, place].sum(axis=-1).argmin(axis=-1)
        done[:, y + 1, x + 1] = np.take_along_axis(pixels, _ORDERS[order], axis=-1)
    return done[:, 1:, 1:].astype(np.uint8)


def _diagonals(height: int, width: int) -> Iterator[tuple[IntArray, IntArray]]:
    for number in range(height + width - 1):
        y = np.arange(max(0, number - width + 1), min(height, number + 1))
        yield y, number - y
