import csv

import pytest

from etc_data.recipes.journal import Journal

ROW = {
    "train_loss": 1.25,
    "train_accuracy": 0.5,
    "val_loss": 0.1 + 0.2,
    "val_accuracy": 1 / 3,
    "lr": 1e-5,
    "images_per_second": 10.0,
    "seconds": 1.5,
}


def rows_of(folder):
    with (folder / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_each_epoch_is_a_row_and_a_point_of_the_curves(tmp_path):
    pytest.importorskip("matplotlib")
    with Journal(tmp_path) as journal:
        for epoch in range(3):
            journal.add({"epoch": epoch, **ROW})
    assert [row["epoch"] for row in rows_of(tmp_path)] == ["0", "1", "2"]
    assert float(rows_of(tmp_path)[1]["val_accuracy"]) == 1 / 3
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_resumed_journal_forgets_what_is_done_again(tmp_path):
    with Journal(tmp_path) as journal:
        for epoch in range(3):
            journal.add({"epoch": epoch, **ROW})
    with Journal(tmp_path, first_epoch=2) as journal:
        assert journal.rows == [{"epoch": epoch, **ROW} for epoch in (0, 1)]
        journal.add({"epoch": 2, **ROW, "lr": 7.0})
    assert [(row["epoch"], row["lr"]) for row in rows_of(tmp_path)] == [
        ("0", "1e-05"),
        ("1", "1e-05"),
        ("2", "7.0"),
    ]


def test_tensorboard_gets_the_same_numbers(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with Journal(tmp_path) as journal:
        journal.add({"epoch": 0, **ROW})
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert events.Scalars("val/accuracy")[0].value == pytest.approx(1 / 3)
    assert events.Scalars("train/loss")[0].value == 1.25
