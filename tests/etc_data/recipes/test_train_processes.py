"""Runs of several processes under torchrun, and of the command in a process of its own."""

import json

import pytest

from etc_data.recipes.checkpoints import load_state
from etc_data.recipes.evaluate import TrainedModel, evaluate
from etc_data.recipes.settings import DataSettings


@pytest.mark.slow
def test_two_processes_over_uneven_shards_finish_and_resume(
    shards, write_settings, start, kill_when, tmp_path
):
    def run(name, *options):
        config = write_settings(tmp_path / f"{name}.yaml", shards, tmp_path / name, epochs=3, batch=20)
        launch = ["torch.distributed.run", "--standalone", "--nproc-per-node=2"]
        module = ["-m", "etc_data.recipes.train", config, "checkpoint_steps=1"]
        return start(*launch, *module, *options)

    whole = run("whole")
    output, _ = whole.communicate(timeout=240)
    assert whole.returncode == 0, output

    killed, out = run("killed"), tmp_path / "killed"
    seen = set()

    def in_second_epoch():
        if (out / "history.csv").exists() and (out / "state.pt").exists():
            seen.add((out / "state.pt").stat().st_mtime_ns)
        return len(seen) >= 3

    kill_when(killed, in_second_epoch)
    assert not (out / "summary.json").exists()
    state = load_state(out)
    assert state is not None
    assert state["processes"] == 2
    resumed = run("killed", "--resume")
    output, _ = resumed.communicate(timeout=240)
    assert resumed.returncode == 0, output
    for name in ("last.safetensors", "best.safetensors"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()

    # What both processes together counted is what the saved weights reach in one.
    summary = json.loads((out / "summary.json").read_bytes())
    assert summary["processes"] == 2
    data = DataSettings(source=str(shards), workers=0)
    scores = evaluate(TrainedModel.load(out / "last.safetensors"), data)
    assert (scores.samples, scores.accuracy) == (120, summary["accuracy"])


def test_a_run_from_the_shell_says_what_is_wrong(digits, write_settings, start, tmp_path):
    config = write_settings(tmp_path / "c.yaml", digits, tmp_path / "run", epochs=1)
    process = start("etc_data.recipes.train", config, "optimizer.speed=3")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert output.splitlines()[-2] == "error: optimizer.speed is no setting"
    assert output.splitlines()[-1].startswith("hint: known are optimizer.name, ")
