"""The presets: schemes that carry the papers' names, in every block size."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from etc_data.errors import SchemeError
from etc_data.operations import (
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
    found = _find(name)
    return None if found is None else found[0]


def steps_of(name: str) -> tuple[Operation, ...] | None:
    """Returns the steps of a preset's name, or None.

    Raises:
        SchemeError: the sizes in the name do not suit each other.
    """
    found = _find(name)
    return None if found is None else found[0].steps(*found[1])


def _find(name: str) -> tuple[PresetFamily, tuple[int, ...]] | None:
    for family in PRESET_FAMILIES:
        match = re.fullmatch(family.pattern, name)
        if match:
            return family, tuple(map(int, match.groups()))
    return None
