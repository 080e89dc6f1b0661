"""Integers that callers give, checked before they decide anything."""

import operator

LARGEST = 2**63 - 1  # of torch's and NumPy's integers


def to_integer(name: str, value: object) -> int:
    """Returns an integer of Python, NumPy or torch as Python's; what only looks like one is refused.

    Raises:
        TypeError: it is no integer; the message calls it `name`.

    Examples:
        >>> to_integer("seed", 7)
        7
    """
    try:
        if not isinstance(value, bool):
            return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        pass
    raise TypeError(f"{name} is {value!r:.60}; it must be an integer")
