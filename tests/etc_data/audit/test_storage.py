import numpy as np
import pytest
from PIL import Image

from etc_data.audit.storage import look_at_storage
from etc_data.cipher import Cipher
from etc_data.keys import SecretKey
from etc_data.shards import write_shards


@pytest.fixture
def source(tmp_path):
    random = np.random.default_rng(0)
    for name, count in (("sick", 3), ("well", 5)):
        (tmp_path / "in" / name).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(random.integers(0, 256, (32, 32, 3), np.uint8)).save(
                tmp_path / "in" / name / f"{number}.png"
            )
    return tmp_path / "in"


@pytest.mark.parametrize("scope", ["dataset", "image"])
def test_the_bucket_tells_balance_sizes_and_scope(source, tmp_path, scope):
    cipher = Cipher("etc-16", SecretKey(bytes(range(32))), key_scope=scope)
    write_shards(source, tmp_path / "out", cipher, size=32)
    told = look_at_storage(tmp_path / "out")
    assert told.labels == {0: 3, 1: 5}
    assert told.samples == {"train": 8}
    assert told.key_scope == scope
    assert told.nonces == (8 if scope == "image" else 0)
    assert 0 < told.image_bytes[0] <= told.image_bytes[1] <= told.image_bytes[2]
    assert "sick" not in str(told.to_dict())


def test_labels_left_out_tell_nothing(source, tmp_path):
    cipher = Cipher("etc-16", SecretKey(bytes(range(32))))
    write_shards(source, tmp_path / "out", cipher, size=32, labels=False)
    told = look_at_storage(tmp_path / "out")
    assert told.labels == {} == told.bytes_by_label
