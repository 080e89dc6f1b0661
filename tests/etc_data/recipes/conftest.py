"""Handwritten digits as pictures and as shards, and a network that learns them in a second."""

import base64
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import etc_data
from etc_data import Cipher, SecretKey
from etc_data.recipes.settings import settings_from_dict
from etc_data.shards.writer import write_shards

HOME = Path(etc_data.__file__).parents[1]
SIZE = 32


@pytest.fixture(autouse=True)
def one_thread():
    """Sums come out alike only on as many threads; other tests of this process may choose others."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """scikit-learn's digits at 32 pixels: 301 to learn from, 120 to test on; nobody may change them."""
    load_digits = pytest.importorskip("sklearn.datasets").load_digits
    folder = tmp_path_factory.mktemp("digits") / "digits"
    data = load_digits()
    for number in range(421):
        split = "train" if number < 301 else "val"
        place = folder / split / str(data.target[number])
        place.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(np.rint(data.images[number] * (255 / 16)).astype(np.uint8))
        image.resize((SIZE, SIZE), Image.Resampling.BICUBIC).save(place / f"{number:04d}.png")
    return folder


@pytest.fixture(scope="session")
def key(tmp_path_factory):
    """The file of the owner's key."""
    path = tmp_path_factory.mktemp("key") / "owner.key"
    SecretKey(bytes(range(100, 132))).save(path)
    return path


@pytest.fixture(scope="session")
def other_key(tmp_path_factory):
    path = tmp_path_factory.mktemp("key") / "other.key"
    SecretKey(bytes(range(32))).save(path)
    return path


@pytest.fixture(scope="session")
def make_shards(tmp_path_factory, digits):
    """make_shards(key, scheme) encrypts the digits, in shards of 64."""

    def make(key: Path, scheme: str, **options) -> Path:
        out = tmp_path_factory.mktemp("shards") / scheme.replace("/", "-")
        cipher = Cipher(scheme, SecretKey.load(key), key_scope="dataset")
        write_shards(digits, out, cipher, size=SIZE, samples_per_shard=64, **options)
        return out

    return make


@pytest.fixture(scope="session")
def shards(make_shards, key):
    """The digits as shards of scheme etc-8; nobody may change them."""
    return make_shards(key, "etc-8")


def values(source, out, **changes):
    """Nested settings of a tiny run; changes are named section__name."""
    settings = {
        "out": str(out),
        "epochs": 2,
        "batch": 32,
        "model": {
            "name": "etc_convmixer_256_8_p8",
            "options": {"dim": 16, "depth": 1, "kernel_size": 3},
        },
        "data": {"source": str(source), "size": SIZE, "workers": 0},
        "optimizer": {"lr": 0.02},
    }
    for name, value in changes.items():
        *sections, last = name.split("__")
        place = settings
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    return settings


@pytest.fixture(scope="session")
def make_settings():
    """make_settings(source, out, data__scheme=…) gives the settings of a tiny run."""
    return lambda source, out, **changes: settings_from_dict(values(source, out, **changes))


@pytest.fixture(scope="session")
def write_settings():
    """write_settings(path, source, out, data__scheme=…) writes them to a file."""

    def write(path, source, out, **changes) -> Path:
        path.write_text(yaml.safe_dump(values(source, out, **changes)))
        return path

    return write


@pytest.fixture(scope="session")
def trained(tmp_path_factory, digits, make_settings):
    """The folder of a run on plain digits of five epochs."""
    from etc_data.recipes.train import train

    torch.set_num_threads(1)  # a fixture of the session comes before `one_thread`
    out = tmp_path_factory.mktemp("runs") / "plain"
    train(make_settings(digits, out, epochs=5))
    return out


@pytest.fixture(scope="session")
def start():
    """start(module, argument, …) starts a module of the library as a process of its own."""

    def begin(*arguments) -> subprocess.Popen:
        environment = os.environ | {"PYTHONPATH": str(HOME), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            [sys.executable, "-m", *map(str, arguments)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    return begin


@pytest.fixture(scope="session")
def kill_when():
    """kill_when(process, condition) kills a process and its children as soon as something holds."""

    def kill(process, condition) -> None:
        deadline = time.monotonic() + 120
        while not condition():
            assert process.poll() is None, process.stdout.read()
            assert time.monotonic() < deadline
            time.sleep(0.002)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()

    return kill


@pytest.fixture(scope="session")
def forms_of_key(key):
    """forms_of_key() lists how the key's 32 bytes could stand in a file."""

    def forms() -> list[bytes]:
        raw = bytes(range(100, 132))
        texts = [raw.hex().encode(), base64.b64encode(raw)[:-2], base64.urlsafe_b64encode(raw)[:-2]]
        texts += [base64.b32encode(raw).rstrip(b"="), key.read_bytes().split()[-1]]
        return [raw, *texts, *(text.upper() for text in texts), *(text.lower() for text in texts)]

    return forms
