"""Pictures of how well a model does: which class is taken for which, each class, wrong keys."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from etc_data.errors import EtcError
from etc_data.recipes.scores import Scores
from etc_data.shards.files import published


def write_report(out: Path, scores: Scores, names: Sequence[str], facts: dict[str, Any]) -> None:
    """Writes ``scores.json``, ``confusion.png`` and ``classes.png`` into a folder.

    Args:
        out: the folder; made if need be.
        scores: of the model.
        names: of the classes; may be empty.
        facts: of the test, for the file.
    """
    out.mkdir(parents=True, exist_ok=True)
    record = {
        **facts,
        "samples": scores.samples,
        "accuracy": scores.accuracy,
        "top": {str(k): scores.top(k) for k in scores.right},
        "loss": scores.loss,
        "by_class": [None if np.isnan(share) else float(share) for share in scores.by_class],
        "confusion": scores.confusion.tolist(),
    }
    with published(out / "scores.json") as file:
        file.write((json.dumps(record, indent=1) + "\n").encode())
    labels = list(names) or [str(number) for number in range(len(scores.confusion))]
    draw_confusion(scores, labels, out / "confusion.png")
    draw_classes(scores, labels, out / "classes.png")


def draw_confusion(scores: Scores, labels: Sequence[str], path: Path) -> None:
    """Draws how often each class (row) was taken for each (column), as shares of the row."""
    figure, axes = _figure(max(4.0, 0.35 * len(labels) + 2))
    counts = scores.confusion.sum(axis=1, keepdims=True)
    picture = axes.imshow(scores.confusion / np.maximum(counts, 1), vmin=0, vmax=1, cmap="Blues")
    figure.colorbar(picture, ax=axes, shrink=0.8)
    if len(labels) <= 40:
        axes.set_xticks(range(len(labels)), labels, rotation=90)
        axes.set_yticks(range(len(labels)), labels)
    axes.set_xlabel("taken for")
    axes.set_ylabel("class")
    axes.set_title(f"accuracy {scores.accuracy:.2%} of {scores.samples}")
    _publish(figure, path)


def draw_classes(scores: Scores, labels: Sequence[str], path: Path) -> None:
    """Draws the accuracy of each class, sorted."""
    figure, axes = _figure(max(3.0, 0.25 * len(labels) + 1.5))
    shares = scores.by_class
    order = np.argsort(np.nan_to_num(shares))
    axes.barh(range(len(order)), 100 * np.nan_to_num(shares[order]))
    if len(labels) <= 100:
        axes.set_yticks(range(len(order)), [labels[int(number)] for number in order])
    axes.axvline(100 * scores.accuracy, linestyle="--", color="gray")
    axes.set_xlabel("accuracy (%)")
    _publish(figure, path)


def draw_wrong_keys(right: float, wrong: Sequence[float], path: Path) -> None:
    """Draws the accuracies with wrong keys as a box, beside that with the right one (iijima Fig. 5)."""
    figure, axes = _figure(4.0)
    axes.boxplot([100 * accuracy for accuracy in wrong], widths=0.5)
    axes.plot([1], [100 * right], "o", label="right key")
    axes.set_xticks([1], [f"{len(wrong)} wrong keys"])
    axes.set_ylim(0, 100)
    axes.set_ylabel("accuracy (%)")
    axes.legend()
    _publish(figure, path)


def _figure(height: float) -> tuple[Any, Any]:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise EtcError(f"pictures need matplotlib: {error}", "pip install 'etc-data[train]'") from None
    figure = Figure(figsize=(6, height), layout="constrained")
    return figure, figure.add_subplot()


def _publish(figure: Any, path: Path) -> None:
    with published(path) as file:
        figure.savefig(file, format="png", dpi=120)
