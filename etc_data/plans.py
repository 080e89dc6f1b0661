"""`Plan`: what a key decides for one image size — a signed permutation of all values.

A plan sees an image as N tiles of h × w pixels in raster order.  Output tile i comes from input tile
``tile_order[i]`` and is put into state ``states.rows[state_of_tile[i]]`` (see `states`).  A tile is
the largest square that the plan moves as a whole: a sub-block where the scheme has sub-blocks, else
a block.  Plans join, invert, and apply to NumPy arrays and torch tensors alike; the same plan later
rewrites the patch embedding of a model (lin2024 eq. 10–11).
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import gcd, lcm
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from etc_data.errors import GeometryError, ImageError, PlanError
from etc_data.keystream import BoolArray, IntArray
from etc_data.states import (
    COLORS,
    SignedRows,
    StateTable,
    identity_states,
    invert_rows,
    invert_shared,
    join_rows,
    join_shared,
    taken_values,
)

Layout = Literal["hwc", "chw"]

# Tables of all joined states are shared while they are small (an EtC block has 96 states).  They grow
# with every step, so that beyond this only the states that occur are kept.
_MAX_SHARED_STATES = 1024


@dataclass(frozen=True, eq=False)
class Plan:
    """A signed permutation of the values of an image of `height` × `width` pixels, 3 components.

    Attributes:
        height: pixels.
        width: pixels.
        tile: (height, width) of a tile in pixels; it divides the image.
        tile_order: intp [N]; output tile i comes from input tile ``tile_order[i]``.
        states: the states that occur, int32 [T, L]; T is 1 where the key assignment is common.
        state_of_tile: intp [N]; the row of `states` that output tile i is put into.
        halves: whether the values are 4-bit halves of bytes (LE, ELE), 2L in a tile.

    A plan is as secret as the key for images of its size; its `repr` shows the geometry alone.
    """

    height: int
    width: int
    tile: tuple[int, int]
    tile_order: IntArray
    states: StateTable
    state_of_tile: IntArray
    halves: bool = False

    @classmethod
    def identity(cls, height: int, width: int, tile: tuple[int, int]) -> "Plan":
        """Returns the plan that changes nothing."""
        count = (height // tile[0]) * (width // tile[1])
        return cls(
            height, width, tile, np.arange(count), identity_states(*tile), np.zeros(count, np.intp)
        )

    def __post_init__(self) -> None:
        if self.height % self.tile[0] or self.width % self.tile[1]:
            raise GeometryError(
                f"tiles of {self.tile[0]}×{self.tile[1]} pixels do not divide an image of "
                f"{self.height}×{self.width}"
            )

    def __repr__(self) -> str:
        return f"Plan({self.height}×{self.width} pixels, {len(self.tile_order)} tiles)"

    # -- the two rows of DESIGN's block form ----------------------------------------------------

    @property
    def value_order(self) -> IntArray:
        """Which value each output value takes, intp [1 or N, L]; one row where all tiles agree."""
        return taken_values(self._rows()).astype(np.intp)

    @property
    def negate(self) -> BoolArray:
        """Which output values are negated, bool [1 or N, L]."""
        return self._rows() < 0

    def _rows(self) -> SignedRows:
        rows = self.states.rows
        if len(rows) == 1 or not np.any(self.state_of_tile != self.state_of_tile[0]):
            return rows[self.state_of_tile[:1]]
        return rows[self.state_of_tile]

    # -- algebra --------------------------------------------------------------------------------

    def then(self, second: "Plan") -> "Plan":
        """Returns the plan that acts as this one and then as `second`.

        Raises:
            PlanError: the plans are for images of different sizes.
        """
        if (self.height, self.width) != (second.height, second.width):
            raise PlanError(f"plans of different sizes cannot be joined: {self} and {second}")
        if self.halves != second.halves:
            return self.in_halves().then(second.in_halves())
        if self.tile != second.tile:
            tile = _common_tile(self, second)
            return self.regrouped(tile).then(second.regrouped(tile))
        first_state = self.state_of_tile[second.tile_order]
        pairs = second.state_of_tile * len(self.states) + first_state
        every_pair = len(self.states) * len(second.states)
        if self.states.shared and second.states.shared and every_pair <= _MAX_SHARED_STATES:
            states = join_shared(second.states, self.states)
        else:
            used, pairs = np.unique(pairs, return_inverse=True)
            second_rows = second.states.rows[used // len(self.states)]
            states = StateTable(join_rows(second_rows, self.states.rows[used % len(self.states)]))
        return Plan(
            self.height,
            self.width,
            self.tile,
            self.tile_order[second.tile_order],
            states,
            pairs,
            self.halves,
        )

    def inverse(self) -> "Plan":
        """Returns the plan that undoes this one: ``plan.then(plan.inverse())`` changes nothing."""
        states = self.states
        inverse_states = (
            invert_shared(states) if states.shared else StateTable(invert_rows(states.rows))
        )
        tile_order = np.empty_like(self.tile_order)
        tile_order[self.tile_order] = np.arange(len(tile_order))
        return Plan(
            self.height,
            self.width,
            self.tile,
            tile_order,
            inverse_states,
            self.state_of_tile[tile_order],
            self.halves,
        )

    def in_halves(self) -> "Plan":
        """Returns the same plan over 4-bit halves: both halves of a value move and negate alike."""
        if self.halves:
            return self
        rows = self.states.rows
        high = (taken_values(rows) + rows.shape[1]) ^ (rows >> 31)
        states = StateTable(np.concatenate([rows, high], axis=1), self.states.shared)
        return Plan(
            self.height, self.width, self.tile, self.tile_order, states, self.state_of_tile, True
        )

    def regrouped(self, tile: tuple[int, int]) -> "Plan":
        """Returns the same plan seen over tiles of another size.

        Args:
            tile: (height, width) in pixels; it must divide the image.

        Raises:
            GeometryError: the tiles do not divide the image.
            PlanError: some output tile would take values from several input tiles.
        """
        if tile == self.tile:
            return self
        if self.height % tile[0] or self.width % tile[1]:
            raise GeometryError(
                f"tiles of {tile[0]}×{tile[1]} pixels do not divide an image of "
                f"{self.height}×{self.width}"
            )
        if self._only_moves_tiles() and self.tile[0] % tile[0] == 0 == self.tile[1] % tile[1]:
            moved = Plan.identity(self.height, self.width, tile)
            order = self._refined_order(tile)
            fine = Plan(self.height, self.width, tile, order, moved.states, moved.state_of_tile, False)
            return fine.in_halves() if self.halves else fine
        return self._regrouped_by_value(tile)

    def _only_moves_tiles(self) -> bool:
        return bool((self._rows() == np.arange(self.states.values)).all())

    def _refined_order(self, tile: tuple[int, int]) -> IntArray:
        tiles = tiles_of_blocks(self.height, self.width, self.tile, tile)
        order = np.empty(tiles.size, np.intp)
        order[tiles] = tiles[self.tile_order]
        return order

    def _regrouped_by_value(self, tile: tuple[int, int]) -> "Plan":
        values = self.height * self.width * COLORS
        index, negated = self.value_index("hwc")
        rows, columns = self.height // tile[0], self.width // tile[1]
        # Number the values tile by tile, so that a quotient tells the tile and a remainder the value.
        by_tile = (
            np.arange(values)
            .reshape(rows, tile[0], columns, tile[1] * COLORS)
            .transpose(0, 2, 1, 3)
            .reshape(rows * columns, -1)
        )
        per_tile = by_tile.shape[1]
        tile_number = np.empty(values, np.intp)
        tile_number[by_tile.reshape(-1)] = np.arange(values)
        halves = [0, values] if self.halves else [0]
        out = np.concatenate([by_tile + half for half in halves], axis=1)
        source_value, source_half = index[out] % values, index[out] // values
        source = tile_number[source_value]
        source_tile = source // per_tile
        if np.any(source_tile != source_tile[:, :1]):
            raise PlanError(
                f"{self!r} does not move tiles of {tile[0]}×{tile[1]} pixels as a whole: values of "
                "one output tile come from several input tiles"
            )
        taken = (source % per_tile + source_half * per_tile).astype(np.int32)
        signed = taken if negated is None else taken ^ -negated[out].astype(np.int32)
        state_of_tile = np.arange(len(signed))
        if not np.any(signed != signed[:1]):
            signed, state_of_tile = signed[:1].copy(), np.zeros(len(signed), np.intp)
        return Plan(
            self.height,
            self.width,
            tile,
            source_tile[:, 0].copy(),
            StateTable(signed),
            state_of_tile,
            self.halves,
        )

    # -- the flat form --------------------------------------------------------------------------

    @cached_property
    def _flat(self) -> dict[Layout, tuple[IntArray, BoolArray | None]]:
        return {}

    def value_index(self, layout: Layout = "hwc") -> tuple[IntArray, BoolArray | None]:
        """Returns the plan over a whole flattened image: ``out = x[index]``, then the negations.

        Args:
            layout: ``"hwc"`` numbers value (y, x, c) as (y·W + x)·3 + c, ``"chw"`` as (c·H + y)·W + x.

        Returns:
            `index`: intp [H·W·3] (over halves [2·H·W·3], the high halves after all low ones), and
            `negated`: bool of the same shape, or None where nothing is negated.  Both are cached
            and must not be written to.
        """
        if layout not in self._flat:
            self._flat[layout] = self._flatten(layout)
        return self._flat[layout]

    def byte_mask(self, layout: Layout = "hwc") -> tuple[IntArray, npt.NDArray[np.uint8] | None]:
        """Returns `value_index` with the negations as a mask of 0 and 255: ``x[index] ^ mask``."""
        if layout not in self._masks:
            index, negated = self.value_index(layout)
            self._masks[layout] = index, None if negated is None else negated * np.uint8(255)
        return self._masks[layout]

    @cached_property
    def _masks(self) -> dict[Layout, tuple[IntArray, npt.NDArray[np.uint8] | None]]:
        return {}

    def _flatten(self, layout: Layout) -> tuple[IntArray, BoolArray | None]:
        tile_height, tile_width = self.tile
        rows, columns = self.height // tile_height, self.width // tile_width
        y_step, x_step, _ = _steps(layout, self.height, self.width)
        origin = (
            np.arange(rows)[:, None] * tile_height * y_step + np.arange(columns) * tile_width * x_step
        ).reshape(-1)[self.tile_order]
        # A shared table is the same for every key, so that what follows from it is worth keeping.
        lines_of = _state_lines if self.states.shared else _state_lines.__wrapped__
        table, negated = lines_of(
            self.states, layout, self.tile, (self.height, self.width), self.halves
        )
        # Whole rows of tiles are gathered: (plane, tile row, y, tile column) × (x, color).
        planes = len(table) // (len(self.states) * tile_height)
        state = self.state_of_tile.reshape(rows, columns)
        plane = np.arange(planes)[:, None, None, None]
        pick = (state[:, None, :] * planes + plane) * tile_height + np.arange(tile_height)[:, None]
        index = table[pick]
        index += origin.reshape(rows, 1, columns, 1)
        flat_index = index.reshape(-1)
        if not negated.any():
            return flat_index, None
        flat_negated = negated[pick].reshape(-1)
        return flat_index, flat_negated

    def pixel_index(self) -> IntArray:
        """Returns where each output pixel comes from, intp [H·W], for what has no color (masks).

        Raises:
            PlanError: the three values of some pixel come from different pixels.
        """
        index, _ = self.value_index("hwc")
        pixels = (index[: self.height * self.width * COLORS] // COLORS).reshape(-1, COLORS)
        if self.halves or np.any(pixels != pixels[:, :1]):
            raise PlanError(f"{self!r} does not keep the values of a pixel together")
        return pixels[:, 0].copy()

    # -- application ----------------------------------------------------------------------------

    def apply(self, image: Any) -> Any:
        """Returns the image with its values moved and negated; the input is not written to.

        Args:
            image: NumPy uint8 or float [..., H, W, 3], or torch uint8 or float [..., 3, H, W] on any
                device; float values in [0, 1], of which the negative is 1 − x.  Plans over halves
                take floats only where they are k/255 within 1e-4.

        Raises:
            ImageError: the type, dtype, shape or values do not fit.
        """
        if not isinstance(image, np.ndarray):
            from etc_data.tensors import apply_to_tensor

            return apply_to_tensor(self, image)
        if image.shape[-3:] != (self.height, self.width, COLORS):
            raise ImageError(
                f"array of shape {image.shape} does not fit a plan for images of shape "
                f"[..., {self.height}, {self.width}, {COLORS}]"
            )
        if image.dtype == np.uint8:
            return self._apply_to_bytes(image)
        if not np.issubdtype(image.dtype, np.floating):
            raise ImageError(f"array of dtype {image.dtype}; images are uint8 or floating point")
        if self.halves:
            octets = bytes_of_floats(image)
            return (self._apply_to_bytes(octets) / np.float64(255)).astype(image.dtype)
        index, negated = self.value_index("hwc")
        flat = image.reshape(-1, index.size)
        out = np.take(flat, index, axis=1, mode="clip")
        if negated is not None:
            np.subtract(out.dtype.type(1), out, out=out, where=negated)
        return out.reshape(image.shape)

    def _apply_to_bytes(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        index, mask = self.byte_mask()
        values = self.height * self.width * COLORS
        if image.size == values and not self.halves:
            # One image: letting take make the array is quicker than filling one.
            one = image.reshape(-1).take(index, mode="wrap")
            if mask is not None:
                np.bitwise_xor(one, mask, out=one)
            return one.reshape(image.shape)
        out = np.empty(image.shape, np.uint8)
        for source, target in zip(image.reshape(-1, values), out.reshape(-1, values), strict=True):
            if self.halves:
                mixed = np.take(np.concatenate([source & 15, source >> 4]), index, mode="wrap")
                if mask is not None:
                    mixed ^= mask >> 4
                # NumPy multiplies bytes ten times as fast as it shifts them to the left.
                np.multiply(mixed[values:], 16, out=target)
                target |= mixed[:values]
            else:
                # The index is in range by construction; "wrap" costs the least of the modes.
                np.take(source, index, out=target, mode="wrap")
                if mask is not None:
                    np.bitwise_xor(target, mask, out=target)
        return out


def _steps(layout: Layout, height: int, width: int) -> tuple[int, int, int]:
    """Returns how far apart rows, pixels and color components lie in a flat image."""
    return (width * COLORS, COLORS, 1) if layout == "hwc" else (width, 1, height * width)


@lru_cache(maxsize=8)  # an EtC block of 16 takes 0.7 MB for each layout and width
def _state_lines(
    states: StateTable, layout: Layout, tile: tuple[int, int], size: tuple[int, int], halves: bool
) -> tuple[IntArray, BoolArray]:
    """Returns the lines of a tile in every state, for a flat image in that layout.

    A line is a row of one plane of the tile: all values of the row in ``"hwc"``, those of one color
    component in ``"chw"``, and of one half each.

    Returns:
        `table`: intp [states · planes · tile height, values of a line]: where each value lies in
        the image, counted from the tile's first value; `negated`: bool of the same shape.
    """
    y_step, x_step, color_step = _steps(layout, *size)
    offset = (
        np.arange(tile[0])[:, None, None] * y_step
        + np.arange(tile[1])[:, None] * x_step
        + np.arange(COLORS) * color_step
    ).reshape(-1)
    if halves:
        offset = np.concatenate([offset, offset + size[0] * size[1] * COLORS])
    table, negated = offset[taken_values(states.rows)], states.rows < 0
    if layout == "hwc":
        return table.reshape(-1, tile[1] * COLORS), negated.reshape(-1, tile[1] * COLORS)
    shape = (len(states), 1 + halves, *tile, COLORS)
    by_component = (0, 1, 4, 2, 3)
    return (
        table.reshape(shape).transpose(by_component).reshape(-1, tile[1]),
        negated.reshape(shape).transpose(by_component).reshape(-1, tile[1]),
    )


def bytes_of_floats(image: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Returns k for an image of values k/255.

    Raises:
        ImageError: some value is not k/255 within 1e-4, so that it has no 4-bit halves.
    """
    scaled = np.asarray(image, np.float64) * 255
    rounded = np.rint(scaled)
    worst = np.max(np.abs(scaled - rounded), initial=0.0) / 255
    if not worst <= 1e-4:
        raise ImageError(
            f"a scheme over 4-bit halves takes floats only where they are k/255; met one {worst:.2g} "
            "away from that"
        )
    return rounded.astype(np.uint8)


def tiles_of_blocks(height: int, width: int, block: tuple[int, int], tile: tuple[int, int]) -> IntArray:
    """Returns the raster numbers of the tiles in each block, intp [blocks, tiles per block].

    Args:
        height: of the image, in pixels; likewise `width`.
        width: see `height`.
        block: (height, width) of a block in pixels; it divides the image.
        tile: (height, width) of a tile in pixels; it divides the block.
    """
    grid = np.arange((height // tile[0]) * (width // tile[1])).reshape(
        height // block[0], block[0] // tile[0], width // block[1], block[1] // tile[1]
    )
    return grid.transpose(0, 2, 1, 3).reshape(-1, (block[0] // tile[0]) * (block[1] // tile[1]))


def _common_tile(first: Plan, second: Plan) -> tuple[int, int]:
    """Returns the tile over which both plans can be seen; the whole image always serves."""
    a, b = first.tile, second.tile
    height, width = first.height, first.width
    candidates = [
        min(a, b),
        max(a, b),
        (gcd(a[0], b[0]), gcd(a[1], b[1])),
        (lcm(a[0], b[0]), lcm(a[1], b[1])),
        (1, 1),
    ]
    for tile in candidates:
        if height % tile[0] or width % tile[1]:
            continue
        try:
            first.regrouped(tile)
            second.regrouped(tile)
        except PlanError:
            continue
        return tile
    return height, width
