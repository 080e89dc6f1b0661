"""`Scheme`: the steps of an encryption in order, and the presets that carry the papers' names."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from math import lcm
from typing import Any, Literal

from etc_data.errors import GeometryError, SchemeError
from etc_data.keystream import StreamFactory
from etc_data.operations import (
    OPERATIONS,
    Assignment,
    NegateValues,
    NegativePositive,
    Operation,
    RotateFlip,
    ScrambleBlocks,
    ScrambleSubBlocks,
    ShuffleColorComponents,
    ShuffleValues,
    Unit,
)
from etc_data.plans import Plan

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
        family = _family_of(self.name)
        if family is not None and family[0].steps(*family[1]) != self.steps:
            raise SchemeError(
                f"the name {self.name} belongs to a preset with other steps; choose another name"
            )

    @classmethod
    def preset(cls, name: str) -> "Scheme":
        """Returns the preset of a name such as ``etc-16``, ``ind-16/8``, ``flip-4`` or ``pe``.

        Raises:
            SchemeError: there is no such preset.
        """
        family = _family_of(name)
        if family is None:
            raise SchemeError(
                f"there is no scheme {name!r}; there are {', '.join(PRESET_NAMES)}, each with other "
                "block sizes too",
                "etc-data schemes explains them",
            )
        return cls(family[0].steps(*family[1]), name)

    @property
    def canonical(self) -> str:
        """The text that labels every stream: the steps' texts joined by ``|``, without the name."""
        return "|".join(step.text() for step in self.steps)

    @property
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
            open_stream = partial(streams.stream, f"{number}:{step.text()}")
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


# -- presets ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PresetFamily:
    """Presets that differ in their sizes only.

    Attributes:
        pattern: what the names match; its groups are the sizes.
        example: the preset the papers use.
        source: paper and section.
        steps: builds the steps from the sizes.
        summary: the steps in words.
    """

    pattern: str
    example: str
    source: str
    summary: str
    steps: Callable[..., tuple[Operation, ...]]


def _states(block: int, sub_block: int, assignment: Assignment) -> tuple[Operation, ...]:
    return (
        RotateFlip(block, assignment, sub_block),
        NegativePositive(block, assignment, sub_block),
        ShuffleColorComponents(block, assignment, sub_block),
    )


def _etc(block: int) -> tuple[Operation, ...]:
    return (ScrambleBlocks(block), *_states(block, block, "independent"))


def _sub_blockwise(assignment: Assignment) -> Callable[..., tuple[Operation, ...]]:
    return lambda block, sub_block: (
        *_states(block, sub_block, assignment),
        ScrambleSubBlocks(block, assignment, sub_block),
    )


def _shuffle(assignment: Assignment) -> Callable[..., tuple[Operation, ...]]:
    return lambda block: (ShuffleValues(block, assignment),)


def _flip(block: int) -> tuple[Operation, ...]:
    return (ShuffleValues(block, "common"), NegateValues(block, "common", share="half"))


def _adaptive(unit: Unit) -> Callable[..., tuple[Operation, ...]]:
    return lambda block: (
        ScrambleBlocks(block),
        ShuffleValues(block, "common", unit),
        NegateValues(block, "common", unit),
    )


def _vit(block: int, sub_block: int) -> tuple[Operation, ...]:
    if block % sub_block:
        raise SchemeError(f"sub-block size {sub_block} does not divide block size {block}")
    # Every sub-block uses the one permutation, so to it the sub-blocks are the blocks.
    return (ScrambleBlocks(block), ShuffleValues(sub_block, "common", "pixel"))


def _halves(assignment: Assignment, scramble: bool) -> Callable[..., tuple[Operation, ...]]:
    def steps(block: int) -> tuple[Operation, ...]:
        learnable = (
            ShuffleValues(block, assignment, "half"),
            NegateValues(block, assignment, "half"),
        )
        return (ScrambleBlocks(block), *learnable) if scramble else learnable

    return steps


def _pixelwise() -> tuple[Operation, ...]:
    return (NegateValues(1, "independent"), ShuffleColorComponents(1, "independent"))


_SIZE = r"([1-9][0-9]{0,3})"
PRESET_FAMILIES: tuple[PresetFamily, ...] = (
    PresetFamily(
        f"etc-{_SIZE}",
        "etc-16",
        "maungmaung2022 §II-B",
        "scramble blocks; rotate/flip, negate, shuffle colors per block",
        _etc,
    ),
    PresetFamily(
        f"com-{_SIZE}",
        "com-16",
        "lin2024 §3.3",
        "rotate/flip, negate, shuffle colors, the same for every block",
        lambda block: _states(block, block, "common"),
    ),
    PresetFamily(
        f"ind-{_SIZE}",
        "ind-16",
        "lin2024 §3.3",
        "rotate/flip, negate, shuffle colors per block",
        lambda block: _states(block, block, "independent"),
    ),
    PresetFamily(
        f"com-{_SIZE}/{_SIZE}",
        "com-16/8",
        "lin2024 §3.4",
        "com per sub-block, then scramble the sub-blocks inside their block",
        _sub_blockwise("common"),
    ),
    PresetFamily(
        f"ind-{_SIZE}/{_SIZE}",
        "ind-16/8",
        "lin2024 §3.4",
        "ind per sub-block, then scramble the sub-blocks inside their block",
        _sub_blockwise("independent"),
    ),
    PresetFamily(
        f"shuffle-com-{_SIZE}",
        "shuffle-com-16",
        "lin2024 §3.2",
        "permute the values of a block, the same for every block",
        _shuffle("common"),
    ),
    PresetFamily(
        f"shuffle-ind-{_SIZE}",
        "shuffle-ind-16",
        "lin2024 §3.2",
        "permute the values of each block",
        _shuffle("independent"),
    ),
    PresetFamily(
        f"flip-{_SIZE}",
        "flip-4",
        "iijima §3.2",
        "permute values, negate exactly half, the same for every block",
        _flip,
    ),
    PresetFamily(
        f"adaptive-{_SIZE}",
        "adaptive-16",
        "qi2022-convmixer §III-A",
        "scramble blocks; permute and negate values, the same for every block",
        _adaptive("value"),
    ),
    PresetFamily(
        f"adaptive-pixel-{_SIZE}",
        "adaptive-pixel-16",
        "qi2022-convmixer §III-A",
        "adaptive with whole pixels moved and negated",
        _adaptive("pixel"),
    ),
    PresetFamily(
        f"vit-{_SIZE}/{_SIZE}",
        "vit-16/8",
        "qi2022-vision-transformer §III-B",
        "scramble blocks; permute the pixels of a sub-block, the same for every sub-block",
        _vit,
    ),
    PresetFamily(
        f"le-{_SIZE}",
        "le-4",
        "Tanaka 2018",
        "permute and negate 4-bit halves, the same for every block",
        _halves("common", scramble=False),
    ),
    PresetFamily(
        f"ele-{_SIZE}",
        "ele-4",
        "Madono 2020",
        "scramble blocks; permute and negate 4-bit halves per block",
        _halves("independent", scramble=True),
    ),
    PresetFamily(
        "pe",
        "pe",
        "Sirichotedumrong 2019",
        "per pixel: negate each value with p = 0.5, shuffle its colors",
        _pixelwise,
    ),
)

PRESET_NAMES: tuple[str, ...] = (
    "etc-16",
    "com-16",
    "ind-16",
    "com-16/8",
    "ind-16/8",
    "shuffle-com-16",
    "shuffle-ind-16",
    "flip-4",
    "adaptive-16",
    "adaptive-pixel-16",
    "vit-16/8",
    "le-4",
    "ele-4",
    "pe",
)


def family_of(name: str) -> PresetFamily | None:
    """Returns the family of a preset's name, or None."""
    found = _family_of(name)
    return None if found is None else found[0]


def _family_of(name: str) -> tuple[PresetFamily, tuple[int, ...]] | None:
    for family in PRESET_FAMILIES:
        match = re.fullmatch(family.pattern, name)
        if match:
            return family, tuple(int(size) for size in match.groups() if size is not None)
    return None
