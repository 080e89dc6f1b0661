"""Pixels that stay in place: each one's negations and color order, relative to its neighbors'.

Under a fixed key, neighbor values correlate over the images with the sign of their relative polarity,
and what a component has beyond the pixel's mean tells the order of the colors.
"""

import numpy as np
import numpy.typing as npt

from etc_data.audit.color_orders import match_color_orders
from etc_data.audit.evidence import Bytes
from etc_data.audit.synchronization import synchronize
from etc_data.keystream import BoolArray, IntArray

_SIGNS = np.array([[0, 1], [1, 0]])


def match_polarities(images: Bytes) -> BoolArray:
    """Returns which values to negate, bool [H·W·3], up to all of them.

    Args:
        images: encrypted, uint8 [n, H, W, 3].
    """
    height, width = images.shape[1:3]
    edges = _neighbor_values(height, width)
    values = images.reshape(len(images), -1).astype(np.float32)
    values -= values.mean(axis=0 if len(images) > 1 else 1, keepdims=True)
    values /= np.maximum(np.linalg.norm(values, axis=0), np.float32(1e-6))
    rho = np.zeros(len(edges))
    for image in values:
        rho += image[edges[:, 0]] * image[edges[:, 1]]
    states = synchronize(values.shape[1], edges, np.stack([rho, -rho], axis=1), _SIGNS)
    return states.astype(np.bool_)


def match_pixel_colors(images: Bytes) -> IntArray:
    """Returns the order to put each pixel's components into, intp [H·W], up to one for all.

    Args:
        images: of right polarity, uint8 [n, H, W, 3].
    """
    return match_color_orders(images, 1)


def _neighbor_values(height: int, width: int) -> npt.NDArray[np.intp]:
    """Returns pairs of values of one pixel, and of any colors of two neighbor pixels."""
    number = np.arange(height * width * 3).reshape(height, width, 3)
    pairs = [(number[..., 0], number[..., 1]), (number[..., 1], number[..., 2])]
    for color in range(3):
        for other in range(3):
            pairs.append((number[:, :-1, color], number[:, 1:, other]))
            pairs.append((number[:-1, :, color], number[1:, :, other]))
    return np.concatenate([np.stack([a.reshape(-1), b.reshape(-1)], axis=1) for a, b in pairs])
