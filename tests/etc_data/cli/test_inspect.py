"""`etc-data inspect`: what everybody can read of a data set or an image."""

import json
import re

import pytest

from etc_data import Scheme, SecretKey
from etc_data.containers import embed_comment
from etc_data.shards.manifest import Manifest
from etc_data.shards.single import ImageNote


@pytest.fixture(scope="module")
def query(tmp_path_factory, etc, photo, key):
    """`photo` as one encrypted image with a nonce and a context."""
    path = tmp_path_factory.mktemp("query") / "query.jpg"
    options = ["--key-scope", "image", "--context", "ward 7", "--scheme", "ind-16/8"]
    assert etc("encrypt", photo, "-o", path, "--key", key, *options).code == 0
    return path


def facts(text: str) -> dict[str, str]:
    return dict(re.findall(r"^(\S+(?: \S+)*)  +(\S.*)$", text.partition("\n\n")[0], re.MULTILINE))


def test_folder_is_told_in_full(command, written, key):
    result = command("inspect", written)
    assert (result.code, result.err) == (0, "")
    told = facts(result.out)
    assert told["format"] == "etc-data-shards/1"
    assert told["scheme"] == "etc-16"
    assert told["key id"] == SecretKey.load(key).id
    assert told["key scope"] == "dataset"
    assert told["context"] == "(none)"
    assert told["size"] == "64 × 64"
    assert told["codec"] == "name jpeg, quality 95, subsampling 4:4:4"
    assert told["labels"] == "2 classes"
    assert told["samples"] == "8"
    steps = Manifest.read(written).scheme.canonical.split("|")
    assert told["steps"] == steps[0]
    assert all(f"\n           {step}\n" in result.out for step in steps[1:])


def test_folder_lists_its_shards(etc, written):
    result = etc("inspect", written)
    for shard in Manifest.read(written).shards:
        row = rf"^{shard.name} +{shard.samples} +{shard.bytes} +{shard.sha256[:16]}…"
        assert re.search(row, result.out, re.MULTILINE)


def test_json_of_a_folder_is_its_manifest(etc, written):
    result = etc("inspect", written, "--json")
    assert (result.code, result.err) == (0, "")
    assert json.loads(result.out) == json.loads((written / "manifest.json").read_text())


def test_image_is_told_in_full(etc, query, key):
    note = ImageNote.read(query.read_bytes())
    result = etc("inspect", query)
    assert (result.code, result.err) == (0, "")
    assert facts(result.out) == {
        "scheme": "ind-16/8",
        "key_id": SecretKey.load(key).id,
        "key_scope": "image",
        "context": "ward 7",
        "height": str(note.size[0]),
        "width": str(note.size[1]),
        "nonce": note.nonce.hex(),
    }


def test_json_of_an_image_tells_the_steps(etc, query):
    record = json.loads(etc("inspect", query, "--json").out)
    note = ImageNote.read(query.read_bytes())
    assert record["scheme"] == note.scheme.describe()
    assert record["nonce"] == note.nonce.hex()
    assert set(record) == {"scheme", "key_id", "key_scope", "context", "height", "width", "nonce"}


def test_image_is_read_from_standard_input(command, etc, query):
    result = command("inspect", "-", stdin=query.read_bytes())
    assert result == etc("inspect", query)


def test_no_key_is_needed_or_read(etc, written):
    result = etc("inspect", written, environment={"ETC_DATA_KEY": "nonsense"})
    assert result.code == 0


def test_folder_without_manifest_is_no_data_set(etc, photos):
    result = etc("inspect", photos)
    assert (result.code, result.out) == (1, "")
    assert result.error == f"{photos} is no finished data set: it has no manifest.json"


def test_image_without_note_is_refused(etc, photo):
    result = etc("inspect", photo, "--json")
    assert (result.code, result.out) == (1, "")
    assert result.error.startswith(f"{photo}: this image carries no note of etc-data")


@pytest.mark.parametrize("data", [b"", b"garbage", b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"PK\3\4"])
def test_garbage_is_refused(etc, tmp_path, data):
    (tmp_path / "x.jpg").write_bytes(data)
    result = etc("inspect", tmp_path / "x.jpg")
    assert (result.code, result.out) == (1, "")
    assert result.error.startswith(f"{tmp_path}/x.jpg: ")


@pytest.mark.parametrize("kept", [3, 100, 600])
def test_image_cut_short_is_refused_or_told_by_its_note(etc, query, tmp_path, kept):
    (tmp_path / "x.jpg").write_bytes(query.read_bytes()[:kept])
    result = etc("inspect", tmp_path / "x.jpg")
    assert result.code in (0, 1)
    assert result.code == 0 or result.error.startswith(f"{tmp_path}/x.jpg: ")


def test_hostile_context_of_an_image_cannot_play_tricks_on_the_terminal(etc, tmp_path, make_photo):
    fields = {
        "context": "x\x1b[2J\nscheme     secure",
        "height": 16,
        "key_id": "0" * 16,
        "key_scope": "dataset",
        "nonce": "",
        "scheme": Scheme.preset("etc-16").describe(),
        "width": 16,
    }
    path = make_photo(tmp_path / "x.png")
    path.write_bytes(embed_comment(path.read_bytes(), f"etc-data-image/1 {json.dumps(fields)}"))
    result = etc("inspect", path)
    assert result.code == 0
    assert "context    x\\x1b[2J\\x0ascheme     secure\n" in result.out
    assert len(result.out.splitlines()) == 7


@pytest.mark.parametrize("number", [2**63, 10**400], ids=["2^63", "10^400"])
def test_number_that_nothing_has_is_refused(etc, data_set, number):
    path = data_set / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["shards"][0]["bytes"] = number
    path.write_text(json.dumps(manifest))
    result = etc("inspect", data_set)
    assert (result.code, result.out) == (1, "")
    assert "the manifest is malformed: bytes is " in result.error


def test_hostile_manifest_cannot_play_tricks_on_the_terminal(etc, data_set):
    path = data_set / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest | {"context": "\x1b]0;owned\x07", "key_id": "\x1b[1m"}))
    for arguments in (["inspect", data_set], ["verify", data_set]):
        result = etc(*arguments)
        assert "\x1b" not in result.out + result.err
