"""Color orders: which order of its components each tile has, relative to its neighbors.

Where the picture is assembled in gray, the colors on both sides of a border still tell the order: what
a component has beyond the mean of the three (its chroma) is nearly the same on both sides.
"""

import numpy as np
import numpy.typing as npt

from etc_data.audit.evidence import Bytes
from etc_data.audit.synchronization import group_table, synchronize
from etc_data.keystream import IntArray
from etc_data.states import COLOR_ORDERS

_ORDERS = np.array(COLOR_ORDERS)
# synchronize wants "first's state, then the step"; color orders apply the step before the state.
_JOINED = group_table(_ORDERS).T
_IMAGES_AT_ONCE = 32
_TINY = 1e-9


def order_scores(first: npt.NDArray[np.floating], second: npt.NDArray[np.floating]) -> "_Scores":
    """Returns how well each order of the second's components fits the first's, [edges, 6].

    Args:
        first: chroma, float [samples, edges, 3]; likewise `second`.
        second: what lies across the edge.
    """
    return _of_products(np.einsum("sec,sed->ecd", first, second))


_Scores = npt.NDArray[np.floating]


def _of_products(products: _Scores) -> _Scores:
    return np.stack([products[:, np.arange(3), order].sum(axis=1) for order in _ORDERS], axis=1)


def match_color_orders(images: Bytes, tile: int) -> IntArray:
    """Returns the order to put the components of each tile into, intp [tiles], a code of COLOR_ORDERS.

    All are right up to one order of the whole.

    Args:
        images: assembled pictures, right but for color orders; uint8 [n, H, W, 3].
        tile: pixels per side.
    """
    rows, columns = images.shape[1] // tile, images.shape[2] // tile
    number = np.arange(rows * columns).reshape(rows, columns)
    edges = np.concatenate(
        [
            np.stack([number[:, :-1], number[:, 1:]], axis=-1).reshape(-1, 2),
            np.stack([number[:-1], number[1:]], axis=-1).reshape(-1, 2),
        ]
    )
    products = np.zeros((len(edges), 3, 3))
    energy = np.zeros((len(edges), 1))
    mean = images.mean(axis=0, dtype=np.float32) if len(images) > 1 else np.float32(0)
    for start in range(0, len(images), _IMAGES_AT_ONCE):
        values = images[start : start + _IMAGES_AT_ONCE] - mean
        chroma = values - values.mean(axis=-1, keepdims=True)
        for axis, part in ((2, slice(0, rows * (columns - 1))), (1, slice(rows * (columns - 1), None))):
            ours, theirs = _border_lines(chroma, tile, axis)
            products[part] += np.einsum("nepc,nepd->ecd", ours, theirs, optimize=True)
            energy[part, 0] += (ours**2).sum(axis=(0, 2, 3)) + (theirs**2).sum(axis=(0, 2, 3))
    scores = _of_products(products) / (energy + _TINY)
    return synchronize(rows * columns, edges, scores, _JOINED)


def _border_lines(chroma: _Scores, tile: int, axis: int) -> tuple[_Scores, _Scores]:
    """Returns the lines on both sides of the inner borders across an axis, [n, borders, tile, 3]."""
    if axis == 1:
        ours, theirs = chroma[:, tile - 1 : -1 : tile], chroma[:, tile::tile]
        shape = (len(chroma), -1, tile, 3)
        return ours.reshape(shape), theirs.reshape(shape)
    count, height = chroma.shape[:2]
    lines = []
    for side in (chroma[:, :, tile - 1 : -1 : tile], chroma[:, :, tile::tile]):
        by_tile = side.reshape(count, height // tile, tile, -1, 3)
        lines.append(by_tile.transpose(0, 1, 3, 2, 4).reshape(count, -1, tile, 3))
    return lines[0], lines[1]
