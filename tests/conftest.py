"""What tests of several rooms share: real pictures, made-up photos, a data set to do harm to."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def pictures():
    """The folder of real test images; tests that need it are skipped where it is missing."""
    folder = Path(os.environ.get("ETC_DATA_TEST_IMAGES", ROOT / ".." / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no folder of test images")
    return folder.resolve()


@pytest.fixture(scope="session")
def smooth_pixels():
    """smooth_pixels(seed, height, width) is a picture of soft waves, uint8 [H, W, 3], good for JPEG."""

    def make(seed: int, height: int, width: int) -> np.ndarray:
        random = np.random.default_rng(seed)
        y, x = np.mgrid[:height, :width]
        planes = []
        for _ in range(3):
            waves = [np.cos(x * a + y * b + c) for a, b, c in random.uniform(0, [0.2, 0.2, 6], (3, 3))]
            planes.append(128 + 40 * np.sum(waves, axis=0))
        return np.clip(np.stack(planes, axis=-1), 0, 255).astype(np.uint8)

    return make


@pytest.fixture
def data_set(written, tmp_path):
    """A copy of the room's data set `written`, without its ledger, to do harm to."""
    return Path(shutil.copytree(written, tmp_path / "data_set"))


@pytest.fixture(scope="session")
def contents():
    """contents(folder) gives the bytes of every file below a folder by its path in it."""

    def read(folder: Path) -> dict[str, bytes]:
        files = (path for path in sorted(folder.rglob("*")) if path.is_file())
        return {str(path.relative_to(folder)): path.read_bytes() for path in files}

    return read
