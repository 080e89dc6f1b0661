"""Accuracy against protection: what a network still learns, beside what an attacker restores.

    python -m etc_data.recipes.protection POINTS.json PICTURE.png

Accuracies are those of `train` and `evaluate`.  What is restored is the share of true joins of blocks
that ``etc-data audit`` finds from ciphertexts alone, with one image and with many.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from etc_data.errors import SettingsError
from etc_data.recipes.pictures import new_figure, publish_figure


@dataclass(frozen=True)
class Point:
    """One way of learning from one data set, as it was measured.

    Attributes:
        data: name of the data set and image size; each has an axis of its own.
        label: scheme, key scope and network.
        accuracy: 0 … 1, on images encrypted as those of the training.
        joins_of_one: share of joins restored from one ciphertext, 0 … 1; 1 for plain images.
        joins_of_many: the same from all ciphertexts that the audit looked at.
    """

    data: str
    label: str
    accuracy: float
    joins_of_one: float
    joins_of_many: float

    def __post_init__(self) -> None:
        """Checks that shares are shares."""
        for name in ("accuracy", "joins_of_one", "joins_of_many"):
            share = getattr(self, name)
            if not isinstance(share, int | float) or not 0 <= share <= 1:
                raise SettingsError(f"{name} of {self.label} is {share!r}; it must be from 0 to 1")


def read_points(path: Path) -> list[Point]:
    """Returns the points of a JSON file: a list of objects with the attributes of `Point`.

    Raises:
        SettingsError: it holds something else.
    """
    try:
        return [Point(**entry) for entry in json.loads(path.read_bytes())]
    except (OSError, TypeError, ValueError) as error:
        raise SettingsError(f"{path} holds no points: {error}") from None


def draw_protection(points: Sequence[Point], path: Path) -> None:
    """Draws points as a PNG: to the right what is protected, upwards what is learned.

    A hollow mark tells what is left of the joins when an attacker has one image, a full one what is
    left when he has many under the same key policy; a line joins the two.
    """
    sets = list(dict.fromkeys(point.data for point in points))
    most = max(sum(point.data == data for point in points) for data in sets)
    figure, axes = new_figure(4.6 + 0.28 * most, columns=len(sets))
    for place, data in zip(axes, sets, strict=True):
        chosen = [point for point in points if point.data == data]
        for number, point in enumerate(chosen):
            one, many = 100 * (1 - point.joins_of_one), 100 * (1 - point.joins_of_many)
            height, color = 100 * point.accuracy, f"C{number % 10}"
            place.plot([one, many], [height] * 2, "-", color=color, alpha=0.4)
            place.plot([one], [height], "o", color=color, fillstyle="none")
            place.plot([many], [height], "o", color=color, label=point.label)
        place.set_title(data)
        place.set_xlim(-5, 105)
        place.set_ylim(0, 110 * max(point.accuracy for point in chosen))
        place.set_xlabel("joins of blocks not restored (%)\nhollow: from one image, full: from many")
        place.set_ylabel("accuracy (%)")
        place.grid(alpha=0.3)
        place.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.17))
    publish_figure(figure, path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Draws the points of a file: ``POINTS.json PICTURE.png``."""
    points, picture = sys.argv[1:] if arguments is None else arguments
    draw_protection(read_points(Path(points)), Path(picture))


if __name__ == "__main__":
    main()
