"""`etc-data verify`: what it finds without the key, and what only with it."""

import hashlib
import json

import pytest

from etc_data import SecretKey
from etc_data.shards.manifest import Manifest

SHARD = "train-000000.tar"


def refusal(etc, data_set, *options) -> str:
    """Returns the message of a verification that must fail, in both ways of output."""
    result = etc("verify", data_set, *options)
    assert (result.code, result.out) == (1, "")
    as_json = etc("verify", data_set, "--json", *options)
    assert (as_json.code, as_json.out) == (1, "")
    assert as_json.error == result.error
    return result.error


def test_whole_data_set_is_ok(command, written):
    total = sum(path.stat().st_size for path in written.glob("*.tar"))
    result = command("verify", written)
    assert result.code == 0
    assert result.out == f"ok: 8 samples in 2 shards, {total / 1024:.1f} KiB; seal not checked\n"
    assert result.err == "the seal needs the key: etc-data verify OUT --key KEY\n"


def test_key_checks_the_seal(etc, written, key, key_line):
    result = etc("verify", written, "--key", key)
    assert (result.code, result.err) == (0, "")
    assert result.out.endswith("; seal checked\n")
    assert etc("verify", written, environment={"ETC_DATA_KEY": key_line}) == result


@pytest.mark.parametrize("with_key", [False, True])
def test_json_is_one_object(etc, written, key, with_key):
    result = etc("verify", written, "--json", *["--key", key] * with_key)
    assert result.code == 0
    assert json.loads(result.out) == {
        "samples": 8,
        "shards": 2,
        "bytes": Manifest.read(written).total_bytes,
        "key_id": SecretKey.load(key).id,
        "seal": "checked" if with_key else "not checked",
    }


def test_wrong_key_is_refused_by_its_id(etc, written, key, other_key):
    message = refusal(etc, written, "--key", other_key)
    assert SecretKey.load(key).id in message
    assert SecretKey.load(other_key).id in message


@pytest.mark.parametrize("place", [0, 600, 5_000, -1])
def test_one_flipped_bit_is_found(etc, data_set, place):
    data = bytearray((data_set / SHARD).read_bytes())
    data[place] ^= 1
    (data_set / SHARD).write_bytes(data)
    assert refusal(etc, data_set) == f"shard {SHARD} was altered: its SHA-256 differs"


@pytest.mark.parametrize("kept", [0, 1, 10_240])
def test_cut_shard_is_found(etc, data_set, kept):
    data = (data_set / SHARD).read_bytes()
    (data_set / SHARD).write_bytes(data[:kept])
    message = refusal(etc, data_set)
    assert message == f"shard {SHARD} is cut short: {kept} bytes, the manifest says {len(data)}"


def test_longer_shard_is_found(etc, data_set):
    with (data_set / SHARD).open("ab") as file:
        file.write(bytes(10_240))
    assert refusal(etc, data_set).startswith(f"shard {SHARD} is too long")


def test_missing_shard_is_found(etc, data_set):
    (data_set / SHARD).unlink()
    assert refusal(etc, data_set) == f"shard {SHARD} is missing"


def test_surplus_shard_is_found(etc, data_set):
    (data_set / "train-000009.tar").write_bytes(b"")
    assert refusal(etc, data_set) == "shard train-000009.tar is not in the manifest"


def test_shards_in_each_others_place_are_found(etc, data_set):
    first, second = data_set / SHARD, data_set / "train-000001.tar"
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    message = refusal(etc, data_set)
    assert SHARD in message
    assert "train-000001.tar" in message


def test_all_damaged_shards_are_named_at_once(etc, data_set):
    (data_set / SHARD).unlink()
    (data_set / "train-000001.tar").write_bytes(b"")
    message = refusal(etc, data_set)
    assert f"shard {SHARD} is missing; shard train-000001.tar is cut short" in message


def test_forger_who_rewrites_the_manifest_is_found_only_with_the_key(etc, data_set, key):
    data = bytearray((data_set / SHARD).read_bytes())
    data[2_000] ^= 1
    (data_set / SHARD).write_bytes(data)
    manifest = json.loads((data_set / "manifest.json").read_text())
    manifest["shards"][0]["sha256"] = hashlib.sha256(data).hexdigest()
    (data_set / "manifest.json").write_text(json.dumps(manifest))
    assert etc("verify", data_set).code == 0
    message = refusal(etc, data_set, "--key", key)
    assert message == "the manifest was altered after it was written: its seal (HMAC) differs"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is damaged: it is not JSON"),
        (b"{", "is damaged: it is not JSON"),
        (b"\xff\xfe", "is damaged: it is not JSON"),
        (b"[]", "this is no manifest of etc-data: it has no format"),
        (b'{"format": "wids/1"}', "this is no manifest of etc-data: its format is 'wids/1'"),
        (b'{"format": "etc-data-shards/2"}', "this etc-data reads etc-data-shards/1"),
        (b'{"format": "etc-data-shards/1"}', "the manifest is malformed: field "),
    ],
)
def test_bad_manifest_is_refused(etc, data_set, content, message):
    (data_set / "manifest.json").write_bytes(content)
    assert message in refusal(etc, data_set)


def test_data_set_without_manifest_is_unfinished(etc, data_set):
    (data_set / "manifest.json").unlink()
    message = refusal(etc, data_set)
    assert message == f"{data_set} is no finished data set: it has no manifest.json"


def test_ledger_is_no_data_set(etc, written):
    assert "is no finished data set" in refusal(etc, written.with_name("shards.ledger"))


def test_single_file_is_wrong_usage(etc, photo):
    result = etc("verify", photo)
    assert (result.code, result.out) == (2, "")
    assert result.error == f"invalid value for 'OUT': directory '{photo}' is a file"


def test_verify_changes_nothing(etc, data_set, contents, key):
    before = contents(data_set)
    etc("verify", data_set, "--key", key)
    assert contents(data_set) == before
