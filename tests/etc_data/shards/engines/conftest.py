"""Jobs for the engines, which all must do alike."""

import pytest

from etc_data.cipher import Cipher
from etc_data.codecs import JpegCodec
from etc_data.shards.job import ShardJob
from etc_data.shards.samples import SampleEncoder
from etc_data.sources import Item


@pytest.fixture
def job(tmp_path, photo, key):
    """job(number, *readers) is a shard of good photos, or of what the readers give."""
    path = tmp_path / "photo.jpg"
    path.write_bytes(photo(0))
    encoder = SampleEncoder(Cipher("etc-16", key), JpegCodec(), (48, 48))

    def make(number, *readers):
        items = [Item(f"{number}/{i}", 0, r) for i, r in enumerate(readers or [path.read_bytes] * 3)]
        return ShardJob(
            f"train-{number:06d}.tar", "train", 10 * number, tuple((item, 0) for item in items), encoder
        )

    return make


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"
