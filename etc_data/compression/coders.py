"""How an image is coded: JPEG of a quality and sampling, or one of the lossless coders."""

import io
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from etc_data.codecs import JpegCodec, decode
from etc_data.compression.lossless import Jpeg2000, JpegLs, Png, has_imagecodecs
from etc_data.compression.treatments import Treatment
from etc_data.errors import CodecError

Bytes = npt.NDArray[np.uint8]
Sampling = Literal["4:4:4", "4:2:0", "gray"]

QUALITIES = (50, 60, 70, 80, 85, 90, 95, 98)
"""The qualities of a curve; 80 and 85 are those of maungmaung2022 Table IV."""

_LONGEST_SIDE = 65500  # libjpeg's own limit, in pixels


class Coder(Protocol):
    """Writes an image as the bytes of a file, and reads it back in the same shape."""

    @property
    def name(self) -> str:
        """What the coder is called in tables."""

    def encode(self, image: Bytes) -> bytes:
        """Returns the file of an image, uint8 [H, W, 3] or [H, W]."""

    def decode(self, data: bytes) -> Bytes:
        """Returns the image of a file that `encode` wrote."""


@dataclass(frozen=True)
class Jpeg:
    """JPEG as `etc-data encrypt` writes it, or of gray images.

    Attributes:
        quality: libjpeg's scale, 1–100.
        sampling: ``"4:4:4"`` and ``"4:2:0"`` for RGB, ``"gray"`` for gray images.

    Raises:
        CodecError: the quality is out of range.
    """

    quality: int
    sampling: Sampling

    def __post_init__(self) -> None:
        JpegCodec(self.quality)

    @property
    def name(self) -> str:
        """JPEG with its sampling."""
        return f"JPEG {self.sampling}"

    def encode(self, image: Bytes) -> bytes:
        """Returns the file of an image, uint8 [H, W, 3], or [H, W] where the sampling is gray.

        Raises:
            CodecError: the array has another dtype or shape, or is too large for JPEG.
        """
        if self.sampling != "gray":
            return JpegCodec(self.quality, self.sampling).encode(image)
        if image.dtype != np.uint8 or image.ndim != 2 or max(image.shape) > _LONGEST_SIDE:
            raise CodecError(
                f"gray image is {image.dtype} {list(image.shape)}, not uint8 [H, W] of sides up to "
                f"{_LONGEST_SIDE}"
            )
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=self.quality)
        return file.getvalue()

    def decode(self, data: bytes) -> Bytes:
        """Returns the image of a file that `encode` wrote."""
        pixels = decode(data)
        return pixels[..., 0] if self.sampling == "gray" else pixels


def samplings(treatment: Treatment) -> tuple[Sampling, ...]:
    """Returns the JPEG samplings that a treatment's output can take."""
    return ("gray",) if treatment.gray else ("4:4:4", "4:2:0")


def lossless_coders(treatment: Treatment) -> tuple[Coder, ...]:
    """Returns the lossless coders that are there for a treatment's output, PNG always."""
    if not has_imagecodecs():
        return (Png(),)
    transforms = (True,) if treatment.gray else (True, False)
    return (Png(), JpegLs(), *map(Jpeg2000, transforms))


def curve_coders(treatment: Treatment) -> tuple[Coder, ...]:
    """Returns every coder that a treatment's output is measured with: JPEG curves, then lossless."""
    lossy = [Jpeg(quality, one) for one in samplings(treatment) for quality in QUALITIES]
    return (*lossy, *lossless_coders(treatment))
