"""Learning rates as a function of progress alone, so that a resumed run needs no scheduler's state."""

import itertools
import math


def learning_rate_factor(schedule: str, progress: float, warmup: float) -> float:
    """Returns what the highest learning rate is multiplied by.

    Args:
        schedule: ``"cosine"``, ``"triangular"``, ``"steps"``, ``"constant"``; see `OptimizerSettings`.
        progress: share of all steps that are done, 0 … 1.
        warmup: share of all steps that all but ``"triangular"`` grow over.

    Examples:
        >>> [round(learning_rate_factor("triangular", p / 10, 0), 3) for p in (0, 2, 4, 6, 8, 10)]
        [0.0, 0.5, 1.0, 0.525, 0.05, 0.0]
    """
    if schedule == "triangular":
        points = ((0.0, 0.0), (0.4, 1.0), (0.8, 0.05), (1.0, 0.0))
        for (x0, y0), (x1, y1) in itertools.pairwise(points):
            if progress <= x1:
                return y0 + (y1 - y0) * (progress - x0) / (x1 - x0)
        return 0.0
    if progress < warmup:
        return progress / warmup
    if schedule == "constant":
        return 1.0
    if schedule == "steps":
        return 1.0 if progress < 0.5 else 0.1 if progress < 0.75 else 0.01
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / max(1 - warmup, 1e-9)))
