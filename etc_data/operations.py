"""The keyed steps that schemes are made of; each draws from its own stream and yields a plan.

An operation is a small frozen value: sizes in pixels per side and a key assignment.  Its canonical
text (`text()`) labels its stream and is what a scheme's JSON and name are made from; changing a text
changes every draw, so it never changes within a version.  docs/format.md, "Steps", specifies each.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from math import comb, lgamma, log, log2
from typing import Any, ClassVar, Literal

import numpy as np

from etc_data.errors import SchemeError
from etc_data.keystream import BoolArray, IntArray, KeyStream
from etc_data.plans import Plan, tiles_of_blocks
from etc_data.states import (
    COLORS,
    StateTable,
    color_states,
    identity_states,
    orientation_states,
    polarity_states,
    sign_states,
)

Assignment = Literal["common", "independent"]
Unit = Literal["value", "pixel", "half"]
OpenStream = Callable[[str], KeyStream]
"""Opens the step's stream, given what it depends on of the geometry (``""`` or ``"ROWSxCOLUMNS"``)."""

_SMALLEST_TABLE_BITS = 3


@dataclass(frozen=True)
class Operation:
    """One keyed step of a scheme.

    Attributes:
        block_size: pixels per side of the blocks that the step works on.
    """

    name: ClassVar[str]
    block_size: int

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("_size") and (
                not isinstance(value, int) or isinstance(value, bool) or value < 1
            ):
                raise SchemeError(
                    f"{self.name}: {field.name} is {value!r}; it must be a whole number of pixels ≥ 1"
                )
            allowed = _CHOICES.get(field.name)
            if allowed is not None and value not in allowed:
                raise SchemeError(
                    f"{self.name}: {field.name} is {value!r}; it must be one of {', '.join(allowed)}"
                )

    def text(self) -> str:
        """Returns the canonical text, such as ``rotate-flip(16,common,8)``."""
        return f"{self.name}({','.join(str(getattr(self, field.name)) for field in fields(self))})"

    def plan(self, height: int, width: int, open_stream: OpenStream) -> Plan:
        """Returns the step's plan for an image of `height` × `width` pixels.

        Args:
            height: a multiple of `block_size`; likewise `width`.
            width: see `height`.
            open_stream: opens the step's own stream.
        """
        raise NotImplementedError

    def key_space_bits(self, height: int, width: int) -> float:
        """Returns log₂ of how many different draws the step has for an image of this size."""
        raise NotImplementedError

    def _grid(self, height: int, width: int) -> tuple[int, int]:
        return height // self.block_size, width // self.block_size


@dataclass(frozen=True)
class ScrambleBlocks(Operation):
    """Permutes all blocks of the image (maungmaung2022 §II-B step 1)."""

    name: ClassVar[str] = "scramble-blocks"

    def plan(self, height: int, width: int, open_stream: OpenStream) -> Plan:
        """See `Operation.plan`."""
        rows, columns = self._grid(height, width)
        order = open_stream(f"{rows}x{columns}").permutations(1, rows * columns)[0]
        return Plan(
            height,
            width,
            (self.block_size, self.block_size),
            order,
            identity_states(self.block_size, self.block_size),
            np.zeros(len(order), np.intp),
        )

    def key_space_bits(self, height: int, width: int) -> float:
        """See `Operation.key_space_bits`."""
        rows, columns = self._grid(height, width)
        return _log2_factorial(rows * columns)


@dataclass(frozen=True)
class _PerBlock(Operation):
    """A step whose draws belong to blocks: one set for all of them, or one for each.

    Attributes:
        assignment: ``"common"`` or ``"independent"``.
    """

    assignment: Assignment

    def _draws(
        self,
        height: int,
        width: int,
        open_stream: OpenStream,
        draw: Callable[[KeyStream, int], Any],
    ) -> Any:
        """Returns `draw`'s result for all blocks: [N, …], or [1, …] where they share one."""
        rows, columns = self._grid(height, width)
        if self.assignment == "common":
            return draw(open_stream(""), 1)
        return draw(open_stream(f"{rows}x{columns}"), rows * columns)

    def _draw_count(self, height: int, width: int) -> int:
        rows, columns = self._grid(height, width)
        return 1 if self.assignment == "common" else rows * columns


@dataclass(frozen=True)
class _PerSubBlock(_PerBlock):
    """A step that treats the sub-blocks of a block on their own.

    Attributes:
        sub_block_size: pixels per side; it divides `block_size` and is the same where left out.
    """

    sub_block_size: int = 0

    def __post_init__(self) -> None:
        if self.sub_block_size == 0:
            object.__setattr__(self, "sub_block_size", self.block_size)
        super().__post_init__()
        if self.block_size % self.sub_block_size:
            raise SchemeError(
                f"{self.name}: sub_block_size {self.sub_block_size} does not divide "
                f"block_size {self.block_size}"
            )

    @property
    def sub_blocks(self) -> int:
        """How many sub-blocks a block has."""
        return (self.block_size // self.sub_block_size) ** 2

    @property
    def _tile(self) -> tuple[int, int]:
        return self.sub_block_size, self.sub_block_size

    def _tiles(self, height: int, width: int) -> IntArray:
        return tiles_of_blocks(height, width, (self.block_size, self.block_size), self._tile)


@dataclass(frozen=True)
class _SubBlockStates(_PerSubBlock):
    """Puts every sub-block into one of few states, drawn for each sub-block of a block.

    With the common assignment all blocks use the same draws, but the sub-blocks of a block still
    have one each (lin2024 Table 1).
    """

    def _states(self) -> StateTable:
        raise NotImplementedError

    def _codes(self, stream: KeyStream, count: int) -> IntArray:
        return stream.integers(count, len(self._states()))

    def plan(self, height: int, width: int, open_stream: OpenStream) -> Plan:
        """See `Operation.plan`."""
        codes = self._draws(
            height,
            width,
            open_stream,
            lambda stream, blocks: self._codes(stream, blocks * self.sub_blocks),
        ).reshape(-1, self.sub_blocks)
        tiles = self._tiles(height, width)
        state_of_tile = np.empty(tiles.size, np.intp)
        state_of_tile[tiles] = codes
        return Plan(height, width, self._tile, np.arange(tiles.size), self._states(), state_of_tile)

    def key_space_bits(self, height: int, width: int) -> float:
        """See `Operation.key_space_bits`."""
        return self._draw_count(height, width) * self.sub_blocks * log2(len(self._states()))


@dataclass(frozen=True)
class RotateFlip(_SubBlockStates):
    """Rotates and flips each sub-block into one of its 8 orientations (lin2024 §3.3 step 3a)."""

    name: ClassVar[str] = "rotate-flip"

    def _states(self) -> StateTable:
        return orientation_states(self.sub_block_size)


@dataclass(frozen=True)
class NegativePositive(_SubBlockStates):
    """Negates each sub-block, or not: x → 255 − x (maungmaung2022 eq. 1)."""

    name: ClassVar[str] = "negative-positive"

    def _states(self) -> StateTable:
        return polarity_states(self.sub_block_size)

    def _codes(self, stream: KeyStream, count: int) -> IntArray:
        return stream.bits(count).astype(np.intp)


@dataclass(frozen=True)
class ShuffleColorComponents(_SubBlockStates):
    """Puts the color components of each sub-block into one of 6 orders (lin2024 §3.3 step 3c)."""

    name: ClassVar[str] = "shuffle-color-components"

    def _states(self) -> StateTable:
        return color_states(self.sub_block_size)


@dataclass(frozen=True)
class ScrambleSubBlocks(_PerSubBlock):
    """Permutes the sub-blocks inside each block (lin2024 §3.4 step 5)."""

    name: ClassVar[str] = "scramble-sub-blocks"

    def plan(self, height: int, width: int, open_stream: OpenStream) -> Plan:
        """See `Operation.plan`."""
        places = self._draws(
            height,
            width,
            open_stream,
            lambda stream, blocks: stream.permutations(blocks, self.sub_blocks),
        )
        tiles = self._tiles(height, width)
        order = np.empty(tiles.size, np.intp)
        order[tiles] = np.take_along_axis(tiles, np.broadcast_to(places, tiles.shape), axis=1)
        states = identity_states(*self._tile)
        return Plan(height, width, self._tile, order, states, np.zeros(tiles.size, np.intp))

    def key_space_bits(self, height: int, width: int) -> float:
        """See `Operation.key_space_bits`."""
        return self._draw_count(height, width) * _log2_factorial(self.sub_blocks)


@dataclass(frozen=True)
class _ValueStates(_PerBlock):
    """A step over the single values, pixels or 4-bit halves of a block."""

    unit: Unit = "value"

    @property
    def units(self) -> int:
        """How many units a block has: B², 3·B² or 6·B²."""
        pixels = self.block_size**2
        return {"pixel": 1, "value": COLORS, "half": 2 * COLORS}[self.unit] * pixels

    def _plan_of_rows(self, height: int, width: int, rows: "np.ndarray[Any, Any]") -> Plan:
        """Returns the plan of signed rows over units, [1 or N, units]."""
        if self.unit == "pixel":
            taken = rows ^ (rows >> 31)
            values = taken[..., None] * COLORS + np.arange(COLORS)
            rows = (values ^ (rows >> 31)[..., None]).reshape(len(rows), -1)
        return self._plan_of_states(height, width, StateTable(rows.astype(np.int32)), None)

    def _plan_of_states(
        self, height: int, width: int, states: StateTable, codes: IntArray | None
    ) -> Plan:
        grid_rows, columns = self._grid(height, width)
        count = grid_rows * columns
        if codes is None:
            codes = np.arange(count) if len(states) > 1 else np.zeros(count, np.intp)
        return Plan(
            height,
            width,
            (self.block_size, self.block_size),
            np.arange(count),
            states,
            np.ascontiguousarray(np.broadcast_to(codes, count)),
            self.unit == "half",
        )


@dataclass(frozen=True)
class ShuffleValues(_ValueStates):
    """Permutes the units of each block: its values, pixels or 4-bit halves (lin2024 eq. 3–5)."""

    name: ClassVar[str] = "shuffle-values"

    def plan(self, height: int, width: int, open_stream: OpenStream) -> Plan:
        """See `Operation.plan`."""
        rows = self._draws(
            height, width, open_stream, lambda stream, count: stream.permutations(count, self.units)
        )
        return self._plan_of_rows(height, width, rows.astype(np.int32))

    def key_space_bits(self, height: int, width: int) -> float:
        """See `Operation.key_space_bits`."""
        return self._draw_count(height, width) * _log2_factorial(self.units)


@dataclass(frozen=True)
class NegateValues(_ValueStates):
    """Negates units of each block: each with p = ½, or exactly half of them (iijima eq. 5–6)."""

    name: ClassVar[str] = "negate-values"
    share: Literal["random", "half"] = "random"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.share == "half" and self.units % 2:
            raise SchemeError(
                f"{self.name}: exactly half of {self.units} {self.unit}s cannot be negated; "
                "choose an even block_size, or share random"
            )

    def plan(self, height: int, width: int, open_stream: OpenStream) -> Plan:
        """See `Operation.plan`."""
        negated: BoolArray = self._draws(height, width, open_stream, self._draw_signs)
        if self.unit == "value" and self.units <= _SMALLEST_TABLE_BITS:
            # Blocks of one pixel have so few patterns that a table of all of them is far quicker.
            codes = negated @ (1 << np.arange(self.units))
            return self._plan_of_states(height, width, sign_states(self.units), codes)
        rows = np.arange(self.units, dtype=np.int32) ^ -negated.astype(np.int32)
        return self._plan_of_rows(height, width, rows)

    def _draw_signs(self, stream: KeyStream, count: int) -> BoolArray:
        if self.share == "random":
            return stream.bits(count * self.units).reshape(count, self.units)
        chosen = stream.permutations(count, self.units)[:, : self.units // 2]
        negated = np.zeros((count, self.units), np.bool_)
        np.put_along_axis(negated, chosen, True, axis=1)
        return negated

    def key_space_bits(self, height: int, width: int) -> float:
        """See `Operation.key_space_bits`."""
        bits = self.units if self.share == "random" else log2(comb(self.units, self.units // 2))
        return self._draw_count(height, width) * float(bits)


OPERATIONS: dict[str, type[Operation]] = {
    operation.name: operation
    for operation in (
        ScrambleBlocks,
        RotateFlip,
        NegativePositive,
        ShuffleColorComponents,
        ScrambleSubBlocks,
        ShuffleValues,
        NegateValues,
    )
}

_CHOICES: dict[str, tuple[str, ...]] = {
    "assignment": ("common", "independent"),
    "unit": ("value", "pixel", "half"),
    "share": ("random", "half"),
}


def _log2_factorial(count: int) -> float:
    return lgamma(count + 1) / log(2)
