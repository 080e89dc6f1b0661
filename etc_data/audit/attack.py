"""What an attack is, what it gives back, and the finding that the report shows.

An attack sees evidence only and returns a `Restoration`.  Whether that is a success is decided outside,
by `judgment.judge`, against a `Criterion` that the attack states beforehand.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from etc_data.audit.evidence import Bytes
from etc_data.plans import Plan
from etc_data.schemes import KeyScope

Scores = Mapping[str, float]
Evidence = TypeVar("Evidence")
Evidence_contra = TypeVar("Evidence_contra", contravariant=True)


@dataclass(frozen=True)
class Criterion:
    """When an attack counts as a success: ``scores[score] >= at_least``.

    Attributes:
        score: the name of the score.
        at_least: the threshold.
        why: the reason for score and threshold, one sentence for the report.
    """

    score: str
    at_least: float
    why: str


@dataclass(frozen=True)
class Restoration:
    """What an attacker has in the end.

    Attributes:
        images: restored pictures, uint8 [k, H, W, 3], of the first k images attacked; None if the
            attack yields none.
        decryption: the plan that turns every encrypted image of the set into a restored one; None
            where the attack has found no such plan.
        own_decryptions: for attacks on single images, the plan that restores each of `images`.
        observations: what the attacker can measure himself, without the truth.
        cost: what was spent, such as ``{"images": 100}`` or ``{"queries": 2}``.
        seconds: wall time.
    """

    images: Bytes | None = field(repr=False)
    decryption: Plan | None
    observations: Scores
    cost: Mapping[str, float]
    seconds: float
    own_decryptions: Sequence[Plan] = ()


class Attack(Protocol[Evidence_contra]):
    """An attack: a small value with settings, that can be run on evidence.

    Attributes:
        name: such as ``"topology"``; it stands in the report.
        attacker_holds: what the evidence is, in words.
        criteria: when it counts as a success.  The first whose score is known decides: scores against
            the owner's truth come first, then what the attacker sees himself.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def attacker_holds(self) -> str: ...  # noqa: D102
    @property
    def criteria(self) -> tuple[Criterion, ...]: ...  # noqa: D102

    def run(self, evidence: Evidence_contra) -> Restoration:
        """Attacks; never raises because the attack fails."""
        ...


@dataclass(frozen=True)
class Finding:
    """The outcome of one attack on one data set, as the report shows it.

    Attributes:
        attack: name of the attack.
        scheme: name of the scheme.
        key_scope: ``"dataset"`` or ``"image"``.
        attacker_holds: in words.
        success: whether `criterion` is met.
        criterion: what decided.
        scores: all that was measured.
        cost: what the attacker spent.
        seconds: wall time of the attack.
        restored: the pictures, uint8 [k, H, W, 3], in the owner's orientation if the truth was at hand.
    """

    attack: str
    scheme: str
    key_scope: KeyScope
    attacker_holds: str
    success: bool
    criterion: Criterion
    scores: Scores
    cost: Mapping[str, float]
    seconds: float
    restored: Bytes | None = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Returns the row of ``report.json``."""
        return {
            "attack": self.attack,
            "scheme": self.scheme,
            "key_scope": self.key_scope,
            "attacker_holds": self.attacker_holds,
            "success": self.success,
            "criterion": {
                "score": self.criterion.score,
                "at_least": self.criterion.at_least,
                "why": self.criterion.why,
            },
            "scores": {name: round(float(score), 6) for name, score in self.scores.items()},
            "cost": {name: float(amount) for name, amount in self.cost.items()},
            "seconds": round(self.seconds, 3),
        }


Result = TypeVar("Result")


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    """Returns what `work` returns, and how many seconds it took."""
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start
