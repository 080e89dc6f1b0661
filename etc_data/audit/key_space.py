"""Key space: how many plans a scheme has for a size, against what can be searched."""

from dataclasses import asdict, dataclass
from typing import Any

from etc_data.schemes import Scheme

SAFE_BITS = 256.0
"""The line the papers draw: a key space above 2²⁵⁶ is not searched (lin2024 Table 1, iijima §4.3)."""

_SECONDS_PER_YEAR = 365.25 * 24 * 3600


@dataclass(frozen=True)
class KeySpace:
    """The key space of one scheme for one size.

    Attributes:
        scheme: its name.
        height: pixels.
        width: pixels.
        bits: log₂ of the number of plans.
        above_line: whether it exceeds 2²⁵⁶.  That says nothing of statistical attacks.
    """

    scheme: str
    height: int
    width: int
    bits: float
    above_line: bool

    def search_years(self, keys_per_second: float) -> float:
        """Returns how long trying every key takes at a rate, in years; infinite past any number."""
        try:
            return float(2.0**self.bits / keys_per_second / _SECONDS_PER_YEAR)
        except OverflowError:
            return float("inf")

    def to_dict(self) -> dict[str, Any]:
        """Returns it as what JSON can hold."""
        return asdict(self)


def key_space(scheme: Scheme, height: int, width: int) -> KeySpace:
    """Returns the key space of a scheme for images of a size.

    Raises:
        GeometryError: the size does not fit the scheme's grid.
    """
    bits = scheme.key_space_bits(height, width)
    return KeySpace(scheme.name, height, width, bits, bits > SAFE_BITS)
