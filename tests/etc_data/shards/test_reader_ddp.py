"""DistributedDataParallel over uneven shards: real processes, a real model, and going on."""

import json
import subprocess
import sys

import pytest
from torch import distributed

pytestmark = pytest.mark.skipif(
    not (distributed.is_available() and distributed.is_gloo_available()), reason="torch without gloo"
)

# 33 samples in shards of 9, 9, 9 and 6; torch.multiprocessing.spawn wants a program with a file.
PROGRAM = """
import argparse, contextlib, json, os
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed, multiprocessing, nn
from torchdata.stateful_dataloader import StatefulDataLoader

from etc_data.codecs import decode
from etc_data.shards import open_shards


# The models live as long as their process: where one takes its process group with it while the last
# all-reduce is still being cleared away, torch waits for ever.
MODELS = []


def leave():
    # As it is taken down, torch's gloo sometimes hangs or aborts; all that counts is written by now.
    with contextlib.suppress(RuntimeError):
        distributed.barrier()
    os._exit(0)


def load(sample):
    pixels = torch.from_numpy(decode(sample.image)).float().div(255).flatten()
    return pixels, sample.label, sample.key


def train(rank, arguments):
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{arguments.scratch}/meeting-{arguments.name}",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=60),  # where batches are not equal, this would pass
    )
    data = open_shards(
        arguments.folder,
        shuffle=True,
        form="sample",
        transform=load,
        ranks=arguments.ranks,
        batch_size=4,
    )
    loader = StatefulDataLoader(
        data,
        batch_size=4,
        num_workers=arguments.workers,
        multiprocessing_context=arguments.context if arguments.workers else None,
    )
    torch.manual_seed(0)
    model = nn.parallel.DistributedDataParallel(nn.Linear(48 * 48 * 3, 3))
    MODELS.append(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    checkpoint = arguments.scratch / f"rank-{rank}.pt"
    if arguments.resume:
        state = torch.load(checkpoint)
        model.load_state_dict(state["model"])
        loader.load_state_dict(state["loader"])
    batches = []
    for epoch in (0, 1):
        data.set_epoch(epoch)
        batches.append([])
        for pixels, labels, keys in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(pixels), labels).backward()
            optimizer.step()
            batches[-1].append(keys)
            if len(batches[0]) == arguments.stop_after:
                torch.save({"model": model.state_dict(), "loader": loader.state_dict()}, checkpoint)
                leave()
    result = {
        "length": len(data),
        "loader": len(loader),
        "batches": batches,
        "weights": model.module.weight.double().sum().item(),
    }
    Path(arguments.scratch / f"{arguments.name}-{rank}.json").write_text(json.dumps(result))
    leave()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("name")
    parser.add_argument("--ranks", default=None)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--context", default="fork")
    parser.add_argument("--stop-after", type=int, default=0)
    parser.add_argument("--resume", action="store_true")
    multiprocessing.spawn(train, args=(parser.parse_args(),), nprocs=2)
"""


@pytest.fixture
def run(tmp_path, written, environment):
    """run(name, option, …) trains for two epochs and returns what each rank saw."""
    pytest.importorskip("torchdata", reason="no torchdata")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)

    def run(name, *options):
        command = [sys.executable, program, written, tmp_path, name, *options]
        subprocess.run(command, env=environment, check=True, timeout=180)
        paths = [tmp_path / f"{name}-{rank}.json" for rank in (0, 1)]
        return [json.loads(path.read_text()) for path in paths if path.exists()]

    return run


def keys_of(batches) -> list[str]:
    return [key for batch in batches for key in batch]


@pytest.mark.parametrize(
    ("options", "length", "different"),
    [
        (("--ranks", "drop"), 16, 32),
        pytest.param(("--workers", "2"), 17, 33, marks=pytest.mark.slow),
        pytest.param(("--workers", "1", "--context", "spawn"), 17, 33, marks=pytest.mark.slow),
    ],
)
def test_ranks_finish_epochs_with_equal_batches(run, options, length, different):
    results = run("whole", *options)
    assert len(results) == 2
    for result in results:
        assert result["length"] == length
        assert result["loader"] == -(-length // 4)
        for batches in result["batches"]:
            assert len(batches) == result["loader"]
            assert len(keys_of(batches)) == length
    for epoch in (0, 1):
        given = [key for result in results for key in keys_of(result["batches"][epoch])]
        assert len(set(given)) == different
    assert results[0]["weights"] == results[1]["weights"]


@pytest.mark.parametrize("workers", ["0", pytest.param("2", marks=pytest.mark.slow)])
def test_ranks_go_on_where_they_were(run, workers):
    whole = run("whole", "--workers", workers)
    assert run("cut", "--workers", workers, "--stop-after", "3") == []
    rest = run("rest", "--workers", workers, "--resume")
    for one, other in zip(whole, rest, strict=True):
        first, second = one["batches"]
        assert len(first) == one["loader"] == 5
        assert other["batches"] == [first[3:], second]
        assert other["weights"] == one["weights"]
