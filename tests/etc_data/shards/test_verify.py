import hashlib
import json
import os
import random
import tarfile

import pytest

from etc_data.cipher import Cipher
from etc_data.errors import DamagedShardError, ManifestError, WrongKeyError
from etc_data.keys import SecretKey
from etc_data.shards import verify_shards, write_shards
from etc_data.shards.data_set import DataSet
from etc_data.shards.manifest import Manifest
from etc_data.shards.verify import check_shard, open_shard

SHARDS = ("train-000000.tar", "train-000001.tar", "train-000002.tar", "val-000000.tar")


@pytest.fixture(scope="module")
def small(tmp_path_factory, source, key):
    """A data set whose first shard holds a single small sample; tests restore what they harm."""
    out = tmp_path_factory.mktemp("small") / "out"
    write_shards(source, out, Cipher("etc-16", key), size=16, samples_per_shard=1)
    return out


def reseal(folder, manifest_change=lambda value: None):
    """Rewrites a manifest as a forger without the key would: hashes right, seal as it was."""
    value = json.loads((folder / "manifest.json").read_bytes())
    for shard in value["shards"]:
        data = (folder / shard["name"]).read_bytes()
        shard.update(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    manifest_change(value)
    (folder / "manifest.json").write_text(json.dumps(value))


# --- a data set as it was written -------------------------------------------------------------


def test_data_set_as_written_passes(written, key):
    assert verify_shards(written) == Manifest.read(written)
    assert verify_shards(str(written), key=key) == Manifest.read(written)


def test_progress_counts_every_byte(written):
    seen = []
    verify_shards(written, tick=seen.append)
    assert seen == [(written / name).stat().st_size for name in SHARDS]


def test_other_files_beside_the_shards_do_not_matter(data_set):
    (data_set / "README.md").write_text("hello")
    for name in ("_info.json", "train.wids", "val.wids"):
        (data_set / name).unlink()
    verify_shards(data_set)


# --- accidents --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["train-000001.tar", "val-000000.tar"])
def test_every_flipped_bit_is_found(data_set, name):
    random_bits = random.Random(name)
    data = (data_set / name).read_bytes()
    for _ in range(50):
        place, bit = random_bits.randrange(len(data)), random_bits.randrange(8)
        harmed = bytearray(data)
        harmed[place] ^= 1 << bit
        (data_set / name).write_bytes(harmed)
        with pytest.raises(DamagedShardError, match=f"^shard {name} was altered: its SHA-256 differs$"):
            verify_shards(data_set)
    (data_set / name).write_bytes(data)
    verify_shards(data_set)


def test_every_truncation_is_found(small):
    path = small / "train-000000.tar"
    data = path.read_bytes()
    with tarfile.open(path) as tar:
        borders = [header.offset for header in tar] + [header.offset_data for header in tar]
        ends = [header.offset_data + header.size for header in tar]
    lengths = {0, 1, len(data) - 1, *range(0, len(data), 512), *borders, *ends}
    lengths |= {place + step for place in borders for step in (-1, 1) if place + step >= 0}
    try:
        for length in sorted(lengths - {len(data)}):
            path.write_bytes(data[:length])
            with pytest.raises(DamagedShardError, match=r"train-000000\.tar is cut short") as caught:
                verify_shards(small)
            assert f"{length} bytes, the manifest says {len(data)}" in str(caught.value)
    finally:
        path.write_bytes(data)
    verify_shards(small)


@pytest.mark.parametrize("tail", [b"\0", bytes(10_240), b"x"])
def test_shard_that_grew_is_found(data_set, tail):
    with (data_set / SHARDS[0]).open("ab") as file:
        file.write(tail)
    with pytest.raises(DamagedShardError, match=r"train-000000\.tar is too long"):
        verify_shards(data_set)


def test_missing_shard_is_named(data_set):
    (data_set / SHARDS[1]).unlink()
    with pytest.raises(DamagedShardError, match=r"^shard train-000001\.tar is missing$"):
        verify_shards(data_set)


@pytest.mark.parametrize("name", ["train-000003.tar", "test-000000.tar", "other.tar"])
def test_surplus_shard_is_named(data_set, name):
    (data_set / name).write_bytes((data_set / SHARDS[0]).read_bytes())
    with pytest.raises(DamagedShardError, match=f"^shard {name} is not in the manifest$"):
        verify_shards(data_set)


def test_swapped_shards_are_both_named(data_set):
    one, other = (data_set / name for name in SHARDS[:2])
    first, second = one.read_bytes(), other.read_bytes()
    assert len(first) == len(second)
    one.write_bytes(second)
    other.write_bytes(first)
    with pytest.raises(DamagedShardError) as caught:
        verify_shards(data_set)
    assert str(caught.value) == (
        "shard train-000000.tar was altered: its SHA-256 differs; "
        "shard train-000001.tar was altered: its SHA-256 differs"
    )
    assert "copy the named shards again" in caught.value.hint


def test_all_damaged_shards_are_named_at_once(data_set):
    (data_set / SHARDS[0]).write_bytes(b"")
    (data_set / SHARDS[1]).unlink()
    data = (data_set / SHARDS[2]).read_bytes()
    (data_set / SHARDS[2]).write_bytes(bytes(len(data)))
    (data_set / "more-000000.tar").write_bytes(b"")
    (data_set / "val.wids").write_text("{}")
    with pytest.raises(DamagedShardError) as caught:
        verify_shards(data_set)
    what = ["train-000000.tar is cut short: 0 bytes, the manifest says 51200", "is missing", "altered"]
    problems = str(caught.value).split("; ")
    assert len(problems) == 5
    assert all(part in problem for part, problem in zip(what, problems, strict=False))
    assert problems[3:] == [
        "shard more-000000.tar is not in the manifest",
        "side index val.wids is not as it was written",
    ]


def test_shard_that_is_a_folder_is_named(data_set):
    (data_set / SHARDS[3]).unlink()
    (data_set / SHARDS[3]).mkdir()
    with pytest.raises(DamagedShardError, match=r"val-000000\.tar cannot be read: Is a directory"):
        verify_shards(data_set)


def put_pipe(path):
    path.unlink()
    os.mkfifo(path)


def put_device(path):
    path.unlink()
    path.symlink_to("/dev/zero")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
@pytest.mark.parametrize("put", [put_pipe, put_device])
def test_what_is_no_file_is_named_and_not_waited_for(data_set, put):
    put(data_set / SHARDS[3])
    put(data_set / "val.wids")
    with pytest.raises(DamagedShardError) as caught:
        verify_shards(data_set)
    assert str(caught.value) == (
        "shard val-000000.tar cannot be read: it is no regular file; "
        "side index val.wids is not as it was written"
    )


def test_link_to_a_shard_is_a_shard(data_set, tmp_path):
    (data_set / SHARDS[3]).rename(tmp_path / "elsewhere.tar")
    (data_set / SHARDS[3]).symlink_to(tmp_path / "elsewhere.tar")
    verify_shards(data_set)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b"[" * 100_000])
@pytest.mark.parametrize("name", ["_info.json", "train.wids"])
def test_altered_side_index_is_named(data_set, name, content):
    (data_set / name).write_bytes(content)
    with pytest.raises(DamagedShardError, match=f"side index {name} is not as it was written"):
        verify_shards(data_set)


def test_side_index_with_another_count_is_named(data_set):
    value = json.loads((data_set / "_info.json").read_bytes())
    value["splits"]["train"]["num_samples"] = 26
    (data_set / "_info.json").write_text(json.dumps(value))
    with pytest.raises(DamagedShardError, match="_info"):
        verify_shards(data_set)


# --- forgers ----------------------------------------------------------------------------------


def test_wrong_key_is_refused_before_any_shard_is_read(data_set):
    (data_set / SHARDS[0]).unlink()
    with pytest.raises(WrongKeyError):
        verify_shards(data_set, key=SecretKey(bytes(32)))


def test_forged_shard_with_a_right_hash_is_found_by_the_key(data_set, key):
    data = bytearray((data_set / SHARDS[0]).read_bytes())
    assert data[512:514] in (b"0\0", b"1\0", b"2\0")
    data[512] = ord("0") + (data[512] - ord("0") + 1) % 3  # another label, as good as any
    (data_set / SHARDS[0]).write_bytes(data)
    reseal(data_set)
    verify_shards(data_set)
    with pytest.raises(ManifestError, match="altered"):
        verify_shards(data_set, key=key)


def test_shard_given_twice_under_two_names_is_found(data_set):
    (data_set / SHARDS[1]).write_bytes((data_set / SHARDS[0]).read_bytes())
    reseal(data_set)
    with pytest.raises(
        DamagedShardError,
        match=r"^shard train-000001\.tar: sample train-\d{9} occurs in another shard too$",
    ):
        verify_shards(data_set)


def test_wrong_count_is_found(data_set):
    def change(value):
        value["shards"][0]["samples"] += 1
        value["splits"]["train"]["samples"] += 1
        value["samples"] += 1

    for name in ("_info.json", "train.wids"):
        (data_set / name).unlink()
    reseal(data_set, change)
    with pytest.raises(
        DamagedShardError, match=r"^shard train-000000\.tar holds 9 samples, the manifest says 10$"
    ):
        verify_shards(data_set)


def test_shard_that_is_no_tar_is_found_whatever_its_hash(data_set):
    (data_set / SHARDS[0]).write_bytes(b"no tar" * 1000)
    reseal(data_set)
    with pytest.raises(DamagedShardError, match=r"train-000000\.tar is no whole tar archive"):
        verify_shards(data_set)


def test_missing_manifest_is_no_data_set(data_set):
    (data_set / "manifest.json").unlink()
    with pytest.raises(ManifestError, match="no finished data set"):
        verify_shards(data_set)


# --- the parts --------------------------------------------------------------------------------


def test_samples_of_one_shard_are_given_out_only_after_its_check(data_set):
    entry = Manifest.read(data_set).shards[0]
    assert len(list(DataSet.find(data_set, None, None, None).samples(entry))) == 9
    data = bytearray((data_set / entry.name).read_bytes())
    data[-1] = 1
    (data_set / entry.name).write_bytes(data)
    with pytest.raises(DamagedShardError, match=f"{entry.name} was altered"):
        next(DataSet.find(data_set, None, None, None).samples(entry))
    with open_shard(data_set, entry) as file:
        assert len(check_shard(file, entry, hashed=False)) == 9


def test_checked_file_is_left_open_and_refused_files_are_closed(data_set):
    entry = Manifest.read(data_set).shards[0]
    with open_shard(data_set, entry) as file:
        check_shard(file, entry)
        assert not file.closed
    (data_set / entry.name).write_bytes(b"short")
    with pytest.raises(DamagedShardError):
        open_shard(data_set, entry)
