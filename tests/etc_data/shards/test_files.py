import errno
import hashlib
import io
import json
import os
from pathlib import Path

import pytest

from etc_data.errors import EtcError, OutputExistsError
from etc_data.shards.files import HashingFile, canonical_json, publish_json, published, writing


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_file_appears_only_when_it_is_whole(tmp_path):
    with published(tmp_path / "a.tar") as file:
        file.write(b"half")
        file.flush()
        assert names(tmp_path) == [".a.tar.partial"]
        file.write(b" and half")
    assert names(tmp_path) == ["a.tar"]
    assert (tmp_path / "a.tar").read_bytes() == b"half and half"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_nothing_is_left_when_the_block_fails(tmp_path, error):
    with pytest.raises(error), published(tmp_path / "a.tar") as file:
        file.write(b"half")
        raise error
    assert names(tmp_path) == []


def test_old_file_stays_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"old")
    with pytest.raises(ValueError), published(path) as file:
        file.write(b"new")
        raise ValueError
    assert path.read_bytes() == b"old"
    with published(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["a.json"]


def test_leftover_of_an_earlier_run_does_not_disturb(tmp_path):
    (tmp_path / ".a.tar.partial").write_bytes(b"x" * 1000)
    with published(tmp_path / "a.tar") as file:
        file.write(b"whole")
    assert names(tmp_path) == ["a.tar"]
    assert (tmp_path / "a.tar").read_bytes() == b"whole"


def test_target_that_is_a_folder_leaves_nothing(tmp_path):
    (tmp_path / "a.tar").mkdir()
    with pytest.raises(OSError), published(tmp_path / "a.tar") as file:
        file.write(b"whole")
    assert names(tmp_path) == ["a.tar"]


def test_hashing_file_counts_and_hashes_what_goes_through():
    inner = io.BytesIO()
    file = HashingFile(inner)
    assert file.sha256() == hashlib.sha256().hexdigest()
    for part in (b"", b"abc", bytes(100_000)):
        file.write(part)
    assert inner.getvalue() == b"abc" + bytes(100_000)
    assert file.bytes_written == 100_003
    assert file.sha256() == hashlib.sha256(inner.getvalue()).hexdigest()


def test_published_json_is_the_same_bytes_for_the_same_value(tmp_path):
    value = {"name": "Größe ☀", "list": [1, None, True]}
    publish_json(tmp_path / "a.json", value)
    publish_json(tmp_path / "b.json", dict(value))
    data = (tmp_path / "a.json").read_bytes()
    assert data == (tmp_path / "b.json").read_bytes()
    assert data.isascii()
    assert data.endswith(b"}\n")
    assert json.loads(data) == value


def test_json_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(TypeError):
        publish_json(tmp_path / "a.json", {"key": b"bytes"})
    assert names(tmp_path) == []


def test_canonical_json_is_sorted_and_compact():
    assert canonical_json({"b": [1, 2], "a": {"d": "ü", "c": None}}) == (
        b'{"a":{"c":null,"d":"\\u00fc"},"b":[1,2]}'
    )


def test_refusal_to_write_becomes_an_error_of_ours(tmp_path):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(EtcError, match=r"out cannot be written: No space left on device$"):
        with writing(Path("out")):
            raise full
    with pytest.raises(EtcError, match="cannot be written: Not a directory"):
        with writing(tmp_path):
            (tmp_path / "file").write_bytes(b"")
            (tmp_path / "file" / "below").mkdir()


def test_other_errors_pass_as_they_are():
    for error in (OutputExistsError("there"), ValueError("bad"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, writing(Path("out")):
            raise error
        assert caught.value is error
