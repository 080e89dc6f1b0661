"""The color transform of JPEG files: RGB to YCbCr and back, full range (JFIF 1.02, section 7).

In whole numbers, so that halves round up on every machine: Y = 0.299·R + 0.587·G + 0.114·B,
Cb = 128 + (B − Y) / 1.772, Cr = 128 + (R − Y) / 1.402.
"""

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]

_CENTER = 128


def to_ycbcr(image: Bytes) -> Bytes:
    """Returns an RGB image as Y, Cb and Cr, rounded to bytes; uint8 [..., 3] both, 0–255."""
    red, green, blue = np.moveaxis(image.astype(np.int32), -1, 0)
    return _joined(
        _divided(299 * red + 587 * green + 114 * blue, 1000),
        _divided(886 * blue - 299 * red - 587 * green, 1772) + _CENTER,
        _divided(701 * red - 587 * green - 114 * blue, 1402) + _CENTER,
    )


def to_rgb(image: Bytes) -> Bytes:
    """Returns a YCbCr image as RGB; uint8 [..., 3] both, 0–255.

    After `to_ycbcr` every value comes back within 1: the components are off by ½ at most, which
    makes 1.39 in B, and a whole number that is off by less than 1.5 is off by 1.
    """
    luma, cb, cr = np.moveaxis(image.astype(np.int32), -1, 0)
    cb, cr = cb - _CENTER, cr - _CENTER
    return _joined(
        luma + _divided(1402 * cr, 1000),
        luma + _divided(-299 * 1402 * cr - 114 * 1772 * cb, 587_000),
        luma + _divided(1772 * cb, 1000),
    )


def _divided(numbers: npt.NDArray[np.int32], divisor: int) -> npt.NDArray[np.int32]:
    """Returns the nearest whole numbers to quotients, halves rounded up; the divisor is even."""
    return (numbers + divisor // 2) // divisor


def _joined(*planes: npt.NDArray[np.int32]) -> Bytes:
    return np.clip(np.stack(planes, axis=-1), 0, 255).astype(np.uint8)
