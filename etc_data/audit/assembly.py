"""Assembly: from correlations of edge lines to a grid of tiles, each turned and of known polarity.

First a constrained spanning tree (Gallagher, Jigsaw puzzles with pieces of unknown orientation, 2012):
the strongest joins are taken first, and each brings two rigid groups of tiles together, turned so that
the joined lines meet; a join that would lay one tile on another, or leave the frame, is dropped.  Then
the largest group is set into the frame, and every gap filled with the tile that fits its neighbors.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from etc_data.audit.edges import LineCorrelations
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
from etc_data.keystream import BoolArray, IntArray

_PARTNERS = 4  # joins considered of each line
_EMPTY = -1


@dataclass(frozen=True)
class Layout:
    """A full assembly of tiles.

    Attributes:
        tile_at: intp [rows, columns], which tile lies in each cell.
        orientation: intp [tiles], the orientation it is put into.
        negated: bool [tiles], whether it is then negated.
    """

    tile_at: IntArray
    orientation: IntArray
    negated: BoolArray


@dataclass
class _Group:
    """Tiles that lie rigidly together, in a frame of their own."""

    members: IntArray
    positions: IntArray
    cells: set[tuple[int, int]]


class _Puzzle:
    """The groups while they grow: for each tile its group, position, orientation and polarity."""

    def __init__(self, tiles: int, rows: int, columns: int) -> None:
        self.frame = max(rows, columns), min(rows, columns)
        self.orientation = np.zeros(tiles, np.intp)
        self.negated = np.zeros(tiles, np.bool_)
        self.groups = [_Group(np.array([i]), np.zeros((1, 2), np.intp), {(0, 0)}) for i in range(tiles)]
        self.group_of = list(self.groups)
        self.place_in_group = np.zeros(tiles, np.intp)

    def join(self, line: int, other: int, backward: bool, negative: bool) -> None:
        """Lays the line of one tile along that of another, unless they cannot meet."""
        (tile, side), (partner, partner_side) = divmod(line, SIDES), divmod(other, SIDES)
        kept, moved = self.group_of[tile], self.group_of[partner]
        if kept is moved:
            return
        if len(kept.members) < len(moved.members):
            kept, moved = moved, kept
            tile, side, partner, partner_side = partner, partner_side, tile, side
        out = int(np.flatnonzero(SIDE_SOURCE[self.orientation[tile]] == side)[0])
        read_backward = bool(SIDE_BACKWARD[self.orientation[tile], out]) != backward
        wanted = orientation_of_side(partner_side, read_backward, int(OPPOSITE[out]))
        turn = int(JOINED[wanted, INVERSE[self.orientation[partner]]])
        pivot = moved.positions[self.place_in_group[partner]]
        target = kept.positions[self.place_in_group[tile]] + STEPS[out]
        positions = turn_positions(moved.positions - pivot, turn) + target
        cells = set(map(tuple, positions.tolist()))
        if kept.cells.isdisjoint(cells) and self._fits(kept.positions, positions):
            flip = bool(self.negated[tile] ^ self.negated[partner]) != negative
            self._merge(kept, moved, positions, cells, turn, flip)

    def _fits(self, positions: IntArray, more: IntArray) -> bool:
        lowest = np.minimum(positions.min(axis=0), more.min(axis=0))
        extent = np.maximum(positions.max(axis=0), more.max(axis=0)) - lowest + 1
        return bool(extent.max() <= self.frame[0] and extent.min() <= self.frame[1])

    def _merge(
        self,
        kept: _Group,
        moved: _Group,
        positions: IntArray,
        cells: set[tuple[int, int]],
        turn: int,
        flip: bool,
    ) -> None:
        members = moved.members
        self.orientation[members] = JOINED[turn, self.orientation[members]]
        self.negated[members] ^= flip
        self.place_in_group[members] = len(kept.members) + np.arange(len(members))
        kept.members = np.concatenate([kept.members, members])
        kept.positions = np.concatenate([kept.positions, positions])
        kept.cells |= cells
        for member in members.tolist():
            self.group_of[member] = kept


def assemble(
    correlations: LineCorrelations, rows: int, columns: int, home: IntArray | None = None
) -> Layout:
    """Returns where each tile lies, how it is turned and whether it is negated.

    All is relative: one rotation or flip and one polarity of the whole stay unknown, unless `home`
    tells the rotation.

    Args:
        correlations: of the lines of rows · columns tiles.
        rows: of the grid; likewise `columns`.
        columns: see `rows`.
        home: intp [tiles], where the scheme leaves tiles in a known block: the block's number; tile
            i of the raster lies in block ``home[i]`` of the plain image too.  None for anywhere.
    """
    puzzle = _Puzzle(rows * columns, rows, columns)
    partner, backward, rho = correlations.best_partners(min(_PARTNERS, 2 * len(correlations.forward)))
    order = np.argsort(-np.abs(rho), axis=None, kind="stable")
    for number in order.tolist():
        line, rank = divmod(number, partner.shape[1])
        if rho[line, rank]:
            puzzle.join(
                line, int(partner[line, rank]), bool(backward[line, rank]), bool(rho[line, rank] < 0)
            )
    tile_at = np.full((rows, columns), _EMPTY)
    largest = max(puzzle.group_of, key=lambda group: len(group.members))
    _set_into_frame(puzzle, largest, tile_at, home)
    _fill(puzzle, tile_at, correlations, home)
    return Layout(tile_at, puzzle.orientation, puzzle.negated)


def _set_into_frame(puzzle: _Puzzle, group: _Group, tile_at: IntArray, home: IntArray | None) -> None:
    """Puts a group into the grid where it fits, and where most of its tiles are at home."""
    members = group.members
    best: tuple[int, int, IntArray] | None = None
    turns = range(ORIENTATIONS) if home is not None else (0, 4)
    for turn in turns:
        positions = turn_positions(group.positions, turn)
        positions = positions - positions.min(axis=0)
        extent = positions.max(axis=0) + 1
        if (extent > tile_at.shape).any():
            continue
        for row in range(tile_at.shape[0] - extent[0] + 1):
            for column in range(tile_at.shape[1] - extent[1] + 1):
                cells = (positions + np.array([row, column])) @ (tile_at.shape[1], 1)
                at_home = 0 if home is None else int((home[cells] == home[members]).sum())
                if best is None or at_home > best[0]:
                    best = at_home, turn, cells
    assert best is not None, "a group never outgrows the frame"
    _, turn, cells = best
    if home is not None:
        keep = home[cells] == home[members]
        members, cells = members[keep], cells[keep]
    tile_at.reshape(-1)[cells] = members
    puzzle.orientation[members] = JOINED[turn, puzzle.orientation[members]]


def _fill(
    puzzle: _Puzzle, tile_at: IntArray, correlations: LineCorrelations, home: IntArray | None
) -> None:
    """Fills the gaps, the one with the most neighbors first, with the tile that fits best."""
    both = np.stack([correlations.forward, correlations.backward])
    rows, columns = tile_at.shape
    free = np.ones(rows * columns, np.bool_)
    free[tile_at[tile_at != _EMPTY]] = False
    padded = np.pad(tile_at != _EMPTY, 1)
    while free.any():
        around = padded[:-2, 1:-1].astype(int) + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
        around[tile_at != _EMPTY] = -1
        row, column = divmod(int(around.argmax()), columns)
        candidates = np.flatnonzero(
            free if home is None else free & (home == home[row * columns + column])
        )
        fit = _fit(puzzle, tile_at, both, (row, column), candidates)
        number, orientation = np.unravel_index(int(np.abs(fit).argmax()), fit.shape)
        tile = candidates[number]
        tile_at[row, column] = tile
        puzzle.orientation[tile] = orientation
        puzzle.negated[tile] = fit[number, orientation] < 0
        free[tile] = False
        padded[row + 1, column + 1] = True


def _fit(
    puzzle: _Puzzle,
    tile_at: IntArray,
    both: npt.NDArray[np.float16],
    cell: tuple[int, int],
    candidates: IntArray,
) -> npt.NDArray[np.float32]:
    """Returns the summed correlation with the neighbors of a cell, [candidates, orientations]."""
    fit = np.zeros((len(candidates), ORIENTATIONS), np.float32)
    for side, step in enumerate(STEPS):
        row, column = cell[0] + step[0], cell[1] + step[1]
        inside = 0 <= row < tile_at.shape[0] and 0 <= column < tile_at.shape[1]
        if not inside or tile_at[row, column] == _EMPTY:
            continue
        neighbor = int(tile_at[row, column])
        state = puzzle.orientation[neighbor], OPPOSITE[side]
        line = SIDES * neighbor + SIDE_SOURCE[state]
        crossed = SIDE_BACKWARD[:, side] ^ SIDE_BACKWARD[state]
        lines = SIDES * candidates[:, None] + SIDE_SOURCE[:, side]
        sign = -1 if puzzle.negated[neighbor] else 1
        fit += sign * both[crossed.astype(np.intp), line, lines]
    return fit
