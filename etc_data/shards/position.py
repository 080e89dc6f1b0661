"""How far an epoch has been read, and its form in a checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from etc_data.shards.integers import LARGEST

_VERSION = 1


@dataclass
class Position:
    """How far a process has read its share of an epoch.

    Attributes:
        epoch: which.
        given: how many samples of the share were given out.
    """

    epoch: int
    given: int = 0

    def to_state(self, reading: Mapping[str, int | str]) -> dict[str, int | str]:
        """Returns a checkpoint's form of the position.

        Args:
            reading: what must be the same wherever the position is to mean the same samples.
        """
        return {"version": _VERSION, **reading, "epoch": self.epoch, "given": self.given}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], reading: Mapping[str, int | str]) -> "Position":
        """Returns the position that `to_state` told of.

        Raises:
            ValueError: it is malformed, or means something else under this `reading`.
        """
        expected = cls(0).to_state(reading)
        if not isinstance(state, dict) or state.keys() != expected.keys():
            raise ValueError("this is no state of a data set of shards")
        if type(state["version"]) is not int or state["version"] != _VERSION:
            raise ValueError(f"the state is of version {state['version']!r:.60}, not {_VERSION}")
        for name in ("epoch", "given"):
            if type(state[name]) is not int or not 0 <= state[name] <= LARGEST:
                raise ValueError(f"the state is damaged: {name} is {state[name]!r:.60}")
        differing = [
            f"{name} {state[name]!r:.60} (here {value!r})"
            for name, value in reading.items()
            if type(state[name]) is not type(value) or state[name] != value
        ]
        if differing:
            raise ValueError(f"the state belongs to another reading, with {', '.join(differing)}")
        return cls(state["epoch"], state["given"])
