"""Contours: how much of a picture's outlines shows, whatever its colors and brightness."""

import numpy as np
import numpy.typing as npt

from etc_data.audit.evidence import Bytes
from etc_data.errors import EtcError, ImageError

_SCALE = 1 / 32  # of the shorter side: finer lines are drowned by noise inside blocks


def contour_agreement(images: Bytes, others: Bytes) -> npt.NDArray[np.float64]:
    """Returns how well the contours of each pair of images agree, 1 where equal, about 0 for strangers.

    The correlation, over all pixels, of the strength of edges: the length of the gradient of the gray
    image, smoothed with σ = 1/32 of the shorter side.  Neither polarity nor color order matter.

    Args:
        images: uint8 [n, H, W, 3].
        others: the same shape.

    Raises:
        ImageError: the shapes differ.
        EtcError: SciPy is not installed.
    """
    if images.shape != others.shape or images.ndim != 4:
        raise ImageError(f"contours of images of shapes {images.shape} and {others.shape} are compared")
    ours, theirs = _edge_strengths(images), _edge_strengths(others)
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    return np.asarray((ours * theirs).sum(axis=1) / np.maximum(lengths, 1e-9))


def _edge_strengths(images: Bytes) -> npt.NDArray[np.float64]:
    """Returns how strong the edge at each pixel is, less its mean, [n, H·W]."""
    try:
        from scipy.ndimage import gaussian_filter1d
    except ImportError:
        raise EtcError("comparing contours needs SciPy", "pip install etc-data[audit]") from None
    gray = images.mean(axis=3, dtype=np.float64)
    sigma = min(images.shape[1:3]) * _SCALE
    down, across = (
        gaussian_filter1d(gaussian_filter1d(gray, sigma, axis, order=1), sigma, other)
        for axis, other in ((1, 2), (2, 1))
    )
    strength = np.hypot(down, across).reshape(len(images), -1)
    return np.asarray(strength - strength.mean(axis=1, keepdims=True))
