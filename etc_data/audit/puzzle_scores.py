"""Puzzle scores: how much of a scrambled picture an assembly restored, block by block.

As in work on jigsaw solvers against EtC images (Cho et al., A probabilistic image jigsaw puzzle solver,
2010; Gallagher 2012; Chuman and Kiya 2023).  Everything is up to one state of the whole image.
"""

from collections.abc import Mapping

import numpy as np

from etc_data.keystream import BoolArray


def puzzle_scores(in_place: BoolArray, across: BoolArray, down: BoolArray) -> Mapping[str, float]:
    """Returns direct comparison, neighbor comparison and largest component, each from 0 to 1.

    ``dc``: the share of blocks in their place and state.  ``nc``: the share of the 2uv − u − v joins
    of the restored image that are joins of the plain one.  ``lc``: the share of blocks in the largest
    part held together by such joins.

    Args:
        in_place: bool [rows, columns], of each block.
        across: bool [rows, columns − 1], whether a block and the next one in its row belong together.
        down: bool [rows − 1, columns], the same for columns.
    """
    joins = np.concatenate([across.reshape(-1), down.reshape(-1)])
    return {
        "dc": float(in_place.mean()),
        "nc": float(joins.mean()) if len(joins) else 1.0,
        "lc": largest_component(across, down) / in_place.size,
    }


def largest_component(across: BoolArray, down: BoolArray) -> int:
    """Returns how many blocks the largest part has that is held together by joins."""
    rows, columns = len(across), down.shape[1]
    label = np.arange(rows * columns).reshape(rows, columns)
    while True:
        before = label.copy()
        for joined, here, there in (
            (across, label[:, :-1], label[:, 1:]),
            (down, label[:-1], label[1:]),
        ):
            np.minimum(here, there, out=here, where=joined)
            np.minimum(here, there, out=there, where=joined)
        if np.array_equal(before, label):
            return int(np.bincount(label.reshape(-1)).max())
