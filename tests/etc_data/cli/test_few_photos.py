"""A hundred photos on a laptop: one shard, no process that has nothing to do, a quick start."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from etc_data.shards.manifest import Manifest

# Python imports a module of this name whenever it starts.  Each process leaves a note: how it was
# started, and, if it ends by itself, what it had imported by then.
_NOTES = """
import atexit, json, os, sys
def note():
    with open(os.path.join({folder!r}, str(os.getpid())), "w") as file:
        json.dump([sys.orig_argv, sorted(sys.modules)], file)
note()
atexit.register(note)
"""


@dataclass(frozen=True)
class Run:
    """What a run of the command started: command lines, and modules that its own process imported."""

    out: Path
    main: list[str]
    workers: list[list[str]]
    modules: set[str]

    @property
    def samples(self) -> list[int]:
        """How many samples each shard holds."""
        return [shard.samples for shard in Manifest.read(self.out).shards]


@pytest.fixture(scope="module")
def hundred(tmp_path_factory, make_photo):
    """A hundred photos in two classes."""
    root = tmp_path_factory.mktemp("hundred") / "photos"
    for number in range(100):
        make_photo(root / ("cat", "dog")[number % 2] / f"{number}.jpg", number)
    return root


@pytest.fixture
def encrypt(child_environment, hundred, key, tmp_path):
    """encrypt(options) runs the real command on them and tells what it started."""

    def run(*options) -> Run:
        (tmp_path / "start").mkdir()
        (tmp_path / "notes").mkdir()
        program = _NOTES.format(folder=str(tmp_path / "notes"))
        (tmp_path / "start" / "sitecustomize.py").write_text(program)
        environment = child_environment()
        environment["PYTHONPATH"] = os.pathsep.join(
            (str(tmp_path / "start"), environment["PYTHONPATH"])
        )
        command = [sys.executable, "-m", "etc_data", "encrypt", hundred, tmp_path / "out", "--key", key]
        subprocess.run(
            [*map(str, command), "--size", "64", *options], env=environment, timeout=120, check=True
        )
        notes = [json.loads(path.read_text()) for path in (tmp_path / "notes").iterdir()]
        mains = [note for note in notes if "encrypt" in note[0]]
        workers = [line for line, _ in notes if any("spawn_main" in word for word in line)]
        trackers = [line for line, _ in notes if any("resource_tracker" in word for word in line)]
        assert len(notes) == len(mains) + len(workers) + len(trackers), notes
        assert (len(mains), len(trackers)) == (1, 1 if workers else 0)
        return Run(tmp_path / "out", mains[0][0], workers, set(mains[0][1]))

    return run


def test_hundred_photos_are_one_shard_written_by_one_process_without_torch(encrypt):
    run = encrypt()
    assert run.samples == [100]
    assert run.workers == []
    assert run.modules > {"etc_data.shards.writer", "PIL.Image", "numpy"}
    assert not run.modules & {"torch", "torchvision", "webdataset", "ray", "fsspec", "timm", "scipy"}


def test_no_worker_is_started_that_would_find_no_shard(encrypt):
    run = encrypt("--workers", "8")
    assert run.samples == [100]
    assert run.workers == []


def test_workers_share_the_shards_that_are_asked_for(encrypt):
    run = encrypt("--workers", "2", "--samples-per-shard", "50")
    assert run.samples == [50, 50]
    assert len(run.workers) == 2
