"""What a run tells of itself while it goes on: CSV, TensorBoard, and learning curves as a picture."""

import csv
from pathlib import Path
from types import TracebackType
from typing import Any

from etc_data.shards.files import published

_COLUMNS = (
    "epoch",
    "train_loss",
    "train_accuracy",
    "val_loss",
    "val_accuracy",
    "lr",
    "images_per_second",
    "seconds",
)


class Journal:
    """Keeps one row for each epoch in ``history.csv``, TensorBoard's folder and ``curves.png``."""

    def __init__(self, folder: Path, *, first_epoch: int = 0) -> None:
        """Opens the journal of a run.

        Args:
            folder: of the run.
            first_epoch: rows of an earlier run from this epoch on are forgotten.
        """
        self._path = folder / "history.csv"
        self._curves = folder / "curves.png"
        self.rows: list[dict[str, Any]] = []
        if self._path.exists():
            with self._path.open(newline="") as file:
                rows = [_numbers(row) for row in csv.DictReader(file)]
            self.rows = [row for row in rows if row["epoch"] < first_epoch]
        self._board = _open_tensorboard(folder / "tensorboard", first_epoch)

    def add(self, row: dict[str, Any]) -> None:
        """Keeps a row; its names are columns of the table."""
        self.rows.append(row)
        with published(self._path) as raw:
            lines = [",".join(_COLUMNS)]
            lines += [",".join(str(row.get(name, "")) for name in _COLUMNS) for row in self.rows]
            raw.write(("\n".join(lines) + "\n").encode())
        if self._board is not None:
            for name, value in row.items():
                if name != "epoch":
                    self._board.add_scalar(name.replace("_", "/", 1), value, row["epoch"])
        draw_curves(self.rows, self._curves)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._board is not None:
            self._board.close()


def draw_curves(rows: list[dict[str, Any]], path: Path) -> None:
    """Draws loss and accuracy against epochs, where matplotlib is installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    epochs = [row["epoch"] + 1 for row in rows]
    for place, name, scale in ((1, "loss", 1), (2, "accuracy", 100)):
        axes = figure.add_subplot(1, 2, place)
        for part, style in (("train", "--"), ("val", "-")):
            values = [scale * row[f"{part}_{name}"] for row in rows]
            axes.plot(epochs, values, style, marker="." if len(rows) < 20 else "", label=part)
        axes.set_xlabel("epoch")
        axes.set_title("accuracy (%)" if name == "accuracy" else name)
        axes.grid(alpha=0.3)
        axes.legend()
    with published(path) as file:
        figure.savefig(file, format="png", dpi=120)


def _open_tensorboard(folder: Path, first_epoch: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=first_epoch)


def _numbers(row: dict[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {name: float(text) for name, text in row.items() if text}
    values["epoch"] = int(values["epoch"])
    return values
