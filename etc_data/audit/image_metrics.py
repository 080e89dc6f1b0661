"""How alike two pictures are: PSNR and SSIM."""

from typing import Any

import numpy as np
import numpy.typing as npt

from etc_data.audit.evidence import Bytes
from etc_data.errors import ImageError

Floats = npt.NDArray[np.floating[Any]]

_PEAK = 255.0
_WINDOW_SIGMA = 1.5  # pixels; with a radius of 5 the window is the 11 × 11 of the paper
_WINDOW_RADIUS = 5
_K1, _K2 = 0.01, 0.03


def psnr(images: Bytes, others: Bytes) -> npt.NDArray[np.float64]:
    """Returns the peak signal-to-noise ratio of each pair of images, in dB; infinite where equal.

    10·log₁₀(255² / mean squared difference), over all values of an image.

    Args:
        images: uint8 [n, H, W, 3].
        others: the same shape.

    Raises:
        ImageError: the shapes differ.
    """
    check_pairs(images, others)
    error = (images.astype(np.float64) - others) ** 2
    with np.errstate(divide="ignore"):
        return np.asarray(10 * np.log10(_PEAK**2 / error.mean(axis=(1, 2, 3))))


def ssim(images: Bytes, others: Bytes) -> npt.NDArray[np.float64]:
    """Returns the structural similarity of each pair of images, 1 where equal.

    Wang et al. 2004, eq. 13, with its Gaussian window of 11 × 11 pixels (σ = 1.5) and constants 0.01
    and 0.03, over each color component; the mean over all places where the window fits.

    Args:
        images: uint8 [n, H, W, 3], at least 11 pixels per side.
        others: the same shape.

    Raises:
        ImageError: the shapes differ, or the images are smaller than the window.
    """
    check_pairs(images, others)
    smallest = 2 * _WINDOW_RADIUS + 1
    if min(images.shape[1:3]) < smallest:
        raise ImageError(
            f"SSIM needs {smallest} pixels per side, not {images.shape[1]}×{images.shape[2]}"
        )
    return np.array([_ssim_of_pair(a, b) for a, b in zip(images, others, strict=True)])


def _ssim_of_pair(image: Bytes, other: Bytes) -> float:
    x, y = image.astype(np.float64), other.astype(np.float64)
    mean_x, mean_y = _window_mean(x), _window_mean(y)
    var_x = _window_mean(x * x) - mean_x**2
    var_y = _window_mean(y * y) - mean_y**2
    covariance = _window_mean(x * y) - mean_x * mean_y
    c1, c2 = (_K1 * _PEAK) ** 2, (_K2 * _PEAK) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (var_x + var_y + c2)
    return float((luminance * structure).mean())


def _window_mean(values: Floats) -> Floats:
    """Returns the Gaussian mean around each place where the window fits, [H − 10, W − 10, 3]."""
    offsets = np.arange(-_WINDOW_RADIUS, _WINDOW_RADIUS + 1)
    weights = np.exp(-0.5 * (offsets / _WINDOW_SIGMA) ** 2)
    weights /= weights.sum()
    for axis in (0, 1):
        windows = np.lib.stride_tricks.sliding_window_view(values, len(weights), axis=axis)
        values = windows @ weights
    return values


def check_pairs(images: Bytes, others: Bytes) -> None:
    """Checks that images and others are of one shape, [n, H, W, 3].

    Raises:
        ImageError: they are not.
    """
    if images.shape != others.shape or images.ndim != 4:
        raise ImageError(
            f"images of shapes {images.shape} and {others.shape} cannot be compared; both must be "
            "[n, H, W, 3]"
        )
