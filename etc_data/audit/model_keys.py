"""The keys of patches, read off an encrypted model: relative to each other, or against base weights.

Every matrix Ê_i = k_iᵀE (lin2024 eq. 10) is the one matrix E with its rows moved and negated.  So the
rows of two patches match, and tell one key relative to the other; and they match the rows of any matrix
that E was trained from, which tells the keys themselves.  A scrambled position embedding matches its
base in the same way.
"""

import numpy as np
import numpy.typing as npt
from torch import nn

from etc_data.audit.assignment import assign
from etc_data.audit.model_rows import Rows, match_rows
from etc_data.keystream import IntArray
from etc_data.models.patch_keys import PatchKeys
from etc_data.plans import Plan
from etc_data.states import COLORS, StateTable


def keys_against(rows: Rows, base: npt.NDArray[np.floating]) -> tuple[PatchKeys, float]:
    """Returns the keys of all patches relative to a matrix, and how alike its rows and theirs are.

    Args:
        rows: of an encrypted patch embedding, float32 [N, L, D].
        base: rows of patch 0, or of base weights, [L, D].

    Returns:
        keys that leave every patch in its place, and the mean |cosine| of the pairs of rows.
    """
    match = match_rows(rows[0], base)
    matches = [match if np.array_equal(patch, rows[0]) else match_rows(patch, base) for patch in rows]
    keys = PatchKeys(
        np.arange(len(rows)),
        np.stack([match.order for match in matches]),
        np.stack([match.negated for match in matches]),
    )
    return keys, float(np.mean([match.likeness for match in matches]))


def patch_positions(model: nn.Module, name: str, patches: int) -> npt.NDArray[np.float64]:
    """Returns the rows of the patches in a position embedding, [N, D].

    Args:
        model: that has it.
        name: of the parameter.
        patches: N; their rows come last, after those of class and register tokens.
    """
    rows = model.get_parameter(name)[0, -patches:]
    found: npt.NDArray[np.float64] = rows.detach().double().cpu().numpy()
    return found


def match_positions(
    positions: npt.NDArray[np.floating], base: npt.NDArray[np.floating]
) -> tuple[IntArray, float]:
    """Returns which row of the base's position embedding each row is, and how alike they are.

    Args:
        positions: rows of the patches, [N, D]; likewise `base`.
        base: see `positions`.

    Returns:
        `order`: intp [N]; and the mean cosine of the pairs, the mean row taken off.

    Raises:
        EtcError: SciPy is not installed.
    """
    cosines = _directions(positions) @ _directions(base).T
    order = assign(cosines, maximize=True)
    return order, float(cosines[np.arange(len(order)), order].mean())


def closeness_of_positions(positions: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Returns how close the positions of each two patches are, as far as their embedding tells.

    Learned positions of neighbors grow alike (Dosovitskiy et al. 2021, Fig. 7), and scrambling only
    moves the rows.

    Args:
        positions: rows of the patches, [N, D].

    Returns:
        The cosines, the mean row taken off, [N, N]; of mean 0 and variance 1 over pairs of patches.
    """
    directions = _directions(positions)
    cosines = directions @ directions.T
    pairs = cosines[~np.eye(len(cosines), dtype=bool)]
    return np.asarray((cosines - pairs.mean()) / max(float(pairs.std()), 1e-12))


def _directions(positions: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    centered = positions - positions.mean(axis=0)
    lengths = np.linalg.norm(centered, axis=1, keepdims=True)
    return np.asarray(centered / np.maximum(lengths, 1e-12))


def plan_of_keys(keys: PatchKeys, source: IntArray, height: int, width: int) -> Plan:
    """Returns the plan that encrypts images as the keys say, the inverse of `PatchKeys.of_plan`.

    Args:
        keys: of the N patches.
        source: intp [N, L], the image value at each slot of each patch (see `PatchEmbedding`).
        height: of the image in pixels; likewise `width`.
        width: see `height`.
    """
    taken = source[keys.patch_order[:, None], keys.order]
    # From numbers (c, y, x) to numbers (y, x, c).
    number = np.arange(source.size).reshape(height, width, COLORS).transpose(2, 0, 1).reshape(-1)
    row = np.empty(source.size, np.int32)
    row[number[source]] = np.where(keys.negated, ~number[taken], number[taken])
    whole = np.zeros(1, np.intp)
    return Plan(height, width, (height, width), whole, StateTable(row[None]), whole)
