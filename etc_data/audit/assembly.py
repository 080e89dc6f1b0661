"""Assembly: from joins of edge lines to a grid of tiles, each turned and put into its tone.

First a constrained spanning tree (Gallagher, Jigsaw puzzles with pieces of unknown orientation, 2012):
the strongest joins are taken first, and each brings two rigid groups of tiles together, turned so that
the joined lines meet; a join that would lay one tile on another, leave the frame, or take a tile out of
the block that the scheme keeps it in, is dropped.  Then the largest group is set into the frame, and
every gap filled with the tile that fits its neighbors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from etc_data.audit.homes import Homes
from etc_data.audit.orientations import (
    INVERSE,
    JOINED,
    OPPOSITE,
    ORIENTATIONS,
    SIDE_BACKWARD,
    SIDE_SOURCE,
    SIDES,
    STEPS,
    orientation_of_side,
    turn_positions,
)
from etc_data.audit.tones import INVERSE as INVERSE_TONE
from etc_data.audit.tones import JOINED as JOINED_TONES
from etc_data.keystream import BoolArray, IntArray

Floats = npt.NDArray[np.float32]

_EMPTY = -1
_NO_NUMBERS = np.empty(0, np.intp)


class Joins(NamedTuple):
    """Joins of two edge lines that may be true, the likeliest first; all of shape [joins].

    Line 4·i + side belongs to tile i; sides as in `orientations`.

    Attributes:
        line: intp.
        other: intp, the line that may lie along it.
        backward: bool, whether the other is read backward.
        tone: intp, the tone in which the other's tile continues the line's tile as it is.
    """

    line: IntArray
    other: IntArray
    backward: BoolArray
    tone: IntArray

    @classmethod
    def concatenate(cls, parts: Sequence["Joins"]) -> "Joins":
        """Returns the joins of all parts, one part after the other."""
        return cls(
            np.concatenate([_NO_NUMBERS, *(part.line for part in parts)]),
            np.concatenate([_NO_NUMBERS, *(part.other for part in parts)]),
            np.concatenate([_NO_NUMBERS > 0, *(part.backward for part in parts)]),
            np.concatenate([_NO_NUMBERS, *(part.tone for part in parts)]),
        )

    def take(self, chosen: IntArray) -> "Joins":
        """Returns some of the joins, by number."""
        return Joins(self.line[chosen], self.other[chosen], self.backward[chosen], self.tone[chosen])


class Fit(Protocol):
    """What tells how well lines fit."""

    def fit(self, line: int, others: IntArray) -> Floats:
        """Returns how well each of `others` continues a line: the more, the better.

        Returns:
            float32 [2, tones, others], by whether it is read backward and by its tone; the tones are
            the first few or all of `tones`.
        """
        ...


@dataclass(frozen=True)
class Layout:
    """A full assembly of tiles.

    Attributes:
        tile_at: intp [rows, columns], which tile lies in each cell.
        orientation: intp [tiles], the orientation it is put into.
        tone: intp [tiles], the tone it is put into.
    """

    tile_at: IntArray
    orientation: IntArray
    tone: IntArray


@dataclass
class _Group:
    """Tiles that lie rigidly together, in a frame of their own."""

    members: IntArray
    positions: IntArray
    cells: set[tuple[int, int]]


class _Puzzle:
    """The groups while they grow: for each tile its group, position, orientation and tone."""

    def __init__(self, tiles: int, rows: int, columns: int, homes: Homes | None) -> None:
        self.frame = max(rows, columns), min(rows, columns)
        self.homes = homes
        self.orientation = np.zeros(tiles, np.intp)
        self.tone = np.zeros(tiles, np.intp)
        self.groups = [_Group(np.array([i]), np.zeros((1, 2), np.intp), {(0, 0)}) for i in range(tiles)]
        self.group_of = list(self.groups)
        self.place_in_group = np.zeros(tiles, np.intp)

    def join(self, line: int, other: int, backward: bool, tone: int) -> None:
        """Lays the line of one tile along that of another, unless they cannot meet."""
        (tile, side), (partner, partner_side) = divmod(line, SIDES), divmod(other, SIDES)
        kept, moved = self.group_of[tile], self.group_of[partner]
        if kept is moved:
            return
        if len(kept.members) < len(moved.members):
            kept, moved = moved, kept
            tile, side, partner, partner_side = partner, partner_side, tile, side
            tone = int(INVERSE_TONE[tone])
        out = int(np.flatnonzero(SIDE_SOURCE[self.orientation[tile]] == side)[0])
        read_backward = bool(SIDE_BACKWARD[self.orientation[tile], out]) != backward
        wanted = orientation_of_side(partner_side, read_backward, int(OPPOSITE[out]))
        turn = int(JOINED[wanted, INVERSE[self.orientation[partner]]])
        pivot = moved.positions[self.place_in_group[partner]]
        target = kept.positions[self.place_in_group[tile]] + STEPS[out]
        positions = turn_positions(moved.positions - pivot, turn) + target
        cells = set(map(tuple, positions.tolist()))
        if kept.cells.isdisjoint(cells) and self._fits(kept, moved.members, positions):
            wanted_tone = JOINED_TONES[self.tone[tile], tone]
            change = int(JOINED_TONES[wanted_tone, INVERSE_TONE[self.tone[partner]]])
            self._merge(kept, moved, positions, cells, turn, change)

    def _fits(self, kept: _Group, members: IntArray, positions: IntArray) -> bool:
        """Whether a group with more tiles still fits into the frame, with all tiles at home."""
        lowest = np.minimum(kept.positions.min(axis=0), positions.min(axis=0))
        extent = np.maximum(kept.positions.max(axis=0), positions.max(axis=0)) - lowest + 1
        if extent.max() > self.frame[0] or extent.min() > self.frame[1]:
            return False
        if self.homes is None:
            return True
        all_members = np.concatenate([kept.members, members])
        return bool(self.homes.offsets(all_members, np.concatenate([kept.positions, positions])))

    def _merge(
        self,
        kept: _Group,
        moved: _Group,
        positions: IntArray,
        cells: set[tuple[int, int]],
        turn: int,
        change: int,
    ) -> None:
        members = moved.members
        self.orientation[members] = JOINED[turn, self.orientation[members]]
        self.tone[members] = JOINED_TONES[change, self.tone[members]]
        self.place_in_group[members] = len(kept.members) + np.arange(len(members))
        kept.members = np.concatenate([kept.members, members])
        kept.positions = np.concatenate([kept.positions, positions])
        kept.cells |= cells
        for member in members.tolist():
            self.group_of[member] = kept


def assemble(joins: Joins, fit: Fit, rows: int, columns: int, homes: Homes | None = None) -> Layout:
    """Returns where each tile lies, how it is turned and which tone it is put into.

    All is relative: one rotation or flip and one tone of the whole stay unknown, unless `homes`
    tell the rotation.

    Args:
        joins: of the lines of rows · columns tiles, the likeliest first.
        fit: tells which tile fills a gap best.
        rows: of the grid; likewise `columns`.
        columns: see `rows`.
        homes: the blocks that tiles never leave; None where they go anywhere.
    """
    puzzle = _Puzzle(rows * columns, rows, columns, homes)
    for join in zip(*(column.tolist() for column in joins), strict=True):
        puzzle.join(*join)
    tile_at = np.full((rows, columns), _EMPTY)
    largest = max(puzzle.group_of, key=lambda group: len(group.members))
    _set_into_frame(puzzle, largest, tile_at)
    _fill(puzzle, tile_at, fit)
    return Layout(tile_at, puzzle.orientation, puzzle.tone)


def _set_into_frame(puzzle: _Puzzle, group: _Group, tile_at: IntArray) -> None:
    """Puts a group into the grid, where its tiles are at home or anywhere that it fits."""
    if puzzle.homes is not None:
        turn, offset = puzzle.homes.offsets(group.members, group.positions)[0]
        positions = turn_positions(group.positions, turn) + offset
    else:
        extent = np.ptp(group.positions, axis=0) + 1
        turn = 0 if (extent <= tile_at.shape).all() else 4
        positions = turn_positions(group.positions, turn)
        positions = positions - positions.min(axis=0)
    tile_at[positions[:, 0], positions[:, 1]] = group.members
    puzzle.orientation[group.members] = JOINED[turn, puzzle.orientation[group.members]]


def _fill(puzzle: _Puzzle, tile_at: IntArray, fit: Fit) -> None:
    """Fills the gaps, the one with the most neighbors first, with the tile that fits best."""
    rows, columns = tile_at.shape
    free = np.ones(rows * columns, np.bool_)
    free[tile_at[tile_at != _EMPTY]] = False
    padded = np.pad(tile_at != _EMPTY, 1)
    while free.any():
        around = padded[:-2, 1:-1].astype(int) + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
        around[tile_at != _EMPTY] = -1
        row, column = divmod(int(around.argmax()), columns)
        at_home = True if puzzle.homes is None else puzzle.homes.at_home_in(row * columns + column)
        candidates = np.flatnonzero(free & at_home)
        fits = _fits_of_cell(puzzle, tile_at, fit, (row, column), candidates)
        number, orientation, tone = np.unravel_index(int(fits.argmax()), fits.shape)
        tile = candidates[number]
        tile_at[row, column] = tile
        puzzle.orientation[tile] = orientation
        puzzle.tone[tile] = tone
        free[tile] = False
        padded[row + 1, column + 1] = True


def _fits_of_cell(
    puzzle: _Puzzle, tile_at: IntArray, fit: Fit, cell: tuple[int, int], candidates: IntArray
) -> Floats:
    """Returns the summed fit with the neighbors of a cell, [candidates, orientations, tones]."""
    total = np.zeros((len(candidates), ORIENTATIONS, 1), np.float32)
    for side, step in enumerate(STEPS):
        row, column = cell[0] + step[0], cell[1] + step[1]
        inside = 0 <= row < tile_at.shape[0] and 0 <= column < tile_at.shape[1]
        if not inside or tile_at[row, column] == _EMPTY:
            continue
        neighbor = int(tile_at[row, column])
        state = puzzle.orientation[neighbor], OPPOSITE[side]
        lines = SIDES * candidates[:, None] + np.arange(SIDES)
        fits = fit.fit(int(SIDES * neighbor + SIDE_SOURCE[state]), lines.reshape(-1))
        fits = fits.reshape(*fits.shape[:2], *lines.shape)
        # Which tone continues the neighbor as it is, for each tone that continues it as it is shown.
        relative = JOINED_TONES[INVERSE_TONE[puzzle.tone[neighbor]]][: fits.shape[1]]
        crossed = (SIDE_BACKWARD[:, side] ^ SIDE_BACKWARD[state]).astype(np.intp)
        fits = fits[crossed[:, None], relative, :, SIDE_SOURCE[:, side][:, None]]
        total = total + fits.transpose(2, 0, 1)
    return total
