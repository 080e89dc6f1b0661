"""Pictures of what a patch embedding looks for (maungmaung2022 Fig. 5)."""

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from etc_data.errors import ModelError

Filters = npt.NDArray[np.float32]

_COLORS = 3
_GAP = 2
_WHITE = 255


def embedding_filters(state: Mapping[str, Tensor]) -> Filters:
    """Returns the filters of the patch embedding in a model's state dict, float32 [D, P, P, 3].

    That is the first convolution over three color components with a square kernel, as in ConvMixer and
    ViT, or the matrix of a model encrypted with independent keys: as patch 0 has it.

    Args:
        state: names and weights of a plain or encrypted model.

    Raises:
        ModelError: there is no such weight.
    """
    for weight in state.values():
        if weight.ndim == 4 and weight.shape[1] == _COLORS and weight.shape[2] == weight.shape[3]:
            return _channels_last(weight)
    for name, weight in state.items():
        if name.endswith((".matrix", ".matrices")):
            matrix = weight[0] if weight.ndim == 3 else weight
            side = math.isqrt(matrix.shape[1] // _COLORS)
            if matrix.shape[1] == _COLORS * side**2:
                return _channels_last(matrix.unflatten(1, (_COLORS, side, side)))
    raise ModelError(
        "this state dict holds no patch embedding: no convolution over 3 color components with a "
        "square kernel"
    )


def principal_components(filters: Filters, count: int = 24) -> Filters:
    """Returns the directions in which `filters` vary most about their mean, strongest first.

    Args:
        filters: float32 [D, P, P, 3].
        count: at most so many; there are no more than D or 3P².

    Returns:
        float32 [count, P, P, 3], each of length 1, its sign such that its largest entry is positive.
    """
    flat = filters.reshape(len(filters), -1)
    directions = np.linalg.svd(flat - flat.mean(0), full_matrices=False)[2][:count]
    largest = np.take_along_axis(directions, np.abs(directions).argmax(1)[:, None], 1)
    components: Filters = (directions * np.sign(largest)).reshape(-1, *filters.shape[1:])
    return components


def draw_filters(filters: Filters, columns: int = 16, tile_size: int = 16) -> Image.Image:
    """Returns filters as a grid of tiles, row by row; mode RGB.

    Each filter is scaled by its own largest value; 0 is gray, so that a negated filter shows the
    complementary colors.

    Args:
        filters: float32 [D, P, P, 3].
        columns: tiles in a row.
        tile_size: least side of a tile in pixels; smaller filters are enlarged in whole steps.
    """
    count, side = filters.shape[:2]
    largest = np.abs(filters).max((1, 2, 3), keepdims=True)
    scaled = np.divide(filters, largest, out=np.zeros_like(filters), where=largest > 0)
    tiles = np.rint(127.5 + 127.5 * scaled).astype(np.uint8)
    enlarged = max(1, -(-tile_size // side))
    tiles = tiles.repeat(enlarged, axis=1).repeat(enlarged, axis=2)
    columns = min(columns, count)
    rows = -(-count // columns)
    step = side * enlarged + _GAP
    sheet = np.full((rows * step - _GAP, columns * step - _GAP, _COLORS), _WHITE, np.uint8)
    for number, tile in enumerate(tiles):
        top, left = step * (number // columns), step * (number % columns)
        sheet[top : top + len(tile), left : left + len(tile)] = tile
    return Image.fromarray(sheet)


def _channels_last(weight: Tensor) -> Filters:
    filters: Filters = weight.detach().float().cpu().numpy().transpose(0, 2, 3, 1)
    return filters
