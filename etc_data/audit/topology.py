"""The topology attack: many images under one key, and nothing else, give the picture back.

What lay side by side stays correlated over images wherever a fixed key has moved it.  First the values
inside a tile are laid out where the scheme shuffles them (`value_layout`), then the tiles are assembled
by their edges (`edges`, `assembly`) and their color orders matched (`color_orders`).  One rotation or
flip, one polarity and one color order of the whole stay unknown; the eye decides among the 96.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import numpy as np

from etc_data.audit.assembly import Layout, assemble
from etc_data.audit.attack import Criterion, Restoration, timed
from etc_data.audit.color_orders import match_color_orders
from etc_data.audit.edges import correlate_lines, edge_lines
from etc_data.audit.evidence import Bytes, Ciphertexts
from etc_data.audit.homes import Homes
from etc_data.audit.orientations import ORIENTATIONS
from etc_data.audit.pixelwise import match_pixel_colors, match_polarities
from etc_data.audit.smoothness import smoothness
from etc_data.audit.structure import Structure, structure_of
from etc_data.audit.value_layout import correlate_values, lay_out
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

_PARTNERS = 4  # joins considered of each line
_AT_ONCE = 4  # blocks; linear assignment lets other threads run, but takes memory
_MOST_SAMPLES = 20_000  # of a block's values; more make their correlations no better


@dataclass(frozen=True)
class TopologyAttack:
    """The attack on many images under one key.

    Attributes:
        most_images: how many are looked at; more cost memory and time, and add nothing past 1,000.
        shown: how many are restored as pictures.
    """

    most_images: int = 1000
    shown: int = 8

    name: ClassVar[str] = "topology"
    attacker_holds: ClassVar[str] = "encrypted images alone, and the name of the scheme"
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion(
            "visible_joins",
            0.25,
            "a quarter of what is to be seen goes on from tile to tile as in the photo",
        ),
        Criterion(
            "joins",
            0.5,
            "half of all neighbors are neighbors again: large connected parts of every picture show",
        ),
        Criterion(
            "smoothness",
            0.6,
            "across the borders of tiles, values differ 0.4 times as much as random ones of an image; "
            "wrong assemblies reached 0.57, photos 0.7 and more",
        ),
    )

    def run(self, evidence: Ciphertexts) -> Restoration:
        """Returns the restored pictures and the plan that restores every other image.

        Raises:
            ImageError: there are no images.
            EtcError: the scheme shuffles values and SciPy is not installed.
        """
        images = evidence.take(self.most_images)
        structure = structure_of(evidence.scheme)
        decryption, seconds = timed(lambda: find_decryption(images, structure))
        restored = restore(images[: self.shown], decryption)
        observed = {"smoothness": smoothness(restored, structure.tile)}
        return Restoration(restored, decryption, observed, {"images": float(len(images))}, seconds)


def find_decryption(images: Bytes, structure: Structure) -> Plan:
    """Returns the plan that turns encrypted images into pictures, up to one state of the whole.

    Args:
        images: encrypted under one key, uint8 [n, H, W, 3].
        structure: of the scheme.
    """
    if structure.pixelwise:
        return _pixelwise_decryption(images)
    if structure.shuffled is None:
        return _tile_decryption(images, structure)
    inner = _value_decryption(images, structure)
    return inner.then(_tile_decryption(restore(images, inner), structure))


def restore(images: Bytes, decryption: Plan) -> Bytes:
    """Returns images decrypted by a found plan; over halves, each value is its high half's middle.

    Low halves hardly correlate with anything, so that no statistics find their places.
    """
    restored: Bytes = decryption.apply(images)
    return restored & np.uint8(0xF0) | np.uint8(0x08) if decryption.halves else restored


# -- values inside a tile --------------------------------------------------------------------------


def _value_decryption(images: Bytes, structure: Structure) -> Plan:
    """Returns the plan that puts the values inside every tile back into their places."""
    height, width = images.shape[1:3]
    side = structure.tile
    units = _units(images, structure)
    groups = units.transpose(1, 0, 2)
    if structure.assignment == "common":
        groups = units.reshape(1, -1, units.shape[2])
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        rows = np.stack(list(pool.map(partial(_value_row, structure=structure), groups)))
    tiles = (height // side) * (width // side)
    state_of_tile = np.arange(tiles) if len(rows) > 1 else np.zeros(tiles, np.intp)
    halves = structure.shuffled == "half"
    states = StateTable(rows)
    return Plan(height, width, (side, side), np.arange(tiles), states, state_of_tile, halves)


def _units(images: Bytes, structure: Structure) -> Bytes:
    """Returns the shuffled units of each tile, uint8 [images, tiles, units]."""
    count, height, width = images.shape[:3]
    side = structure.tile
    tiles = images.reshape(count, height // side, side, width // side, side, COLORS)
    tiles = tiles.transpose(0, 1, 3, 2, 4, 5).reshape(count, -1, side * side * COLORS)
    if structure.shuffled == "half":
        return np.concatenate([tiles & 0x0F, tiles >> 4], axis=2)
    if structure.shuffled == "pixel":
        pixels = tiles.reshape(*tiles.shape[:2], -1, COLORS)
        return np.asarray(pixels.mean(axis=-1, dtype=np.float32), np.uint8)
    return np.asarray(tiles)


def _value_row(units: Bytes, structure: Structure) -> "np.ndarray[tuple[int], np.dtype[np.int32]]":
    """Returns the signed row of one layout, int32 [values], from units [samples, units]."""
    stride = -(-len(units) // _MOST_SAMPLES)
    correlations = correlate_values(units[::stride])
    colors = 1 if structure.shuffled == "pixel" else COLORS
    if structure.shuffled != "half":
        layout = lay_out(correlations, structure.tile, colors)
        row = np.where(layout.negated[layout.order], ~layout.order, layout.order)
        if structure.shuffled == "pixel":
            sign = row >> 63
            row = (((row ^ sign)[:, None] * COLORS + np.arange(COLORS)) ^ sign[:, None]).reshape(-1)
        return row.astype(np.int32)
    high = _correlated_half(correlations)
    layout = lay_out(correlations[np.ix_(high, high)], structure.tile, colors)
    chosen = high[layout.order]
    low = np.setdiff1d(np.arange(len(correlations)), high)
    return np.concatenate(
        [low, np.where(layout.negated[layout.order], ~chosen, chosen)], dtype=np.int32, casting="unsafe"
    )


def _correlated_half(correlations: "np.ndarray[tuple[int, int], np.dtype[np.float64]]") -> IntArray:
    """Returns the half of the units that correlates most: the high halves of values."""
    strength = np.abs(np.linalg.eigh(correlations)[1][:, -1])
    return np.sort(np.argsort(-strength, kind="stable")[: len(strength) // 2])


# -- tiles -----------------------------------------------------------------------------------------


def _tile_decryption(images: Bytes, structure: Structure) -> Plan:
    """Returns the plan that puts tiles into their places and states."""
    height, width = images.shape[1:3]
    tile = structure.tile
    rows, columns = height // tile, width // tile
    homes = None if structure.home is None else Homes.of(rows, columns, structure.home // tile)
    allowed = None if homes is None else homes.touching()
    correlations = correlate_lines(edge_lines(images, tile), allowed)
    layout = assemble(correlations.joins(_PARTNERS), correlations, rows, columns, homes)
    colors = np.empty(rows * columns, np.intp)
    colors[layout.tile_at.reshape(-1)] = match_color_orders(
        tile_plan(layout, (height, width), tile).apply(images), tile
    )
    return tile_plan(replace(layout, tone=layout.tone + 2 * colors), (height, width), tile)


def tile_plan(layout: Layout, size: tuple[int, int], tile: int) -> Plan:
    """Returns the plan of a layout.

    Args:
        layout: where tiles lie, how they are turned and which tone they are put into.
        size: (height, width) of the image in pixels.
        tile: pixels per side.
    """
    moved = join_shared(polarity_states(tile), orientation_states(tile))
    states = join_shared(color_states(tile), moved)
    order = layout.tile_at.reshape(-1)
    state = layout.tone[order] * ORIENTATIONS + layout.orientation[order]
    return Plan(*size, (tile, tile), order, states, state)


# -- pixels ----------------------------------------------------------------------------------------


def _pixelwise_decryption(images: Bytes) -> Plan:
    height, width = images.shape[1:3]
    numbers = np.arange(height * width * COLORS)
    negated = match_polarities(images)
    states = StateTable(np.where(negated, ~numbers, numbers).astype(np.int32)[None])
    whole = np.zeros(1, np.intp)
    polarity = Plan(height, width, (height, width), whole, states, whole)
    colors = match_pixel_colors(polarity.apply(images))
    order = Plan(height, width, (1, 1), np.arange(height * width), color_states(1), colors)
    return polarity.then(order)
