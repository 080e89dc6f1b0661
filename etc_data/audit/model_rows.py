"""The rows of an encrypted patch embedding: what each value of each patch multiplies, and who matches.

Encryption only moves, negates and scales the rows of the plain matrix E (lin2024 eq. 10), so that the
angle between two rows, up to its sign, survives.  Whoever holds the model can measure the rows in any
form of it by sending unit vectors through its layer.
"""

import copy
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from etc_data.audit.assignment import assign
from etc_data.keystream import BoolArray, IntArray
from etc_data.models.patch_embedding import PatchEmbedding

Rows = npt.NDArray[np.float32]

_AT_ONCE = 64


@dataclass(frozen=True)
class Match:
    """Which row each row is, up to sign.

    Attributes:
        order: intp [L]; row l is row ``order[l]`` of the others.
        negated: bool [L]; or its negative.
        likeness: mean |cosine| of the pairs, 1 where all rows are the others'.
    """

    order: IntArray
    negated: BoolArray
    likeness: float


def embedding_rows(embedding: PatchEmbedding) -> Rows:
    """Returns what each value slot of each patch multiplies, float32 [N, L, D].

    Args:
        embedding: of a plain model, or of an encrypted one in any form.
    """
    layout = embedding.layout
    layer = copy.deepcopy(embedding.layer).double().cpu()
    slots = torch.from_numpy(layout.slots())

    def tokens(values: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = layer(values.reshape(-1, *layout.input_shape))
        if layout.kernel is None:
            return found.reshape(len(found), layout.patches, -1)
        return found.flatten(2).transpose(1, 2)

    with torch.inference_mode():
        constant = tokens(torch.zeros(1, slots.numel(), dtype=torch.float64))
        rows = np.empty((layout.patches, layout.values, constant.shape[2]), np.float32)
        for first in range(0, layout.values, _AT_ONCE):
            shown = slots[:, first : first + _AT_ONCE].T
            units = torch.zeros(len(shown), slots.numel(), dtype=torch.float64)
            units.scatter_(1, shown, 1.0)
            rows[:, first : first + _AT_ONCE] = (tokens(units) - constant).transpose(0, 1).numpy()
    return rows


def match_rows(rows: npt.NDArray[np.floating], others: npt.NDArray[np.floating]) -> Match:
    """Returns the matching of rows that makes the sum of all |cosines| greatest.

    Args:
        rows: [L, D]; likewise `others`.
        others: see `rows`.

    Raises:
        EtcError: SciPy is not installed.
    """
    cosines = _units(rows) @ _units(others).T
    likeness = np.abs(cosines)
    order = likeness.argmax(axis=1)
    if len(np.unique(order)) < len(order):  # else the best is at hand
        order = assign(likeness, maximize=True)
    found = cosines[np.arange(len(order)), order]
    return Match(order, found < 0, float(np.abs(found).mean()))


def _units(rows: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))
