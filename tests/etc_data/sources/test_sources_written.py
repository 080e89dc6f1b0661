"""Every source, written as shards by one process and by two: the same bytes."""

import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etc_data.cipher import Cipher
from etc_data.keys import SecretKey
from etc_data.shards import write_shards
from etc_data.sources import Selection, open_source


@pytest.fixture
def specs(tmp_path, picture, monkeypatch):
    """Specs of three sources, of twelve images in three classes each."""
    for number in range(12):
        (tmp_path / f"{number:02d}.png").write_bytes(picture(number, "PNG", size=(20, 30)))
        (tmp_path / f"{number:02d}.cls").write_text(str(number % 3))
    (tmp_path / "tars").mkdir()
    with tarfile.open(tmp_path / "tars/train-0.tar", "w") as tar:
        for path in sorted(tmp_path.glob("*.*")):
            tar.add(path, path.name)

    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    rows = [{"bytes": path.read_bytes(), "path": None} for path in sorted(tmp_path.glob("*.png"))]
    columns = {"image": rows, "label": [number % 3 for number in range(12)]}
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")

    raw = tmp_path / "MNIST/raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        digits = np.random.default_rng(1).integers(0, 256, (12, 28, 28), np.uint8)
        sizes = b"\0\0\0\x0c" + 2 * b"\0\0\0\x1c"
        (raw / f"{part}-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + sizes + digits.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(
            b"\0\0\x08\x01\0\0\0\x0c" + bytes([0, 1, 2] * 4)
        )
    return {
        "tars": f"{tmp_path}/tars",
        "hf": f"hf:{tmp_path}/x.parquet",
        "torchvision": f"torchvision:MNIST?root={tmp_path}",
    }


@pytest.mark.parametrize(
    "kind",
    ["tars", "hf", pytest.param("torchvision", marks=pytest.mark.slow)],  # workers import torch
)
def test_bytes_are_the_same_for_one_process_and_two(tmp_path, specs, kind):
    cipher = Cipher("etc-16", SecretKey(bytes(32)), key_scope="image")
    written = []
    for workers in (1, 2):
        out = tmp_path / f"out{workers}"
        source = Selection(open_source(specs[kind]), splits=["train"], limit=9)
        summary = write_shards(source, out, cipher, size=32, samples_per_shard=5, workers=workers)
        assert summary.manifest.samples == 9
        written.append({path.name: path.read_bytes() for path in sorted(out.iterdir())})
    assert written[0] == written[1]
    labels = []
    for path in (tmp_path / "out1").glob("*.tar"):
        with tarfile.open(path) as tar:
            labels += [tar.extractfile(name).read() for name in tar.getnames() if name.endswith(".cls")]
    assert sorted(map(int, labels)) == sorted(item.label for item in source.items("train"))
