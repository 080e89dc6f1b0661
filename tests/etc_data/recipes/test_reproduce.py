import json
import multiprocessing
import shutil
import time

import pytest
import torch

import etc_data.torchvision_cpu  # noqa: F401

# isort: split
import timm

from etc_data.errors import SettingsError
from etc_data.recipes.reproduce.run import reproduce
from etc_data.recipes.reproduce.table import load_table, merge, read_table, table_names
from etc_data.recipes.settings import load_settings
from etc_data.recipes.train import make_model
from etc_data.schemes import Scheme

BUDGETS = ("cpu", "gpu-10min", "full")

TINY = """
title: "Tiny table"
common:
  batch: 32
  model: {name: etc_convmixer_256_8_p8, options: {dim: 16, depth: 1, kernel_size: 3}}
  data: {source: digits, size: 32}
  optimizer: {lr: 0.02}
budgets:
  full: {settings: {epochs: 2}}
  gpu-10min: {settings: {epochs: 1}}
  cpu: {note: "two epochs.", settings: {epochs: 2, data: {limit: 150, val_limit: 60}}}
runs:
  plain: {}
  etc: {data: {scheme: etc-8}}
rows:
  - {label: plain, run: plain, paper: 90.46}
  - {label: encrypted, run: plain, paper: 90.46, test: encrypted-model, scheme: ind-8}
  - {label: no key, run: plain, test: plain-on-encrypted-model, scheme: ind-8}
  - {label: wrong keys, run: plain, paper: "12–20", test: wrong-keys, scheme: ind-8, keys: 3}
  - {label: trained on EtC, run: etc, paper: 92.72}
"""


@pytest.fixture
def tiny():
    return read_table("tiny", TINY)


def test_the_six_tables_are_there():
    assert table_names() == [
        "iijima-table1",
        "lin2024-table2",
        "maungmaung2022-table2",
        "maungmaung2022-table3",
        "qi2022-convmixer-table1",
        "qi2022-vit-table1",
    ]
    with pytest.raises(SettingsError, match=r"^table 'x' is unknown; known are iijima-table1, "):
        load_table("x")


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("name", table_names())
def test_every_run_of_every_table_has_valid_settings_and_a_network(name, budget, tmp_path):
    table = load_table(name)
    assert {row.run for row in table.rows} == set(table.runs[budget])
    for run in table.runs[budget]:
        settings = table.settings(run, budget, source="x", val="val", key=tmp_path / "k", out=tmp_path)
        assert (settings.data.key is None) == (settings.data.scheme is None)
        if settings.data.scheme:
            Scheme.preset(settings.data.scheme).check_size(settings.data.size, settings.data.size)
        assert timm.is_model(settings.model.name.partition(".")[0])
        alone = run.endswith(("-etc", "encrypted", "matrix", "unaugmented"))
        if alone and "pyramidnet" not in settings.model.name:
            augment = settings.augment
            assert not (augment.flip or augment.shift or augment.erase or augment.recipe), run
        if budget == "cpu":
            pixels = torch.zeros(1, 3, settings.data.size, settings.data.size)
            model = make_model(settings, 10).eval()
            assert model(pixels).shape == (1, 10)
            rows = [row for row in table.rows if row.run == run and row.scheme]
            assert all(Scheme.preset(row.scheme) for row in rows)
    if budget != "full":
        assert table.notes[budget]


def test_a_table_is_filled_once(tiny, digits, tmp_path):
    said = []
    results = reproduce(tiny, {"digits": str(digits)}, tmp_path, say=said.append)
    plain, encrypted, _, wrong, _ = (result.accuracies for result in results)
    assert plain == encrypted
    assert len(wrong) == 3
    assert max(wrong) < 0.4  # chance is 0.1
    folder = tmp_path / "tiny" / "cpu"
    table = (folder / "table.md").read_text()
    assert "**Scaled down (cpu)**: two epochs." in table
    assert f"| plain | 90.46 | {100 * plain[0]:.2f} | 2 | 150 | " in table
    assert "| wrong keys | 12–20 | " in table
    assert [row["paper"] for row in json.loads((folder / "table.json").read_bytes())][:2] == [90.46] * 2

    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.*") if "table" not in path.name}
    again = reproduce(tiny, {"digits": str(digits)}, tmp_path)
    assert again == results
    assert (folder / "table.md").read_text() == table
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_table_that_was_stopped_goes_on(tiny, digits, tmp_path):
    def stop(line):
        if "run etc" in line:
            raise KeyboardInterrupt

    sources = {"digits": str(digits)}
    with pytest.raises(KeyboardInterrupt):
        reproduce(tiny, sources, tmp_path, say=stop)
    done = tmp_path / "tiny" / "cpu" / "plain" / "last.safetensors"
    before = done.stat().st_mtime_ns
    assert len(reproduce(tiny, sources, tmp_path)) == 5
    assert done.stat().st_mtime_ns == before


LONG = TINY.replace("settings: {epochs: 2", "settings: {epochs: 6")


def _reproduce(sources, out):
    torch.set_num_threads(1)
    reproduce(read_table("tiny", LONG), sources, out)


def test_a_table_that_was_killed_goes_on_where_it_was(digits, tmp_path):
    tiny, sources = read_table("tiny", LONG), {"digits": str(digits)}
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = multiprocessing.get_context("spawn").Process(target=_reproduce, args=(sources, killed))
    process.start()
    etc = killed / "tiny" / "cpu" / "etc"
    deadline = time.monotonic() + 120
    while not (etc / "state.pt").exists():  # the second run has done its first epoch
        assert process.is_alive(), "ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.0005)
    process.kill()
    process.join()
    assert not (etc / "summary.json").exists()
    plain = (killed / "tiny" / "cpu" / "plain" / "last.safetensors").stat().st_mtime_ns

    whole.mkdir()
    shutil.copy(killed / "experiment.key", whole)
    results = reproduce(tiny, sources, killed)
    uninterrupted = reproduce(tiny, sources, whole)
    assert [r.accuracies for r in results] == [r.accuracies for r in uninterrupted]
    assert (killed / "tiny" / "cpu" / "plain" / "last.safetensors").stat().st_mtime_ns == plain
    weights = [out / "tiny" / "cpu" / "etc" / "last.safetensors" for out in (killed, whole)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_several_seeds_are_several_runs(tiny, digits, tmp_path):
    one = reproduce(tiny, {"digits": str(digits)}, tmp_path)
    two = reproduce(tiny, {"digits": str(digits)}, tmp_path, seeds=2)
    assert [len(result.accuracies) for result in two] == [2, 2, 2, 6, 2]
    assert [r.accuracies[: len(o.accuracies)] for r, o in zip(two, one, strict=True)] == [
        o.accuracies for o in one
    ]
    assert two[0].seconds > one[0].seconds
    table = (tmp_path / "tiny" / "cpu" / "table.md").read_text()
    first, second = (100 * accuracy for accuracy in two[0].accuracies)
    half = abs(first - second) / 2**0.5
    assert f"| plain | 90.46 | {(first + second) / 2:.2f} ± {half:.2f} |" in table
    assert "seeds 0 to 1 (mean ± standard deviation)" in table


def test_rows_of_a_data_set_that_is_not_named_are_left_out(digits, tmp_path):
    text = TINY.replace("  etc: {data: {", "  etc: {data: {source: letters, ")
    said = []
    results = reproduce(
        read_table("tiny", text), {"digits": str(digits)}, tmp_path, budget="gpu-10min", say=said.append
    )
    assert [result.row.run for result in results] == ["plain"] * 4
    assert "  trained on EtC: left out (no --data letters=SOURCE)" in said


def test_pretrained_networks_start_from_a_file(digits, trained, tmp_path):
    text = TINY.replace("kernel_size: 3}}", "kernel_size: 3}, pretrained: true}")
    weights = trained / "last.safetensors"
    reproduce(
        read_table("tiny", text), {"digits": str(digits)}, tmp_path, budget="gpu-10min", weights=weights
    )
    settings = load_settings(tmp_path / "tiny" / "gpu-10min" / "etc" / "settings.yaml")
    assert settings.model.checkpoint == str(weights)
    assert not settings.model.pretrained


def test_other_settings_are_no_cache(tiny, digits, tmp_path):
    reproduce(tiny, {"digits": str(digits)}, tmp_path, budget="gpu-10min")
    other = read_table("tiny", TINY.replace("epochs: 1", "epochs: 2"))
    with pytest.raises(SettingsError, match="epochs was 1 and is 2"):
        reproduce(other, {"digits": str(digits)}, tmp_path, budget="gpu-10min")


@pytest.mark.parametrize(
    ("sources", "match"), [({}, "needs images; its"), ({"cifar": "x"}, "has no data set cifar; its")]
)
def test_data_sets_must_be_named(sources, match, tmp_path):
    with pytest.raises(SettingsError, match=f"{match} data sets are cifar10, imagenette"):
        reproduce(load_table("maungmaung2022-table3"), sources, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_is_like_another_in_all_but_what_it_says():
    text = TINY.replace(
        "  etc: {data: {scheme: etc-8}}",
        "  etc: {like: big, data: {scheme: etc-8}}\n  big: {like: plain, batch: 64}",
    )
    text += "  - {label: big, run: big}\n"
    text = text.replace(
        "settings: {epochs: 2, data",
        "runs: {big: {seed: 7}, plain: {seed: 3}}, settings: {epochs: 2, data",
    )
    runs = read_table("tiny", text).runs["cpu"]
    assert runs["etc"] == merge(runs["plain"], {"batch": 64, "seed": 7, "data": {"scheme": "etc-8"}})
    assert runs["plain"]["seed"] == 3


def test_later_layers_override_earlier_ones():
    layers = {"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 4}, "d": {"e": 5}}, {}
    assert merge(*layers) == {"a": {"b": 4, "c": 2}, "d": {"e": 5}}
    assert layers[0] == {"a": {"b": 1, "c": 2}, "d": 3}
