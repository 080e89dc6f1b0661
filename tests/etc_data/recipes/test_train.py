import json
import multiprocessing
import shutil
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

import etc_data.torchvision_cpu  # noqa: F401

# isort: split
import timm

from etc_data import SecretKey
from etc_data.errors import EtcError, GeometryError, OutputExistsError, SettingsError
from etc_data.recipes.checkpoints import load_state, load_weights
from etc_data.recipes.journal import Journal
from etc_data.recipes.train import make_model, train

FILES = {
    "best.safetensors",
    "last.safetensors",
    "history.csv",
    "settings.yaml",
    "state.pt",
    "summary.json",
}
TIMES = ("images_per_second", "seconds")


def history(folder):
    with Journal(folder, first_epoch=1000) as journal:
        return [{name: row[name] for name in row if name not in TIMES} for row in journal.rows]


def assert_same_run(one, other):
    for name in ("last.safetensors", "best.safetensors"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    assert history(one) == history(other)
    accuracies = [json.loads((run / "summary.json").read_bytes())["accuracy"] for run in (one, other)]
    assert accuracies[0] == accuracies[1]


def train_on_one_thread(settings):
    torch.set_num_threads(1)
    train(settings)


def kill_in_the_second_epoch(settings):
    """Trains in a process of its own that is killed (SIGKILL) some steps after its first epoch."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["etc_data.recipes.train"])
    process = context.Process(target=train_on_one_thread, args=(settings,))
    process.start()
    out = Path(settings.out)
    state = out / "state.pt"
    seen, deadline = set(), time.monotonic() + 120
    while len(seen) < 4:
        assert process.is_alive(), "ended before it could be killed"
        assert time.monotonic() < deadline
        if (out / "history.csv").exists() and state.exists():
            seen.add(state.stat().st_mtime_ns)
        time.sleep(0.0005)
    process.kill()
    process.join()
    assert not (out / "summary.json").exists()


# -- what a run leaves ------------------------------------------------------------------------------


def test_a_run_learns_and_leaves_everything(trained):
    assert {path.name for path in trained.iterdir()} >= FILES
    assert not list(trained.glob(".*"))
    summary = json.loads((trained / "summary.json").read_bytes())
    assert summary["accuracy"] > 0.6  # chance is 0.1
    assert (summary["train_images"], summary["test_images"]) == (301, 120)
    assert summary["encryption"] is None
    _, facts = load_weights(trained / "last.safetensors")
    assert (facts["classes"], facts["size"]) == (10, [32, 32])
    assert [row["epoch"] for row in history(trained)] == [0, 1, 2, 3, 4]


def test_the_same_settings_give_the_same_run(digits, make_settings, tmp_path, trained):
    settings = make_settings(digits, tmp_path / "again", epochs=5)
    train(settings)
    assert_same_run(trained, tmp_path / "again")


def test_another_seed_gives_another_run(digits, make_settings, tmp_path, trained):
    train(make_settings(digits, tmp_path, epochs=1, seed=1))
    assert history(tmp_path)[0] != history(trained)[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"ema": 0.9},
        {"augment__mixup": 0.5, "augment__cutmix": 0.5, "augment__smoothing": 0.1},
        {"data__scheme": "etc-8", "augment__cutmix": 1.0, "data__quality": 90},
        {"augment__recipe": "crop:0.5+randaugment", "augment__erase": 0.5, "augment__flip": True},
        {"optimizer__name": "momentum", "optimizer__schedule": "triangular", "optimizer__clip": 0.0},
        {"precision": "bf16"},
    ],
)
def test_a_step_of_each_kind(digits, key, make_settings, tmp_path, changes):
    if "data__scheme" in changes:
        changes = changes | {"data__key": str(key)}
    limits = {"data__limit": 32, "data__val_limit": 16, "epochs": 1}
    train(make_settings(digits, tmp_path, **limits, **changes))
    assert history(tmp_path)[0]["train_loss"] > 0


# -- going on after a kill --------------------------------------------------------------------------

PLACES = {
    "plain": {"augment__flip": True, "augment__shift": 2, "augment__mixup": 0.5, "ema": 0.9},
    "encrypted": {"data__scheme": "etc-8", "augment__shift": 2, "augment__cutmix": 0.5},
    "recipe": {"augment__recipe": "crop:0.5+rand-m9-mstd0.5", "augment__erase": 0.5},
    "image keys": {"data__scheme": "etc-8", "data__key_scope": "image"},
    "shards": {},
    "shards, 2 workers": {"data__workers": 2},
}


@pytest.mark.parametrize(
    "place", [pytest.param(p, marks=[pytest.mark.slow] * ("workers" in p)) for p in PLACES]
)
def test_a_killed_run_ends_as_one_that_was_not(place, digits, shards, key, make_settings, tmp_path):
    source, changes = shards if "shards" in place else digits, dict(PLACES[place])
    if "data__scheme" in changes:
        changes["data__key"] = str(key)
    changes |= {"epochs": 3, "checkpoint_steps": 1}
    train(make_settings(source, tmp_path / "whole", **changes))
    killed = make_settings(source, tmp_path / "killed", **changes)
    kill_in_the_second_epoch(killed)
    state = load_state(tmp_path / "killed")
    assert state is not None
    assert state["epoch"] in (1, 2)
    train(killed, resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


def test_a_finished_run_resumes_to_itself(digits, make_settings, tmp_path):
    settings = make_settings(digits, tmp_path, epochs=2)
    first = train(settings)
    weights = (tmp_path / "last.safetensors").read_bytes()
    again = train(settings, resume=True)
    assert (again.accuracy, again.best_accuracy) == (first.accuracy, first.best_accuracy)
    assert (tmp_path / "last.safetensors").read_bytes() == weights


def test_resuming_with_other_settings_is_refused_and_says_which(trained, digits, make_settings):
    before = (trained / "state.pt").read_bytes()
    other = make_settings(digits, trained, epochs=6, optimizer__lr=0.5)
    with pytest.raises(SettingsError, match=r"epochs was 5 and is 6; optimizer.lr was 0.02 and is 0.5"):
        train(other, resume=True)
    assert (trained / "state.pt").read_bytes() == before


def test_resuming_with_another_key_is_refused(digits, key, other_key, make_settings, tmp_path):
    mine = tmp_path / "mine.key"
    shutil.copy(key, mine)
    settings = make_settings(
        digits, tmp_path / "run", epochs=1, data__scheme="etc-8", data__key=str(mine), data__limit=32
    )
    train(settings)
    mine.unlink()
    shutil.copy(other_key, mine)
    with pytest.raises(SettingsError, match=r"key_id was .* and is "):
        train(settings, resume=True)


# -- what is refused --------------------------------------------------------------------------------


def test_a_folder_that_holds_something_is_not_overwritten(trained, digits, make_settings):
    before = (trained / "last.safetensors").read_bytes()
    with pytest.raises(OutputExistsError, match="is not empty"):
        train(make_settings(digits, trained))
    with pytest.raises(SettingsError, match="give one of them"):
        train(make_settings(digits, trained), resume=True, force=True)
    assert (trained / "last.safetensors").read_bytes() == before


def test_force_replaces_a_run(digits, make_settings, tmp_path):
    train(make_settings(digits, tmp_path, epochs=2, data__limit=32))
    train(make_settings(digits, tmp_path, epochs=1, data__limit=32), force=True)
    assert len(history(tmp_path)) == 1
    assert yaml.safe_load((tmp_path / "settings.yaml").read_text())["epochs"] == 1


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"model__name": "no_such_net"}, SettingsError, "^model no_such_net: "),
        ({"model__options": {"wings": 2}}, SettingsError, "wings"),
        ({"model__checkpoint": "/no/such/file.pt"}, SettingsError, "file.pt"),
        ({"optimizer__name": "no_such_way"}, SettingsError, "no_such_way"),
        ({"data__source": "/no/such/folder"}, EtcError, "/no/such/folder"),
        ({"data__train": "extra"}, SettingsError, "^data.train is extra, but .*: it has train, val$"),
        (
            {"data__scheme": "etc-8", "data__key": None},
            EtcError,
            "^data.scheme is etc-8, and there is no",
        ),
        ({"data__scheme": "etc-24"}, GeometryError, "32 is not a multiple of block_size 24"),
        ({"data__scheme": "unknown-8"}, EtcError, "unknown-8"),
        ({"data__scheme": "etc-8", "data__key": "/no/key"}, EtcError, "/no/key"),
        ({"augment__grid": 5}, SettingsError, "^augment.grid is 5; it must divide"),
        ({"augment__recipe": "twist"}, EtcError, "'twist' is unknown"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(
    digits, key, make_settings, tmp_path, changes, error, match, monkeypatch
):
    monkeypatch.delenv("ETC_DATA_KEY", raising=False)
    changes = {"data__key": str(key), "data__limit": 40, "data__val_limit": 10} | changes
    settings = make_settings(changes.pop("data__source", digits), tmp_path / "run", **changes)
    with pytest.raises(error, match=match) as caught:
        train(settings)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (
            {"data__scheme": "etc-8"},
            "holds encrypted images, which scheme etc-8 cannot",
        ),
        ({"data__quality": 90}, "data.quality is 90"),
        ({"data__limit": 9}, "data.limit is 9"),
        ({"augment__flip": True}, "no encrypted image can be flipped"),
        ({"augment__recipe": "crop"}, "no encrypted image can be flipped"),
    ],
)
def test_shards_refuse_what_only_plain_images_can_have(
    shards, key, make_settings, tmp_path, changes, match
):
    with pytest.raises(SettingsError, match=match):
        train(make_settings(shards, tmp_path / "run", data__key=str(key), **changes))
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_no_number_stops_the_run(digits, make_settings, tmp_path):
    settings = make_settings(
        digits, tmp_path, optimizer__lr=1e30, optimizer__clip=0.0, optimizer__name="sgd"
    )
    with pytest.raises(EtcError, match=r"^the loss is (nan|inf) in epoch"):
        train(settings)


# -- starting from a file ---------------------------------------------------------------------------


def test_fine_tuning_starts_from_a_local_file_without_its_classifier(
    trained, digits, make_settings, tmp_path
):
    settings = make_settings(
        digits, tmp_path, model__checkpoint=str(trained / "last.safetensors"), data__limit=32
    )
    tensors, _ = load_weights(trained / "last.safetensors")
    model = make_model(settings, 7)
    for name, value in model.state_dict().items():
        assert name.startswith("head") or torch.equal(value, tensors[name]), name


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_fine_tuning_starts_from_a_file_of_timm_with_another_number_of_classes(
    suffix, digits, make_settings, tmp_path
):
    options = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 2}
    torch.manual_seed(5)
    source = timm.create_model("vit_tiny_patch16_224", num_classes=21, **options).state_dict()
    path = tmp_path / f"in21.{suffix}"
    save_file(source, path) if suffix == "safetensors" else torch.save(source, path)
    settings = make_settings(
        digits,
        tmp_path / "run",
        model={"name": "vit_tiny_patch16_224", "options": options, "checkpoint": str(path)},
        data__limit=32,
        epochs=1,
        optimizer__lr=1e-9,
    )
    train(settings)
    tensors, facts = load_weights(tmp_path / "run" / "last.safetensors")
    assert facts["classes"] == 10
    assert tensors["head.weight"].shape == (10, 24)
    for name, value in source.items():
        assert name.startswith("head") or torch.allclose(tensors[name], value, atol=1e-6), name


def test_a_hub_that_cannot_be_reached_is_an_error_that_says_what_helps(
    digits, make_settings, tmp_path, monkeypatch
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    settings = make_settings(
        digits,
        tmp_path / "run",
        model={"name": "vit_tiny_patch16_224.augreg_in21k", "pretrained": True},
        data__limit=32,
    )
    with pytest.raises(SettingsError, match=r"^model vit_tiny_patch16_224\.augreg_in21k: ") as caught:
        train(settings)
    assert "model.checkpoint" in caught.value.hint
    assert not (tmp_path / "run").exists()


# -- secrets ----------------------------------------------------------------------------------------


def test_a_run_leaves_the_key_id_and_no_key(digits, key, make_settings, tmp_path, forms_of_key):
    settings = make_settings(
        digits, tmp_path, data__scheme="etc-8", data__key=str(key), data__limit=32, epochs=1
    )
    train(settings)
    secrets = forms_of_key()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= len(FILES)
    for path in files:
        content = path.read_bytes()
        assert not any(secret in content for secret in secrets), path.name
    for name in ("summary.json", "last.safetensors"):
        assert SecretKey.load(key).id.encode() in (tmp_path / name).read_bytes()
