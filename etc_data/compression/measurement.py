"""What one coder makes of images under one treatment: bytes, and quality after decryption."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from etc_data.audit.image_metrics import psnr, ssim
from etc_data.compression.coders import Coder, Jpeg
from etc_data.compression.treatments import Treatment

Bytes = npt.NDArray[np.uint8]

BEST_PSNR = 60.0
"""What an exact image counts, in dB (as in libvmaf for 8 bits), so that a mean stays finite."""


@dataclass(frozen=True)
class Measurement:
    """Files and decrypted images of n images, all of one size.

    Attributes:
        treatment: what was done before coding.
        coder: what wrote the files.
        height: of the plain images, in pixels.
        width: see `height`.
        bytes: the size of each file, int [n].
        psnr: of each decrypted image against the plain one, in dB, at most 60; float [n].
        ssim: the same as structural similarity; NaN where it was not asked for.
    """

    treatment: Treatment
    coder: Coder
    height: int
    width: int
    bytes: npt.NDArray[np.int64]
    psnr: npt.NDArray[np.float64]
    ssim: npt.NDArray[np.float64]

    @property
    def quality(self) -> int | None:
        """The JPEG quality, or None for lossless coders."""
        return self.coder.quality if isinstance(self.coder, Jpeg) else None

    @property
    def mean_bytes(self) -> float:
        """Mean size of a file, in bytes."""
        return float(self.bytes.mean())

    @property
    def mean_psnr(self) -> float:
        """Mean PSNR in dB."""
        return float(self.psnr.mean())

    @property
    def mean_ssim(self) -> float:
        """Mean structural similarity."""
        return float(self.ssim.mean())

    @property
    def bits_per_pixel(self) -> npt.NDArray[np.float64]:
        """Bits of each file per pixel of the plain image, float [n]."""
        return self.bytes * 8 / (self.height * self.width)


def measure(
    images: Bytes,
    treatment: Treatment,
    coder: Coder,
    *,
    with_ssim: bool = False,
    step: Callable[[], Any] = lambda: None,
) -> Measurement:
    """Returns what became of images that were encrypted, coded, decoded and decrypted.

    Args:
        images: uint8 [n, H, W, 3], RGB; H and W multiples of the treatment's block size.
        treatment: what is done before coding and undone after decoding.
        coder: for what the treatment makes, RGB or gray.
        with_ssim: whether structural similarity is wanted too; it takes longer than all the rest.
        step: called after each image.

    Raises:
        GeometryError: the images do not fit the treatment's grid of blocks.
    """
    count, height, width, _ = images.shape
    sizes = np.zeros(count, np.int64)
    ratios, similarities = np.zeros(count), np.full(count, np.nan)
    for number, image in enumerate(images):
        data = coder.encode(treatment.encrypt(image, number))
        restored = treatment.decrypt(coder.decode(data), number)
        sizes[number] = len(data)
        ratios[number] = min(psnr(image[None], restored[None])[0], BEST_PSNR)
        if with_ssim:
            similarities[number] = ssim(image[None], restored[None])[0]
        step()
    return Measurement(treatment, coder, height, width, sizes, ratios, similarities)
