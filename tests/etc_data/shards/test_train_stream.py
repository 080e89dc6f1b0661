"""Training that streams from real servers, which are killed meanwhile."""

import gc
import importlib.util
import multiprocessing
import os
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

from etc_data import Cipher, SecretKey
from etc_data.codecs import decode
from etc_data.errors import StorageError
from etc_data.shards import ShardCache, open_shards, write_shards
from etc_data.shards import storage as storage_module

_spec = importlib.util.spec_from_file_location("servers", Path(__file__).with_name("servers.py"))
servers = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(servers)
http_server = servers.http_server
s3_server = servers.s3_server

IMAGES = 192
SHARDS = 24
BATCH_SIZE = 8
STEPS = IMAGES // BATCH_SIZE  # an epoch's, also as many shards: each step needs the server
SIZE = 32

ROOT = Path(__file__).resolve().parents[3]
PHOTOS = Path(os.environ.get("ETC_DATA_TEST_IMAGES", ROOT / ".." / "shared" / "data"))


def made_up_photos(folder: Path) -> Path:
    """Two classes of noisy pictures, each brighter on its own side."""
    random = np.random.default_rng(0)
    for number in range(IMAGES):
        pixels = random.integers(0, 160, (SIZE, SIZE, 3), np.uint8)
        half = slice(None, SIZE // 2) if number % 2 else slice(SIZE // 2, None)
        pixels[:, half] += 90
        path = folder / f"class-{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return folder


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Two classes of Imagenette, or made-up photos where it is missing; a batch in each shard."""
    base = tmp_path_factory.mktemp("stream")
    real = PHOTOS / "imagenette224" / "train"
    if real.is_dir():
        for folder in sorted(real.iterdir())[:2]:
            (base / "photos" / folder.name).mkdir(parents=True)
            for path in sorted(folder.iterdir())[: IMAGES // 2]:
                shutil.copy(path, base / "photos" / folder.name)
    else:
        made_up_photos(base / "photos")
    cipher = Cipher("etc-16", SecretKey(bytes(32)))
    write_shards(base / "photos", base / "out", cipher, size=SIZE, samples_per_shard=IMAGES // SHARDS)
    return base / "out"


@pytest.fixture(params=["http", "s3"])
def served(request, written, monkeypatch, tmp_path):
    """A running server, and the URL of the data set there."""
    servers.forget_settings(monkeypatch, tmp_path)
    name = request.node.name.replace("[", "-").rstrip("]")
    server = request.getfixturevalue(f"{request.param}_server")
    if request.param == "s3":
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", servers.ACCESS_KEY)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", servers.SECRET_KEY)
        shutil.copytree(written, server.bucket / name)
        return server, f"s3://{servers.BUCKET}/{name}"
    shutil.copytree(written, server.root / name)
    return server, f"{server.url}/{name}"


def load(sample):
    pixels = torch.from_numpy(decode(sample.image)).float()
    return pixels.flatten().sub(128).div(64), sample.label, sample.key


def loader_of(place, tmp_path):
    """Every shard is fetched each time it is read: nothing fits into the cache."""
    data = open_shards(
        place,
        shuffle=True,
        seed=1,
        form="sample",
        transform=load,
        batch_size=BATCH_SIZE,
        cache=ShardCache(tmp_path / "cache", max_bytes=1),
    )
    return DataLoader(data, batch_size=BATCH_SIZE, num_workers=2)


class Training:
    """A few epochs of a small model.

    Attributes:
        losses: of every step.
        keys: the samples of every step.
    """

    def __init__(self, loader) -> None:
        self.losses, self.keys = [], []
        self._loader = loader

    def run(self, epochs, after_step=lambda step: None) -> None:
        torch.manual_seed(0)
        model = nn.Linear(SIZE * SIZE * 3, 2)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        for epoch in range(epochs):
            self._loader.dataset.set_epoch(epoch)
            for pixels, labels, keys in self._loader:
                loss = nn.functional.cross_entropy(model(pixels), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                self.losses.append(loss.item())
                self.keys.append(keys)
                after_step(len(self.losses))


def test_training_goes_on_after_the_server_is_restarted(served, written, tmp_path, monkeypatch):
    monkeypatch.setattr(storage_module, "_FIRST_WAIT_SECONDS", 0.5)  # six tries bridge 15 seconds
    server, url = served
    training = Training(loader_of(url, tmp_path))
    steps_at_restart, threads = [], []

    def restart():
        steps_at_restart.append(len(training.losses))
        server.start()

    def kill(step):
        if step in (4, STEPS + 4):
            server.kill()
            threads.append(threading.Timer(1, restart))
            threads[-1].start()

    training.run(epochs=3, after_step=kill)
    for thread in threads:
        thread.join()
    assert len(steps_at_restart) == 2
    assert 4 <= steps_at_restart[0] < STEPS < steps_at_restart[1] < 2 * STEPS

    undisturbed = Training(loader_of(written, tmp_path))
    undisturbed.run(epochs=3)
    assert training.keys == undisturbed.keys
    assert training.losses == undisturbed.losses
    for epoch in range(3):
        batches = training.keys[epoch * STEPS : (epoch + 1) * STEPS]
        assert len({key for keys in batches for key in keys}) == IMAGES
    assert np.mean(training.losses[-STEPS:]) < 0.8 * np.mean(training.losses[:STEPS])


# After an error, torch waits five seconds for each worker to end.
def test_training_ends_with_one_error_when_the_server_is_gone(served, tmp_path, monkeypatch):
    monkeypatch.setattr(storage_module, "_FIRST_WAIT_SECONDS", 0.05)
    server, url = served
    training = Training(loader_of(url, tmp_path))
    start = time.monotonic()
    try:
        with pytest.raises(StorageError, match=r"train-\d{6}\.tar cannot be reached after 6 tries: "):
            training.run(epochs=1, after_step=lambda step: server.kill() if step == 4 else None)
    finally:
        server.start()
    assert 4 <= len(training.losses) < STEPS
    assert time.monotonic() - start < 60
    gc.collect()
    servers.wait_until(lambda: not multiprocessing.active_children())
