"""Lossless coders: PNG, JPEG-LS, JPEG 2000, and none at all.

JPEG-LS and JPEG 2000 need imagecodecs (extra ``codecs``); they serve comparison alone, since the
readers of webdataset shards do not know them.
"""

import importlib.util
import io
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from etc_data.errors import CodecError

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Png:
    """PNG as `etc-data encrypt --lossless` writes it, zlib level 6; also for gray images."""

    name: str = field(default="PNG", init=False)

    def encode(self, image: Bytes) -> bytes:
        """Returns the file of an image, uint8 [H, W, 3] or [H, W]."""
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG", compress_level=6)
        return file.getvalue()

    def decode(self, data: bytes) -> Bytes:
        """Returns the image of a file that `encode` wrote."""
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            return np.array(image)


@dataclass(frozen=True)
class JpegLs:
    """JPEG-LS (ISO/IEC 14495-1) without loss, and without a color transform.

    Raises:
        CodecError: imagecodecs is not installed.
    """

    name: str = field(default="JPEG-LS", init=False)

    def __post_init__(self) -> None:
        _imagecodecs(self.name)

    def encode(self, image: Bytes) -> bytes:
        """Returns the file of an image, uint8 [H, W, 3] or [H, W]."""
        # Noise grows under JPEG-LS, past the room that imagecodecs makes by itself.
        room = 2 * image.size + 1024
        codecs = _imagecodecs(self.name)
        return bytes(codecs.jpegls_encode(np.ascontiguousarray(image), out=room))

    def decode(self, data: bytes) -> Bytes:
        """Returns the image of a file that `encode` wrote."""
        image: Bytes = _imagecodecs(self.name).jpegls_decode(data)
        return image


@dataclass(frozen=True)
class Jpeg2000:
    """JPEG 2000 (ISO/IEC 15444-1) without loss, as a JP2 file.

    Attributes:
        color_transform: whether the colors of an RGB image are first made less alike (the
            reversible color transform of its Annex G).

    Raises:
        CodecError: imagecodecs is not installed.
    """

    color_transform: bool = True

    def __post_init__(self) -> None:
        _imagecodecs(self.name)

    @property
    def name(self) -> str:
        """JPEG 2000, and whether it does without the color transform."""
        return "JPEG 2000" if self.color_transform else "JPEG 2000, colors apart"

    def encode(self, image: Bytes) -> bytes:
        """Returns the file of an image, uint8 [H, W, 3] or [H, W]."""
        codecs, pixels = _imagecodecs(self.name), np.ascontiguousarray(image)
        return bytes(codecs.jpeg2k_encode(pixels, reversible=True, mct=self.color_transform))

    def decode(self, data: bytes) -> Bytes:
        """Returns the image of a file that `encode` wrote."""
        image: Bytes = _imagecodecs(self.name).jpeg2k_decode(data)
        return image


def has_imagecodecs() -> bool:
    """Returns whether imagecodecs is installed."""
    return importlib.util.find_spec("imagecodecs") is not None


def _imagecodecs(name: str) -> Any:
    try:
        import imagecodecs
    except ImportError as error:
        raise CodecError(
            f"{name} needs imagecodecs: {error}", "pip install 'etc-data[codecs]'"
        ) from None
    return imagecodecs
