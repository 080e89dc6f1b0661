"""Made-up photos, and a data set of them that is written once."""

import importlib.util
import io
import os
from pathlib import Path

import pytest
from PIL import Image

from etc_data.cipher import Cipher
from etc_data.keys import SecretKey
from etc_data.shards import write_shards

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def key():
    return SecretKey(bytes(range(32)))


@pytest.fixture(scope="session")
def environment():
    """For child processes: they find the library where this process found it."""
    return os.environ | {"PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="session")
def photo(smooth_pixels):
    """photo(seed, height, width) gives the bytes of a JPEG file."""

    def make(seed: int, height: int = 56, width: int = 72, **options) -> bytes:
        file = io.BytesIO()
        image = Image.fromarray(smooth_pixels(seed, height, width))
        image.save(file, "JPEG", **{"quality": 95, "subsampling": 0} | options)
        return file.getvalue()

    return make


@pytest.fixture(scope="session")
def plant(photo):
    """plant(root, "cat/1.jpg", …) writes a different photo under each name and returns the root."""

    def make(root: Path, *names: str) -> Path:
        for number, name in enumerate(names):
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(photo(number))
        return root

    return make


@pytest.fixture(scope="session")
def source(tmp_path_factory, plant):
    """Plain photos in two splits and three classes; nobody may change it."""
    names = [f"train/{name}/{i}.jpg" for name in ("cat", "dog", "emu") for i in range(9)]
    names += [f"val/{name}/{i}.jpg" for name in ("cat", "emu") for i in range(3)]
    return plant(tmp_path_factory.mktemp("source"), *names)


@pytest.fixture(scope="session")
def written(tmp_path_factory, source, key):
    """`source` as a data set of four shards; nobody may change it."""
    out = tmp_path_factory.mktemp("written") / "out"
    write_shards(source, out, Cipher("etc-16", key), size=48, samples_per_shard=10)
    return out


@pytest.fixture(scope="session")
def reference():
    """The second implementation, written from docs/format.md alone."""
    path = ROOT / "tests" / "reference" / "etc_reference.py"
    spec = importlib.util.spec_from_file_location("etc_reference", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class _Interrupted(BaseException):
    pass


@pytest.fixture(scope="session")
def write_until():
    """write_until(14, source, out, cipher, …) writes shards and is cut off after so many items."""

    def write(items, *arguments, **options):
        def start(total):
            left = items

            def tick(done):
                nonlocal left
                left -= done
                if left <= 0:
                    raise _Interrupted

            return tick

        with pytest.raises(_Interrupted):
            write_shards(*arguments, **options, progress=start)

    return write
