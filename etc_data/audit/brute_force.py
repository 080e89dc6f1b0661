"""Brute force: every key of a small key space, judged by how smooth the picture becomes.

Where all blocks share one state (``com-16``), the 96 states are tried one by one.  Where they share the
arrangement and states of their four sub-blocks (``com-16/8``), the key space of 2^30.9 need not be
walked: how well two sub-blocks fit side by side depends on these two alone, so the costs of all pairs
are tabled once (4 × 96 states each) and the arrangements are put together from the tables.  Small
images whose four blocks were scrambled (``etc-16`` at 32 pixels, 2^30.9 too) are the same.
"""

from dataclasses import dataclass
from itertools import permutations
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from etc_data.audit.attack import Criterion, Restoration, timed
from etc_data.audit.evidence import Bytes, Ciphertexts
from etc_data.audit.smoothness import smoothness
from etc_data.audit.structure import structure_of
from etc_data.errors import SchemeError
from etc_data.keystream import IntArray
from etc_data.operations import ScrambleBlocks, ScrambleSubBlocks
from etc_data.plans import Plan, tiles_of_blocks
from etc_data.schemes import Scheme
from etc_data.states import (
    StateTable,
    color_states,
    join_shared,
    orientation_states,
    polarity_states,
)

Costs = npt.NDArray[np.float32]


@dataclass(frozen=True)
class BruteForce:
    """The search of all keys of a scheme whose key space is small.

    Attributes:
        images: how many ciphertexts vote; one is enough.
    """

    images: int = 1

    name: ClassVar[str] = "brute force"
    attacker_holds: ClassVar[str] = "one encrypted image, and the name of the scheme"
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion(
            "values",
            0.9,
            "nine of ten values are in place up to one state of the whole; below that the key is wrong",
        ),
        Criterion("smoothness", 0.5, "tiles meet as in a photo only under the right key"),
    )

    def run(self, evidence: Ciphertexts) -> Restoration:
        """Returns the smoothest picture of all keys.

        Raises:
            SchemeError: the key space of the scheme for this size cannot be searched.
        """
        images = evidence.take(self.images)
        unit = search_unit(evidence.scheme, *images.shape[1:3])
        decryption, seconds = timed(lambda: _smoothest(images, *unit))
        restored = decryption.apply(images)
        tile = structure_of(evidence.scheme).tile
        bits = evidence.scheme.key_space_bits(*images.shape[1:3])
        return Restoration(
            restored,
            decryption,
            {"smoothness": smoothness(restored, tile)},
            {"key_space_bits": bits, "images": float(len(images))},
            seconds,
        )


def search_unit(scheme: Scheme, height: int, width: int) -> tuple[int, int]:
    """Returns (block, tile) in pixels: the same draws hold in every block, of at most 4 tiles.

    Raises:
        SchemeError: the key space cannot be searched in this way.
    """
    structure = structure_of(scheme)
    tile = structure.tile
    kinds = {step.assignment for step in scheme.steps if hasattr(step, "assignment")}
    scrambled = [step for step in scheme.steps if isinstance(step, ScrambleBlocks)]
    within = [step.block_size for step in scheme.steps if isinstance(step, ScrambleSubBlocks)]
    if structure.shuffled is None and not structure.pixelwise:
        if not scrambled and kinds == {"common"}:
            block = max(within, default=tile)
            if (block // tile) ** 2 in (1, 4):
                return block, tile
        if height == width == 2 * tile and not within:
            return height, tile
    raise SchemeError(
        f"the key space of {scheme.name} at {height}×{width} is "
        f"2^{scheme.key_space_bits(height, width):.1f} and does not fall apart; it is not searched"
    )


def _all_states(tile: int) -> StateTable:
    """Returns the 96 states of a tile."""
    moved = join_shared(polarity_states(tile), orientation_states(tile))
    return join_shared(color_states(tile), moved)


def _smoothest(images: Bytes, block: int, tile: int) -> Plan:
    """Returns the plan, of all the key space has, under which tiles meet best."""
    if block == tile:
        return turn_alike(images, block)
    inside = arrange_alike(images, block, tile)
    # A block's own four tiles meet as well when all of it is turned; its neighbors tell.
    return inside.then(turn_alike(inside.apply(images), block))


def arrange_alike(images: Bytes, block: int, tile: int) -> Plan:
    """Returns the plan that arranges the four tiles of all blocks alike, so that they meet best.

    One state of all blocks stays unknown.

    Args:
        images: uint8 [n, H, W, 3].
        block: pixels per side, two tiles.
        tile: pixels per side.
    """
    height, width = images.shape[1:3]
    states = _all_states(tile)
    blocks = tiles_of_blocks(height, width, (block, block), (tile, tile))
    place, state = _best_four(_tiles(images, tile)[:, blocks], states, tile)
    order, state_of_tile = np.empty(blocks.size, np.intp), np.empty(blocks.size, np.intp)
    order[blocks], state_of_tile[blocks] = blocks[:, place], state
    return Plan(height, width, (tile, tile), order, states, state_of_tile)


def turn_alike(images: Bytes, block: int) -> Plan:
    """Returns the plan that puts all blocks into the one state under which neighbors meet best.

    Args:
        images: uint8 [n, H, W, 3].
        block: pixels per side.
    """
    height, width = images.shape[1:3]
    rows, columns = height // block, width // block
    states = _all_states(block)
    best = _best_state(_tiles(images, block), states, rows, columns)
    count = rows * columns
    return Plan(height, width, (block, block), np.arange(count), states, np.full(count, best))


def _tiles(images: Bytes, tile: int) -> Bytes:
    """Returns the tiles of images, uint8 [images, tiles, values]."""
    count, height, width = images.shape[:3]
    grid = images.reshape(count, height // tile, tile, width // tile, tile, 3)
    return grid.transpose(0, 1, 3, 2, 4, 5).reshape(count, -1, tile * tile * 3)


def _put(tiles: Bytes, states: StateTable) -> Bytes:
    """Returns tiles in every state, uint8 [96, ..., values]."""
    rows = states.rows
    sign = (rows >> 31).astype(np.uint8)
    return np.stack(
        [tiles[..., row ^ (row >> 31)] ^ mask for row, mask in zip(rows, sign, strict=True)]
    )


def _best_state(tiles: Bytes, states: StateTable, rows: int, columns: int) -> int:
    if rows * columns == 1:
        return 0
    side = int((tiles.shape[-1] // 3) ** 0.5)
    pictures = _put(tiles, states).reshape(len(states), -1, rows, columns, side, side, 3)
    pictures = pictures.astype(np.int16)
    across = np.abs(pictures[:, :, :, :-1, :, -1] - pictures[:, :, :, 1:, :, 0])
    down = np.abs(pictures[:, :, :-1, :, -1] - pictures[:, :, 1:, :, 0])
    return int((across.sum(axis=(1, 2, 3, 4, 5)) + down.sum(axis=(1, 2, 3, 4, 5))).argmin())


def _best_four(tiles: Bytes, states: StateTable, side: int) -> tuple[IntArray, IntArray]:
    """Returns the places and states of the 4 tiles of a block under which they meet best.

    The cost of [a b / c d] is across(a, b) + across(c, d) + down(a, c) + down(b, d), so that the best b
    and c are found for every pair (a, d) apart: 96³ sums instead of 96⁴.

    Args:
        tiles: uint8 [images, blocks, 4, values].
        states: the 96.
        side: pixels per side of a tile.
    """
    put = _put(tiles, states)
    shape = (*put.shape[:4], side, side, 3)
    put = put.reshape(shape)
    across, down = _pair_costs(put, axis=5), _pair_costs(put, axis=4)
    best: tuple[float, tuple[int, ...], tuple[int, ...]] | None = None
    for a, b, c, d in permutations(range(4)):
        by_b = _meeting(across[a, b], down[b, d])
        by_c = _meeting(down[a, c], across[c, d])
        total = by_b[0] + by_c[0]
        first, last = np.unravel_index(int(total.argmin()), total.shape)
        states_found = (int(first), int(by_b[1][first, last]), int(by_c[1][first, last]), int(last))
        if best is None or total[first, last] < best[0]:
            best = float(total[first, last]), (a, b, c, d), states_found
    assert best is not None
    return np.array(best[1]), np.array(best[2])


def _meeting(first: Costs, second: Costs) -> tuple[Costs, IntArray]:
    """Returns the least first[a, x] + second[x, d] over x, and that x, both [96, 96]."""
    sums = first[:, :, None] + second[None]
    return sums.min(axis=1), sums.argmin(axis=1)


def _pair_costs(put: Bytes, axis: int) -> Costs:
    """Returns the cost of each two tiles in each two states side by side, [4, 4, 96, 96]."""
    last = np.take(put, -1, axis=axis).transpose(3, 0, 1, 2, 4, 5)
    first = np.take(put, 0, axis=axis).transpose(3, 0, 1, 2, 4, 5)
    flat_last, flat_first = (x.reshape(4, len(put), -1).astype(np.float32) / 255 for x in (last, first))
    costs = np.empty((4, 4, len(put), len(put)), np.float32)
    for i in range(4):
        for j in range(4):
            squares = (flat_last[i] ** 2).sum(axis=1)[:, None] + (flat_first[j] ** 2).sum(axis=1)
            costs[i, j] = squares - 2 * flat_last[i] @ flat_first[j].T
    return costs
