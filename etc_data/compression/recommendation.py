"""The quality that reaches a wanted PSNR or size, found by real files, and the scheme to take."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from etc_data.audit.key_space import SAFE_BITS
from etc_data.compression.coders import Jpeg, samplings
from etc_data.compression.lossless import Png
from etc_data.compression.measurement import Measurement, measure
from etc_data.compression.treatments import Treatment

Bytes = npt.NDArray[np.uint8]

NEARLY_BYTES = 0.01
NEARLY_DB = 0.1


@dataclass(frozen=True)
class PsnrTarget:
    """The smallest files whose decrypted images reach a mean PSNR of `decibels`."""

    decibels: float

    def __str__(self) -> str:
        return f"{self.decibels:g} dB"

    def reached(self, measurement: Measurement) -> bool:
        """Returns whether the mean PSNR is reached."""
        return measurement.mean_psnr >= self.decibels

    def order(self, measurement: Measurement) -> float:
        """Returns the mean bytes of a file: the less, the better."""
        return measurement.mean_bytes

    def nearly(self, measurement: Measurement, best: Measurement) -> bool:
        """Returns whether files are at most 1 % larger than the best."""
        return measurement.mean_bytes <= (1 + NEARLY_BYTES) * best.mean_bytes

    qualities = tuple(range(1, 101))


@dataclass(frozen=True)
class BytesTarget:
    """The best decrypted images from files of at most `bytes` bytes, on average."""

    bytes: int

    def __str__(self) -> str:
        return f"{self.bytes:,} bytes an image"

    def reached(self, measurement: Measurement) -> bool:
        """Returns whether the mean size is kept."""
        return measurement.mean_bytes <= self.bytes

    def order(self, measurement: Measurement) -> float:
        """Returns the negative mean PSNR: the less, the better."""
        return -measurement.mean_psnr

    def nearly(self, measurement: Measurement, best: Measurement) -> bool:
        """Returns whether images are at most 0.1 dB worse than the best."""
        return measurement.mean_psnr >= best.mean_psnr - NEARLY_DB

    qualities = tuple(range(100, 0, -1))


Target = PsnrTarget | BytesTarget


def best_coding(
    images: Bytes, treatment: Treatment, target: Target, step: Callable[[], Any] = lambda: None
) -> Measurement | None:
    """Returns the best coding of a treatment that reaches a target, or None if none does.

    JPEG in each sampling at the first quality that does, and PNG; what is returned was measured on
    real files of every image, never read off a curve.

    Args:
        images: uint8 [n, H, W, 3], RGB.
        treatment: one that fits their size.
        target: what to reach.
        step: called after each coding that was tried.
    """
    found = []
    for sampling in samplings(treatment):
        low, high = -1, len(target.qualities)
        reached: Measurement | None = None
        # Quality hardly ever lowers PSNR or size, so that halving finds where the target is reached.
        while high - low > 1:
            middle = (low + high) // 2
            tried = measure(images, treatment, Jpeg(target.qualities[middle], sampling))
            if target.reached(tried):
                high, reached = middle, tried
            else:
                low = middle
        found.append(reached)
        step()
    exact = measure(images, treatment, Png())
    step()
    found.append(exact if target.reached(exact) else None)
    return min((one for one in found if one is not None), key=target.order, default=None)


def recommend(candidates: Sequence[Measurement], target: Target) -> Measurement | None:
    """Returns what to take: a scheme of the command line whose key space is above 2²⁵⁶.

    Of those that are nearly as good as the best (files 1 % larger, images 0.1 dB worse), the one
    with the largest key space.  None where no candidate has such a key space.

    Args:
        candidates: codings that reach the target, one of each treatment.
        target: what they reach.
    """
    fit = [one for one in candidates if one.treatment.offered and _bits(one) > SAFE_BITS]
    best = min(fit, key=target.order, default=None)
    if best is None:
        return None
    return max((one for one in fit if target.nearly(one, best)), key=_bits)


def _bits(measurement: Measurement) -> float:
    return measurement.treatment.key_space_bits(measurement.height, measurement.width)
