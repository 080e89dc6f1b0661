"""The examples of docs/reading.md run as they are printed."""

import re
import shutil
from pathlib import Path

import pytest
import torch
from torch import distributed

from etc_data.cipher import Cipher
from etc_data.shards import write_shards

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = re.findall("```python\n(.*?)```", (ROOT / "docs" / "reading.md").read_text(), re.DOTALL)


@pytest.fixture
def folder(written, plant, key, tmp_path, monkeypatch):
    """A working folder with the data sets that the examples name."""
    for name in ("shards", "clinic-a"):
        shutil.copytree(written, tmp_path / name)
    photos = plant(tmp_path / "photos", *(f"train/cat/{number}.jpg" for number in range(5)))
    write_shards(photos, tmp_path / "clinic-b", Cipher("etc-16", key), size=48)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def one_rank(tmp_path, monkeypatch):
    """What torchrun tells a program, for a single process."""
    if not (distributed.is_available() and distributed.is_gloo_available()):
        pytest.skip("torch without gloo")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "0")
    yield
    distributed.destroy_process_group()


def test_examples_run(folder, one_rank):
    pytest.importorskip("torchdata", reason="no torchdata")
    assert len(EXAMPLES) == 4
    names = {}
    for number, example in enumerate(EXAMPLES):
        exec(compile(example, f"example {number}", "exec"), names)
    assert names["both"].samples == 27 + 5
    assert names["hits"][1] == len(names["val"]) == 6
    assert len(names["loader"]) == 4
    assert torch.load(folder / "checkpoint.pt")["epoch"] == 2
    # Saved after the last epoch's first step, it goes on with the second.
    names = {}
    exec(EXAMPLES[0].partition("train =")[0] + EXAMPLES[3], names)
    assert (names["epoch"], names["step"]) == (2, 2)
