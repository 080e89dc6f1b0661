"""Made-up photos, and a data set of them that is written once."""

import io
import os
import shutil
from pathlib import Path

import numpy as np
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
def pictures():
    """The folder of real test images; tests that need it are skipped where it is missing."""
    folder = Path(os.environ.get("ETC_DATA_TEST_IMAGES", ROOT / ".." / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no folder of test images")
    return folder.resolve()


@pytest.fixture(scope="session")
def environment():
    """For child processes: they find the library where this process found it."""
    return os.environ | {"PYTHONPATH": str(ROOT)}


def smooth_pixels(seed: int, height: int = 56, width: int = 72) -> np.ndarray:
    """A picture of soft waves, uint8 [H, W, 3], which JPEG keeps well."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    planes = []
    for _ in range(3):
        waves = [np.cos(x * a + y * b + c) for a, b, c in random.uniform(0, [0.2, 0.2, 6], (3, 3))]
        planes.append(128 + 40 * np.sum(waves, axis=0))
    return np.clip(np.stack(planes, axis=-1), 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def photo():
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


@pytest.fixture
def data_set(written, tmp_path):
    """A copy of `written`, without its ledger, to do harm to."""
    return Path(shutil.copytree(written, tmp_path / "data_set"))


@pytest.fixture(scope="session")
def contents():
    """contents(folder) gives the bytes of every file in a folder by its name."""

    def read(folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}

    return read
