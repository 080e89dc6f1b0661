"""Known plaintext: how few pairs of plain and encrypted images give a fixed key's plan away.

Each tile of the encrypted image is some tile of the plain one in one of 96 states, and each shuffled
value is some value of its tile or its negative: over all pairs, the right partner costs nothing.  One
pair is enough where tiles move whole or many blocks share a plan; a shuffle per block needs a few.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from etc_data.audit.assignment import assign
from etc_data.audit.attack import Criterion, Restoration, timed
from etc_data.audit.evidence import Bytes, KnownPairs
from etc_data.audit.structure import Structure, structure_of
from etc_data.keystream import IntArray
from etc_data.plans import Plan
from etc_data.states import (
    COLORS,
    StateTable,
    color_states,
    join_shared,
    orientation_states,
    polarity_states,
)


@dataclass(frozen=True)
class KnownPlaintextAttack:
    """The attack of one who has some plain images with their encrypted form."""

    name: ClassVar[str] = "known plaintext"
    attacker_holds: ClassVar[str] = "plain images with their encrypted form, and other encrypted images"
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("values", 0.5, "half of all values of every other image of the set are read"),
    )

    def run(self, evidence: KnownPairs) -> Restoration:
        """Returns the plan that the pairs give, and the other images decrypted by it.

        Raises:
            EtcError: SciPy is not installed.
        """
        structure = structure_of(evidence.scheme)
        plan, seconds = timed(lambda: find_plan(evidence.plain, evidence.encrypted, structure))
        decryption = plan.inverse()
        pairs = float(len(evidence.plain))
        return Restoration(decryption.apply(evidence.others), decryption, {}, {"pairs": pairs}, seconds)


def find_plan(plain: Bytes, encrypted: Bytes, structure: Structure) -> Plan:
    """Returns the plan that fits pairs best, from plain to encrypted.

    Args:
        plain: uint8 [n, H, W, 3]; likewise `encrypted`.
        encrypted: see `plain`.
        structure: of the scheme.
    """
    height, width = plain.shape[1:3]
    side = structure.tile
    ours, theirs = _tiles(plain, side), _tiles(encrypted, side)
    if structure.shuffled is None and not structure.pixelwise:
        return _plan_of_tiles(ours, theirs, (height, width), side)
    tiles = ours.shape[1]
    order = np.arange(tiles) if structure.home is not None else _match_contents(ours, theirs, structure)
    ours = ours[:, order]
    halves = structure.shuffled == "half"
    unit = COLORS if structure.shuffled == "pixel" else 1
    if structure.shuffled is not None and structure.assignment == "common":
        ours, theirs = (x.reshape(-1, 1, x.shape[2]) for x in (ours, theirs))
    rows = np.stack([_signed_row(ours[:, i], theirs[:, i], unit, halves) for i in range(ours.shape[1])])
    state_of_tile = np.arange(tiles) if len(rows) > 1 else np.zeros(tiles, np.intp)
    return Plan(height, width, (side, side), order, StateTable(rows), state_of_tile, halves)


def _tiles(images: Bytes, side: int) -> Bytes:
    count, height, width = images.shape[:3]
    grid = images.reshape(count, height // side, side, width // side, side, COLORS)
    return grid.transpose(0, 1, 3, 2, 4, 5).reshape(count, -1, side * side * COLORS)


def _plan_of_tiles(ours: Bytes, theirs: Bytes, size: tuple[int, int], side: int) -> Plan:
    """Returns the plan of tiles that moved as a whole, by the distance of every two in every state."""
    moved = join_shared(polarity_states(side), orientation_states(side))
    states = join_shared(color_states(side), moved)
    tiles = ours.shape[1]
    plain = ours.transpose(1, 0, 2).astype(np.float32) / 255
    target = theirs.transpose(1, 0, 2).reshape(tiles, -1).astype(np.float32) / 255
    best = np.full((tiles, tiles), np.inf, np.float32)
    state = np.zeros((tiles, tiles), np.intp)
    length = (target**2).sum(axis=1)[:, None]
    for number, row in enumerate(states.rows):
        put = np.where(row < 0, 1 - plain[..., ~row * (row < 0)], plain[..., row * (row >= 0)])
        put = put.reshape(tiles, -1)
        costs = length + (put**2).sum(axis=1) - 2 * target @ put.T
        better = costs < best
        best[better], state[better] = costs[better], number
    order = assign(best)
    return Plan(*size, (side, side), order, states, state[np.arange(tiles), order])


def _match_contents(ours: Bytes, theirs: Bytes, structure: Structure) -> IntArray:
    """Returns which plain tile has the values of each encrypted one, whatever their order and signs."""
    signatures = []
    for tiles in (ours, theirs):
        units = np.concatenate([tiles & 15, tiles >> 4], axis=2) if structure.values == 6 else tiles
        folded = np.minimum(units, (15 if structure.values == 6 else 255) - units)
        signature = np.sort(folded, axis=2).transpose(1, 0, 2).reshape(tiles.shape[1], -1)
        signatures.append(signature.astype(np.float32))
    mine, wanted = signatures
    squares = (wanted**2).sum(axis=1)[:, None] + (mine**2).sum(axis=1)
    return assign(squares - 2 * wanted @ mine.T)


def _signed_row(
    ours: Bytes, theirs: Bytes, unit: int, halves: bool
) -> "np.ndarray[tuple[int], np.dtype[np.int32]]":
    """Returns which value each encrypted value takes, and with which sign, int32 [values]."""
    if halves:
        ours, theirs = (np.concatenate([x & 15, x >> 4], axis=1) for x in (ours, theirs))
    peak = 15.0 if halves else 255.0
    mine, wanted = _by_unit(ours, unit), _by_unit(theirs, unit)
    kept, negated = _distances(wanted, mine), _distances(wanted, peak - mine)
    order = assign(np.minimum(kept, negated))
    here = np.arange(len(order))
    row = np.where(negated[here, order] < kept[here, order], ~order, order)
    if unit > 1:
        sign = row >> 63
        row = (((row ^ sign)[:, None] * unit + np.arange(unit)) ^ sign[:, None]).reshape(-1)
    return row.astype(np.int32)


def _by_unit(tiles: Bytes, unit: int) -> npt.NDArray[np.float64]:
    """Returns the values of each unit over all samples, [units, samples · values of a unit]."""
    units = tiles.reshape(len(tiles), -1, unit).transpose(1, 0, 2)
    return units.reshape(units.shape[0], -1).astype(np.float64)


def _distances(
    wanted: npt.NDArray[np.float64], mine: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    squares = (wanted**2).sum(axis=1)[:, None] + (mine**2).sum(axis=1)
    return np.asarray(squares - 2 * wanted @ mine.T)
