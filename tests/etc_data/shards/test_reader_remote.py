"""Streaming data sets from real servers: nginx over HTTP, rclone's S3 server."""

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from etc_data import Cipher, SecretKey
from etc_data.errors import DamagedShardError, ManifestError, StorageError
from etc_data.shards import ShardCache, open_shards, write_shards
from etc_data.shards import storage as storage_module

_spec = importlib.util.spec_from_file_location("servers", Path(__file__).with_name("servers.py"))
servers = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(servers)
http_server = servers.http_server
s3_server = servers.s3_server

KEY = SecretKey(bytes(32))
COUNT = 48


@pytest.fixture(scope="module")
def written(tmp_path_factory, photo):
    """A data set of 48 samples in 6 shards."""
    base = tmp_path_factory.mktemp("remote")
    for number in range(COUNT):
        folder = base / "photos" / f"class-{number % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.jpg").write_bytes(photo(number, 48, 48))
    write_shards(base / "photos", base / "out", Cipher("etc-16", KEY), size=48, samples_per_shard=8)
    return base / "out"


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    servers.forget_settings(monkeypatch, tmp_path)
    monkeypatch.setattr(storage_module, "_FIRST_WAIT_SECONDS", 0.05)


@pytest.fixture
def url(http_server, written, request):
    folder = http_server.root / request.node.name.replace("[", "-").rstrip("]")
    shutil.copytree(written, folder)
    yield f"{http_server.url}/{folder.name}"
    shutil.rmtree(folder)


def local_copy(http_server, url):
    return http_server.root / url.rpartition("/")[2]


def contents(dataset):
    return [(image.numpy().tobytes(), label) for image, label in dataset]


@pytest.mark.parametrize("workers", [0, 2])
def test_http_gives_what_the_folder_gives(url, written, tmp_path, workers):
    remote = open_shards(url, shuffle=True, seed=3, cache=ShardCache(tmp_path), key=KEY)
    local = open_shards(written, shuffle=True, seed=3)
    loader = torch.utils.data.DataLoader(remote, batch_size=None, num_workers=workers)
    found, wanted = contents(loader), contents(local)
    assert sorted(found) == sorted(wanted)
    assert len(found) == len(remote) == COUNT
    if not workers:
        assert found == wanted


def test_second_epoch_comes_from_the_cache(http_server, url, tmp_path):
    remote = open_shards(url, cache=ShardCache(tmp_path))
    first = contents(remote)
    asked = len(http_server.requests())
    assert contents(remote) == first
    assert len(http_server.requests()) == asked


def test_cache_smaller_than_a_shard_still_serves_every_sample(url, written, tmp_path):
    remote = open_shards(url, cache=ShardCache(tmp_path, max_bytes=1))
    assert contents(remote) == contents(open_shards(written))
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.tar")) == 0


@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_damaged_shard_is_named_before_any_of_its_samples(http_server, url, tmp_path, damage):
    remote = open_shards(url, cache=ShardCache(tmp_path, fetches=2))
    shard = local_copy(http_server, url) / "train-000002.tar"
    data = bytearray(shard.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
        shard.write_bytes(data)
    elif damage == "cut":
        shard.write_bytes(data[: len(data) // 2])
    else:
        shard.unlink()
    seen = 0
    with pytest.raises(DamagedShardError, match=r"shard train-000002\.tar"):
        for _ in remote:
            seen += 1
    assert seen == 16


def test_unfinished_data_set_is_none(http_server, url, tmp_path):
    (local_copy(http_server, url) / "manifest.json").unlink()
    with pytest.raises(ManifestError, match=r"is no finished data set: it has no manifest\.json"):
        open_shards(url, cache=ShardCache(tmp_path))


def test_server_that_is_down_is_told(tmp_path):
    with pytest.raises(StorageError, match="cannot be reached after"):
        open_shards(f"http://127.0.0.1:{servers.free_port()}/set", cache=ShardCache(tmp_path))


def test_s3_gives_what_the_folder_gives(s3_server, written, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{s3_server.port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", servers.ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", servers.SECRET_KEY)
    shutil.copytree(written, s3_server.bucket / "set")
    url = f"s3://{servers.BUCKET}/set"
    remote = open_shards(url, cache=ShardCache(tmp_path), form="numpy")
    images = [image for image, _ in remote]
    wanted = [image for image, _ in open_shards(written, form="numpy")]
    assert np.array_equal(np.stack(images), np.stack(wanted))
