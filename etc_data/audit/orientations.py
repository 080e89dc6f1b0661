"""The algebra of the 8 orientations of a square: how sides, positions and orientations follow them.

Orientations are numbered as in `states.orientation_states`: ``4·t + 2·v + h``, transpose if t, then
flip upside down if v, then left to right if h.  Sides are 0 top, 1 bottom, 2 left, 3 right; the line of
a side is read left to right or top to bottom.
"""

import numpy as np
import numpy.typing as npt

from etc_data.keystream import IntArray

ORIENTATIONS = 8
SIDES = 4
OPPOSITE = np.array([1, 0, 3, 2])
STEPS = np.array([[-1, 0], [1, 0], [0, -1], [0, 1]])
"""The (row, column) step that leaves a tile through each side."""


def orient(tile: npt.NDArray[np.generic], code: int) -> npt.NDArray[np.generic]:
    """Returns an array [h, w, …] in an orientation; a view."""
    tile = tile.swapaxes(0, 1) if code & 4 else tile
    tile = tile[::-1] if code & 2 else tile
    return tile[:, ::-1] if code & 1 else tile


def turn_positions(positions: IntArray, code: int) -> IntArray:
    """Returns where (row, column) vectors [..., 2] go around the origin when all is put into `code`."""
    turned = positions[..., ::-1] if code & 4 else positions
    return np.asarray(turned * np.array([-1 if code & 2 else 1, -1 if code & 1 else 1]))


def _lines(tile: npt.NDArray[np.generic]) -> list[tuple[int, ...]]:
    sides = tile[0], tile[-1], tile[:, 0], tile[:, -1]
    return [tuple(side.tolist()) for side in sides]


def _tables() -> tuple[IntArray, npt.NDArray[np.bool_], IntArray, IntArray]:
    square = np.arange(9).reshape(3, 3)
    turned = [orient(square, code) for code in range(ORIENTATIONS)]
    lines = _lines(square)
    source = np.zeros((ORIENTATIONS, SIDES), np.intp)
    backward = np.zeros((ORIENTATIONS, SIDES), np.bool_)
    for code, tile in enumerate(turned):
        for side, line in enumerate(_lines(tile)):
            backward[code, side] = line not in lines
            source[code, side] = lines.index(line[::-1] if backward[code, side] else line)
    number = {tile.tobytes(): code for code, tile in enumerate(turned)}
    joined = np.array(
        [[number[orient(tile, second).tobytes()] for tile in turned] for second in range(ORIENTATIONS)]
    )
    return source, backward, joined, joined.argmin(axis=1)


SIDE_SOURCE, SIDE_BACKWARD, JOINED, INVERSE = _tables()
"""Side s of a tile in orientation o is side ``SIDE_SOURCE[o, s]`` of the tile, read backward where
``SIDE_BACKWARD[o, s]``; ``JOINED[b, a]`` is a and then b; ``INVERSE[a]`` undoes a."""


def orientation_of_side(source: int, backward: bool, side: int) -> int:
    """Returns the one orientation in which the line of `source` lies on `side`, backward or not."""
    match = (SIDE_SOURCE[:, side] == source) & (SIDE_BACKWARD[:, side] == backward)
    return int(match.argmax())
