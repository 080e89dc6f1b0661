"""Every run of the papers' tables learns for one step: scaled down, and (slow) at full size."""

import dataclasses

import pytest

from etc_data.recipes.reproduce.table import load_table, table_names
from etc_data.recipes.train import train


def one_step(settings):
    """The same network, learning from and tested on a handful of images."""
    data = dataclasses.replace(settings.data, limit=4, val_limit=2)
    model = dataclasses.replace(settings.model, pretrained=False)
    return dataclasses.replace(settings, epochs=1, batch=4, precision="no", data=data, model=model)


@pytest.mark.parametrize(
    ("name", "run"),
    [
        (name, run)
        for name in table_names()
        for run in load_table(name).runs["cpu"]
        if "cifar100" not in run
    ],
)
def test_every_run_learns(name, run, digits, key, tmp_path):
    settings = load_table(name).settings(
        run, "cpu", source=str(digits), val="val", key=key, out=tmp_path / "run"
    )
    assert train(one_step(settings)).parameters > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "run"),
    [
        ("iijima-table1", "plain"),
        ("lin2024-table2", "plain"),
        ("maungmaung2022-table2", "convmixer-etc"),
        ("maungmaung2022-table2", "imagenette-etc"),
        ("maungmaung2022-table2", "vit-etc"),
        ("maungmaung2022-table2", "adapted-le"),
        ("maungmaung2022-table2", "adapted-etc"),
        ("maungmaung2022-table2", "resnet-pe"),
        ("maungmaung2022-table3", "ele-80"),
        ("qi2022-convmixer-table1", "matrix"),
        ("qi2022-vit-table1", "vit-shuffled"),
    ],
)
def test_every_network_learns_at_full_size(name, run, digits, key, tmp_path):
    settings = load_table(name).settings(
        run, "full", source=str(digits), val="val", key=key, out=tmp_path / "run"
    )
    assert train(one_step(settings)).parameters > 700_000
