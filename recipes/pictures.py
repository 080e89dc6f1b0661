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
        names: of the classes; where there is none for each, their numbers stand.
        facts: of the test, for the file.
    """
    out.mkdir(parents=True, exist_ok=True)
    numbers = [str(number) for number in range(len(scores.confusion))]
    labels = list(names) if len(names) == len(numbers) else numbers
    record = {
        **facts,
        "classes": labels,
        "samples": scores.samples,
        "accuracy": scores.accuracy,
        "top": {str(k): scores.top(k) for k in scores.right},
        "loss": scores.loss,
        "by_class": [None if np.isnan(share) else float(share) for share in scores.by_class],
        "confusion": scores.confusion.tolist(),
    }
    with published(out / "scores.json") as file:
        file.write((json.dumps(record, indent=1) + "\n").encode())
    draw_confusion(scores, labels, out / "confusion.png")
    draw_classes(scores, labels, out / "classes.png")


def draw_confusion(scores: Scores, labels: Sequence[str], path: Path) -> None:
    """Draws how often each class (row) was taken for each (column), as shares of the row."""
    figure, (axes,) = new_figure(max(4.0, 0.35 * len(labels) + 2))
    counts = scores.confusion.sum(axis=1, keepdims=True)
    picture = axes.imshow(scores.confusion / np.maximum(counts, 1), vmin=0, vmax=1, cmap="Blues")
    figure.colorbar(picture, ax=axes, shrink=0.8)
    if len(labels) <= 40:
        axes.set_xticks(range(len(labels)), labels, rotation=90)
        axes.set_yticks(range(len(labels)), labels)
    axes.set_xlabel("taken for")
    axes.set_ylabel("class")
    axes.set_title(f"accuracy {scores.accuracy:.2%} of {scores.samples}")
    publish_figure(figure, path)


def draw_classes(scores: Scores, labels: Sequence[str], path: Path) -> None:
    """Draws the accuracy of each class, sorted."""
    figure, (axes,) = new_figure(max(3.0, 0.25 * len(labels) + 1.5))
    shares = scores.by_class
    order = np.argsort(np.nan_to_num(shares))
    axes.barh(range(len(order)), 100 * np.nan_to_num(shares[order]))
    if len(labels) <= 100:
        axes.set_yticks(range(len(order)), [labels[int(number)] for number in order])
    axes.axvline(100 * scores.accuracy, linestyle="--", color="gray")
    axes.set_xlabel("accuracy (%)")
    publish_figure(figure, path)


def draw_wrong_keys(right: float, wrong: Sequence[float], path: Path) -> None:
    """Draws the accuracies with wrong keys as a box, beside that with the right one (iijima Fig. 5)."""
    figure, (axes,) = new_figure(4.0)
    axes.boxplot([100 * accuracy for accuracy in wrong], widths=0.5)
    axes.plot([1], [100 * right], "o", label="right key")
    axes.set_xticks([1], [f"{len(wrong)} wrong keys"])
    axes.set_ylim(0, 100)
    axes.set_ylabel("accuracy (%)")
    axes.legend()
    publish_figure(figure, path)


def new_figure(height: float, columns: int = 1) -> tuple[Any, list[Any]]:
    """Returns a figure with axes side by side, each 6 by `height` inches.

    Raises:
        EtcError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise EtcError(f"pictures need matplotlib: {error}", "pip install 'etc-data[train]'") from None
    figure = Figure(figsize=(6 * columns, height), layout="constrained")
    return figure, [figure.add_subplot(1, columns, column + 1) for column in range(columns)]


def publish_figure(figure: Any, path: Path) -> None:
    """Writes a figure as PNG, whole or not at all."""
    with published(path) as file:
        figure.savefig(file, format="png", dpi=120)
