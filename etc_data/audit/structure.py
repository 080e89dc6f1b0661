"""What the public scheme tells an attacker to look for: shuffled values, then tiles that moved."""

from dataclasses import dataclass
from typing import Literal

from etc_data.operations import (
    Assignment,
    NegateValues,
    ScrambleBlocks,
    ScrambleSubBlocks,
    ShuffleValues,
    Unit,
)
from etc_data.schemes import Scheme


@dataclass(frozen=True)
class Structure:
    """How a scheme is undone, from the inside of its tiles to their places.

    Attributes:
        tile: pixels per side of the squares that lie somewhere, turned, negated and recolored, once
            the values inside them are laid out.
        shuffled: what was shuffled inside each tile, or None.
        assignment: of that shuffle: whether all tiles have the same.
        home: pixels per side of the blocks that tiles never leave; None where they go anywhere.
        pixelwise: whether each pixel stays where it is, negated and recolored on its own.
    """

    tile: int
    shuffled: Unit | None
    assignment: Assignment
    home: int | None
    pixelwise: bool

    @property
    def values(self) -> Literal[1, 3, 6]:
        """How many shuffled units a pixel has."""
        return 6 if self.shuffled == "half" else 1 if self.shuffled == "pixel" else 3


def structure_of(scheme: Scheme) -> Structure:
    """Returns what a scheme's steps, which are public, tell."""
    scrambled = any(isinstance(step, ScrambleBlocks) for step in scheme.steps)
    for step in scheme.steps:
        if isinstance(step, ShuffleValues):
            home = None if scrambled else step.block_size
            return Structure(step.block_size, step.unit, step.assignment, home, False)
    if any(isinstance(step, NegateValues) for step in scheme.steps):
        return Structure(1, None, "independent", 1, True)
    tile = min(getattr(step, "sub_block_size", step.block_size) for step in scheme.steps)
    within = [step.block_size for step in scheme.steps if isinstance(step, ScrambleSubBlocks)]
    return Structure(tile, None, "independent", None if scrambled else max(within, default=tile), False)
