"""`Scheme`: the steps of an encryption in order, its key space, and its form as JSON."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property, partial
from math import lcm
from typing import Any, Literal

from etc_data.errors import GeometryError, SchemeError
from etc_data.keystream import StreamFactory
from etc_data.operations import (
    OPERATIONS,
    NegativePositive,
    Operation,
    RotateFlip,
    ScrambleBlocks,
    ScrambleSubBlocks,
    ShuffleColorComponents,
)
from etc_data.plans import Plan
from etc_data.presets import PRESET_NAMES, steps_of

KeyScope = Literal["dataset", "image"]

_JPEG_CELL = 8
_JPEG_STEPS = (
    ScrambleBlocks,
    RotateFlip,
    NegativePositive,
    ShuffleColorComponents,
    ScrambleSubBlocks,
)


@dataclass(frozen=True)
class Scheme:
    """The keyed steps of an encryption, in order.

    Example:
        >>> Scheme.preset("com-16").canonical
        'rotate-flip(16,common,16)|negative-positive(16,common,16)|shuffle-color-components(16,common,16)'
        >>> mine = Scheme((ScrambleBlocks(8), RotateFlip(8, "independent")), name="mine")
        >>> Scheme.from_json(mine.to_json()) == mine
        True

    Attributes:
        steps: at least one operation.
        name: a preset's name or one of your own (lower-case letters, digits, ``-``, ``/``).
    """

    steps: tuple[Operation, ...]
    name: str = "custom"

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", tuple(self.steps))
        if not self.steps or not all(isinstance(step, Operation) for step in self.steps):
            raise SchemeError("a scheme has at least one step, and each is an Operation")
        if not isinstance(self.name, str) or not re.fullmatch(r"[a-z0-9][a-z0-9/-]{0,63}", self.name):
            raise SchemeError(
                f"scheme name {self.name!r} is not 1–64 lower-case letters, digits, '-' and '/'"
            )
        if steps_of(self.name) not in (None, self.steps):
            raise SchemeError(
                f"the name {self.name} belongs to a preset with other steps; choose another name"
            )

    @classmethod
    def preset(cls, name: str) -> "Scheme":
        """Returns the preset of a name such as ``etc-16``, ``ind-16/8``, ``flip-4`` or ``pe``.

        Raises:
            SchemeError: there is no such preset.
        """
        steps = steps_of(name)
        if steps is None:
            raise SchemeError(
                f"there is no scheme {name!r}; there are {', '.join(PRESET_NAMES)}, each with other "
                "block sizes too",
                "etc-data schemes explains them",
            )
        return cls(steps, name)

    @cached_property
    def canonical(self) -> str:
        """The text that labels every stream: the steps' texts joined by ``|``, without the name."""
        return "|".join(step.text() for step in self.steps)

    @cached_property
    def _labels(self) -> tuple[str, ...]:
        return tuple(f"{number}:{step.text()}" for number, step in enumerate(self.steps))

    @cached_property
    def block_size(self) -> int:
        """Pixels per side that an image's height and width must be multiples of."""
        return lcm(*(step.block_size for step in self.steps))

    @property
    def default_key_scope(self) -> KeyScope:
        """``"image"`` for pe, as its paper has it; ``"dataset"`` for every other scheme."""
        return "image" if self.name == "pe" else "dataset"

    @property
    def jpeg_friendly(self) -> bool:
        """Whether the encrypted image compresses like a picture under JPEG with 4:4:4 sampling.

        It does where every step moves or changes whole cells of 8×8 pixels, JPEG's own grid.
        """
        return all(
            isinstance(step, _JPEG_STEPS)
            and getattr(step, "sub_block_size", step.block_size) % _JPEG_CELL == 0
            for step in self.steps
        )

    def check_size(self, height: int, width: int) -> None:
        """Checks that an image fits the grid of blocks.

        Raises:
            GeometryError: height or width is no positive multiple of `block_size`.
        """
        block_size = self.block_size
        for side, length in (("height", height), ("width", width)):
            if length < 1 or length % block_size:
                below = length // block_size * block_size
                choices = f"{below} or {below + block_size}" if below > 0 else f"{block_size}"
                raise GeometryError(
                    f"image {side} {length} is not a multiple of block_size {block_size}; "
                    f"pad, crop or resize to {choices}",
                    'pass fit="pad", "crop" or "resize"; on the command line --size or --fit',
                )

    def compile(self, height: int, width: int, streams: StreamFactory) -> Plan:
        """Returns the plan of this scheme for images of `height` × `width` pixels.

        Raises:
            GeometryError: the size does not fit the grid.
        """
        self.check_size(height, width)
        plan: Plan | None = None
        for number, step in enumerate(self.steps):
            open_stream = partial(streams.stream, self._labels[number])
            step_plan = step.plan(height, width, open_stream)
            plan = step_plan if plan is None else plan.then(step_plan)
        assert plan is not None
        return plan

    def key_space_bits(self, height: int, width: int) -> float:
        """Returns log₂ of the number of keys, such as 1510.8 for ``vit-16/8`` at 224 × 224.

        lin2024 Table 1; qi2022-vision-transformer eq. (2); iijima §4.3.

        Raises:
            GeometryError: the size does not fit the grid.
        """
        self.check_size(height, width)
        return sum(step.key_space_bits(height, width) for step in self.steps)

    def to_json(self) -> str:
        """Returns the scheme as JSON; it holds no key."""
        return json.dumps(self.describe(), separators=(",", ":"))

    def describe(self) -> dict[str, Any]:
        """Returns the scheme as what JSON can hold."""
        return {
            "name": self.name,
            "steps": [
                {"step": step.name, **{f.name: getattr(step, f.name) for f in fields(step)}}
                for step in self.steps
            ],
        }

    @classmethod
    def from_json(cls, text: str) -> "Scheme":
        """Returns the scheme that `to_json` wrote.

        Raises:
            SchemeError: it is not such a text.
        """
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise SchemeError(f"a scheme's JSON cannot be read: {error}") from None
        return cls.from_description(value)

    @classmethod
    def from_description(cls, value: Any) -> "Scheme":
        """Returns the scheme that `describe` told of.

        Raises:
            SchemeError: it is no such description.
        """
        if not isinstance(value, Mapping) or set(value) != {"name", "steps"}:
            raise SchemeError("a scheme's JSON must be an object with exactly name and steps")
        if not isinstance(value["steps"], list):
            raise SchemeError("a scheme's steps must be a list")
        return cls(tuple(_operation(step) for step in value["steps"]), value["name"])


def _operation(value: Any) -> Operation:
    name = value.get("step") if isinstance(value, Mapping) else None
    if not isinstance(name, str) or name not in OPERATIONS:
        known = ", ".join(OPERATIONS)
        raise SchemeError(f"a step is an object whose step is one of {known}; met {value!r}")
    operation = OPERATIONS[name]
    given = {key: entry for key, entry in value.items() if key != "step"}
    wanted = {f.name for f in fields(operation)}
    if set(given) != wanted:
        raise SchemeError(
            f"step {operation.name} takes {', '.join(sorted(wanted))}; met {', '.join(sorted(given))}"
        )
    return operation(**given)
