"""Going on inside an epoch: in the process itself, and with torchdata's StatefulDataLoader."""

import importlib.util
import io
import json
import pickle
import shutil
import subprocess
import sys
from itertools import islice
from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from etc_data.shards import ShardCache, open_shards
from etc_data.shards import storage as storage_module

_spec = importlib.util.spec_from_file_location("servers", Path(__file__).with_name("servers.py"))
servers = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(servers)
http_server = servers.http_server

# After an error, torch waits five seconds for each worker to end: most such tests are slow ones.

# 33 samples in shards of 9, 9, 9 and 6, in batches of 4: the ninth batch has one sample.
SAMPLES = 33
BATCHES = 9


def open_keys(folder, **options):
    """The keys of the samples, as a shuffled data set."""
    options = {"shuffle": True, "seed": 3, "batch_size": 4} | options
    return open_shards(folder, form="sample", transform=attrgetter("key"), **options)


def saved(state):
    """The state after a way through a file."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


# -- in the process itself --------------------------------------------------------------------------


@pytest.mark.parametrize("given", [0, 1, 8, 9, 10, 32, 33])
@pytest.mark.parametrize("shuffle", [False, True])
def test_the_rest_of_the_epoch_follows(written, given, shuffle):
    data = open_keys(written, shuffle=shuffle)
    data.set_epoch(5)
    whole = list(data)
    samples = iter(data)
    assert [next(samples) for _ in range(given)] == whole[:given]
    state = json.loads(json.dumps(data.state_dict()))
    assert {type(value) for value in state.values()} <= {int, str}
    assert (state["epoch"], state["given"]) == (5, given)
    for chosen in (None, 5):
        again = open_keys(written, shuffle=shuffle)
        again.load_state_dict(state)
        assert again.state_dict() == state
        if chosen is not None:
            again.set_epoch(chosen)
        assert list(again) == whole[given:]
        assert list(again) == whole
    assert list(samples) == whole[given:]


def test_a_resumed_epoch_can_be_left_again(written):
    whole = list(open_keys(written))
    found, state = [], open_keys(written).state_dict()
    for _ in range(7):
        again = open_keys(written)
        again.load_state_dict(state)
        found += islice(again, 5)
        state = again.state_dict()
    assert found == whole


def test_set_epoch_tells_what_comes_next(written):
    data = open_keys(written)
    assert (data.state_dict()["epoch"], data.state_dict()["given"]) == (0, 0)
    next(iter(data))
    assert data.state_dict()["given"] == 1
    data.set_epoch(4)
    assert (data.state_dict()["epoch"], data.state_dict()["given"]) == (4, 0)


def test_after_the_last_sample_the_next_epoch_begins(written):
    data = open_keys(written)
    data.set_epoch(1)
    list(data)
    state = data.state_dict()
    for first in (1, 2):
        again = open_keys(written)
        again.load_state_dict(state)
        found = {}
        for epoch in range(first, 4):
            again.set_epoch(epoch)
            found[epoch] = list(again)
        assert found.pop(1, []) == []
        for epoch, keys in found.items():
            data.set_epoch(epoch)
            assert keys == list(data)


def test_another_epoch_in_the_middle_of_one_is_refused(written):
    data = open_keys(written)
    data.set_epoch(1)
    next(iter(data))
    state = data.state_dict()
    for load_first in (True, False):
        again = open_keys(written)
        if load_first:
            again.load_state_dict(state)
        again.set_epoch(2)
        if not load_first:
            again.load_state_dict(state)
        with pytest.raises(
            ValueError, match=r"stands at sample 1 of 33 in epoch 1, but set_epoch chose epoch 2"
        ):
            iter(again)
        again.set_epoch(1)
        assert len(list(again)) == SAMPLES - 1


def test_what_was_given_is_neither_opened_nor_decoded(written, data_set):
    data = open_shards(written, verify=False)
    samples = iter(data)
    for _ in range(9 + 9 + 3):
        next(samples)
    state = data.state_dict()
    for name in ("train-000000.tar", "train-000001.tar"):
        (data_set / name).unlink()
    path = data_set / "train-000002.tar"
    content = path.read_bytes()
    start = 0
    for _ in range(3):
        start = content.index(b"\xff\xd8\xff", start)
        content = content[:start] + b"bad" + content[start + 3 :]
    path.write_bytes(content)
    again = open_shards(data_set, verify=False)
    again.load_state_dict(state)
    assert [label for _, label in again] == [label for _, label in samples]


def test_a_plain_loader_without_workers_is_left_and_resumed(written):
    data = open_keys(written)
    whole = list(DataLoader(data, batch_size=4, collate_fn=list))
    batches = iter(DataLoader(data, batch_size=4, collate_fn=list))
    for _ in range(3):
        next(batches)
    again = open_keys(written)
    again.load_state_dict(data.state_dict())
    assert list(DataLoader(again, batch_size=4, collate_fn=list)) == whole[3:]


def test_workers_of_a_plain_loader_cannot_be_asked(written):
    data = open_keys(written)
    batches = iter(DataLoader(data, batch_size=4, num_workers=1))
    next(batches)
    with pytest.raises(RuntimeError, match=r"use torchdata's StatefulDataLoader"):
        data.state_dict()
    list(batches)
    data.set_epoch(1)
    assert data.state_dict()["given"] == 0


@pytest.mark.slow
def test_workers_of_a_plain_loader_refuse_the_state_of_a_process(written):
    data = open_keys(written)
    next(iter(data))
    again = open_keys(written)
    again.load_state_dict(data.state_dict())
    with pytest.raises(ValueError, match=r"belongs to another reading, with num_workers 0 \(here 1\)"):
        list(DataLoader(again, batch_size=4, num_workers=1))


# -- states that belong elsewhere -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "train"}, r"data '[0-9a-f]{16}' \(here '[0-9a-f]{16}'\)$"),
        ({"seed": 4}, r"seed 3 \(here 4\)$"),
        ({"shuffle": False, "ranks": "pad"}, r"shuffle 1 \(here 0\)$"),
        ({"ranks": "drop"}, r"ranks 'pad' \(here 'drop'\)$"),
        ({"rank": 1, "world_size": 2}, r"rank 0 \(here 1\), world_size 1 \(here 2\)$"),
        ({"batch_size": 8}, r"batch_size 4 \(here 8\)$"),
        ({"batch_size": None}, r"batch_size 4 \(here 1\)$"),
    ],
)
def test_a_state_of_another_reading_is_refused(written, options, message):
    state = open_keys(written).state_dict()
    with pytest.raises(ValueError, match="the state belongs to another reading, with " + message):
        open_keys(written, **options).load_state_dict(state)


def test_the_same_data_elsewhere_is_the_same(written, data_set):
    data = open_keys(written)
    next(iter(data))
    again = open_keys(data_set)
    again.load_state_dict(data.state_dict())
    assert len(list(again)) == SAMPLES - 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"given": -1}, "the state is damaged: given is -1"),
        ({"given": 1.0}, "the state is damaged: given is 1.0"),
        ({"epoch": True}, "the state is damaged: epoch is True"),
        ({"epoch": 2**63}, "the state is damaged: epoch is 9223372036854775808"),
        ({"given": np.zeros(3)}, "the state is damaged: given is array"),
        ({"seed": 3.0}, r"another reading, with seed 3\.0 \(here 3\)$"),
        ({"data": np.zeros(3)}, "another reading, with data array"),
        ({"version": True}, "the state is of version True, not 1"),
        ({"version": 2}, "the state is of version 2, not 1"),
        ({"more": 1}, "this is no state of a data set of shards"),
    ],
)
def test_a_malformed_state_is_refused(written, change, message):
    data = open_keys(written)
    with pytest.raises(ValueError, match=message):
        data.load_state_dict(data.state_dict() | change)
    for wrong in ({}, [], None, {"given": 3}):
        with pytest.raises(ValueError, match="this is no state of a data set"):
            data.load_state_dict(wrong)
    assert len(list(data)) == SAMPLES


def test_a_state_past_the_end_is_refused(written):
    data = open_keys(written)
    data.load_state_dict(data.state_dict() | {"given": 34})
    with pytest.raises(ValueError, match="given is 34 of 33"):
        iter(data)


# -- with torchdata's StatefulDataLoader ------------------------------------------------------------


def stateful(data, workers, **options):
    stateful_dataloader = pytest.importorskip("torchdata.stateful_dataloader", reason="no torchdata")
    return stateful_dataloader.StatefulDataLoader(
        data, batch_size=4, num_workers=workers, collate_fn=list, **options
    )


def epochs_of(loader, epochs):
    """The batches of some epochs in a typical loop."""
    found = []
    for epoch in epochs:
        loader.dataset.set_epoch(epoch)
        found.append(list(loader))
    return found


def left_after(loader, epoch, steps):
    """The state of a loader after some steps of an epoch."""
    loader.dataset.set_epoch(epoch)
    batches = iter(loader)
    for _ in range(steps):
        next(batches)
    return saved(loader.state_dict())


def resumed(data, workers, state, **options):
    loader = stateful(data, workers, **options)
    loader.load_state_dict(state)
    return loader


@pytest.mark.parametrize(
    ("workers", "steps"), [(0, range(BATCHES + 1)), (1, (3,)), (2, (0, 1, 2, 5, BATCHES - 1, BATCHES))]
)
def test_batches_go_on_after_any_step(written, workers, steps):
    whole, following = epochs_of(stateful(open_keys(written), workers), (2, 3))
    assert sorted(key for batch in whole for key in batch) == sorted(open_keys(written))
    assert len(whole) == BATCHES
    for step in steps:
        state = left_after(stateful(open_keys(written), workers), 2, step)
        loader = resumed(open_keys(written), workers, state)
        assert epochs_of(loader, (2, 3)) == [whole[step:], following]


@pytest.mark.parametrize(
    ("workers", "options"),
    [
        (2, {"persistent_workers": True}),
        (2, {"snapshot_every_n_steps": 3}),
        (2, {"drop_last": True}),
        (0, {"drop_last": True}),
    ],
)
def test_batches_go_on_whatever_the_loader_is_told(written, workers, options):
    loader = stateful(open_keys(written), workers, **options)
    whole, following = epochs_of(loader, (2, 3))
    assert len(whole) == len(loader)
    for step in (4, len(whole)):
        state = left_after(stateful(open_keys(written), workers, **options), 2, step)
        loader = resumed(open_keys(written), workers, state, **options)
        assert epochs_of(loader, (2, 3)) == [whole[step:], following]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_finished_epoch_is_followed_by_the_next(written, workers):
    loader = stateful(open_keys(written), workers)
    epochs_of(loader, (2,))
    state = saved(loader.state_dict())
    following = epochs_of(loader, (3, 4))
    assert epochs_of(resumed(open_keys(written), workers, state), (3, 4)) == following


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_epoch_can_be_saved_and_resumed_again(written, workers):
    (whole,) = epochs_of(stateful(open_keys(written), workers), (2,))
    state = left_after(stateful(open_keys(written), workers), 2, 2)
    loader = resumed(open_keys(written), workers, state)
    state = left_after(loader, 2, 3)
    loader = resumed(open_keys(written), workers, state)
    assert saved(loader.state_dict())  # before the first batch
    assert epochs_of(loader, (2,)) == [whole[5:]]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("ranks", ["pad", "drop", "exact"])
def test_every_rank_goes_on(written, workers, ranks):
    for rank in (0, 1):
        options = {"ranks": ranks, "rank": rank, "world_size": 2}
        whole, following = epochs_of(stateful(open_keys(written, **options), workers), (0, 1))
        state = left_after(stateful(open_keys(written, **options), workers), 0, 3)
        loader = resumed(open_keys(written, **options), workers, state)
        assert epochs_of(loader, (0, 1)) == [whole[3:], following]


def test_another_number_of_workers_is_refused(written):
    state = left_after(stateful(open_keys(written), 2), 0, 3)
    with pytest.raises(ValueError, match=r"another reading, with num_workers 2 \(here 1\)"):
        iter(resumed(open_keys(written), 1, state))


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_loader_refuses_a_state_of_another_seed_or_epoch(written, workers):
    state = left_after(stateful(open_keys(written), workers), 1, 3)
    with pytest.raises(ValueError, match=r"another reading, with seed 3 \(here 4\)"):
        iter(resumed(open_keys(written, seed=4), workers, state))
    loader = resumed(open_keys(written), workers, state)
    loader.dataset.set_epoch(2)
    with pytest.raises(ValueError, match=r"in epoch 1, but set_epoch chose epoch 2"):
        iter(loader)


RESUME = """
import json, sys
from operator import attrgetter
import torch
from torchdata.stateful_dataloader import StatefulDataLoader
from etc_data.shards import open_shards

folder, state, workers = sys.argv[1:]
data = open_shards(
    folder, shuffle=True, seed=3, batch_size=4, form="sample", transform=attrgetter("key")
)
loader = StatefulDataLoader(data, batch_size=4, num_workers=int(workers), collate_fn=list)
loader.load_state_dict(torch.load(state))
epochs = []
for epoch in (2, 3):
    data.set_epoch(epoch)
    epochs.append(list(loader))
print(json.dumps(epochs))
"""


@pytest.mark.parametrize("workers", [0, 2])
def test_another_process_goes_on(written, tmp_path, environment, workers):
    whole, following = epochs_of(stateful(open_keys(written), workers), (2, 3))
    torch.save(left_after(stateful(open_keys(written), workers), 2, 5), tmp_path / "state.pt")
    command = [sys.executable, "-c", RESUME, written, tmp_path / "state.pt", str(workers)]
    output = subprocess.run(command, env=environment, capture_output=True, check=True).stdout
    assert json.loads(output) == [whole[5:], following]


def test_a_dataset_that_is_pickled_keeps_its_place(written):
    data = open_keys(written)
    whole = list(data)
    samples = iter(data)
    for _ in range(12):
        next(samples)
    again = open_keys(written)
    again.load_state_dict(data.state_dict())
    assert list(pickle.loads(pickle.dumps(again))) == whole[12:]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_remote_data_set_goes_on(http_server, written, tmp_path, monkeypatch, workers):
    servers.forget_settings(monkeypatch, tmp_path)
    monkeypatch.setattr(storage_module, "_FIRST_WAIT_SECONDS", 0.05)
    name = f"set-{workers}"
    shutil.copytree(written, http_server.root / name)
    url = f"{http_server.url}/{name}"
    (whole,) = epochs_of(stateful(open_keys(written), workers), (0,))
    first, second = (ShardCache(tmp_path / cache) for cache in ("first", "second"))
    state = left_after(stateful(open_keys(url, cache=first), workers), 0, 5)
    loader = resumed(open_keys(url, cache=second), workers, state)
    assert epochs_of(loader, (0,)) == [whole[5:]]
    # What was given before is not fetched again.
    assert len(list((tmp_path / "second").glob("*.tar"))) < 4 or workers
