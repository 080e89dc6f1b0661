import copy
import hashlib
import hmac
import json
import os
import shutil

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st

from etc_data.cipher import Cipher
from etc_data.codecs import PngCodec
from etc_data.errors import EtcError, ManifestError, WrongKeyError
from etc_data.keys import SecretKey
from etc_data.schemes import Scheme
from etc_data.shards.manifest import Manifest, ShardEntry
from etc_data.shards.writer import write_shards

SECRET = bytes(range(32))
FIELDS = ["format", "scheme", "steps", "key_id", "key_scope", "context", "size", "resize", "fit"]
FIELDS += ["codec", "labels", "classes", "samples", "splits", "shards", "hmac"]


@pytest.fixture(scope="module")
def value(written):
    """The manifest of a real data set as JSON's value; nobody may change it."""
    return json.loads((written / "manifest.json").read_bytes())


@pytest.fixture
def changed(value):
    return copy.deepcopy(value)


# --- what is written --------------------------------------------------------------------------


def test_manifest_tells_what_the_folder_is(value, written, key):
    assert list(value) == FIELDS
    scheme = Scheme.preset("etc-16").describe()
    assert value["format"] == "etc-data-shards/1"
    assert (value["scheme"], value["steps"]) == (scheme["name"], scheme["steps"])
    assert (value["key_id"], value["key_scope"], value["context"]) == (key.id, "dataset", "")
    assert (value["size"], value["resize"], value["fit"]) == ([48, 48], "crop", None)
    assert value["codec"] == {"name": "jpeg", "quality": 95, "subsampling": "4:4:4"}
    assert (value["labels"], value["classes"], value["samples"]) == ("keep", 3, 33)
    assert value["splits"] == {
        "train": {"samples": 27, "shards": 3},
        "val": {"samples": 6, "shards": 1},
    }
    assert [shard["name"] for shard in value["shards"]] == [
        *(f"train-{i:06d}.tar" for i in range(3)),
        "val-000000.tar",
    ]
    for shard in value["shards"]:
        data = (written / shard["name"]).read_bytes()
        assert shard["bytes"] == len(data)
        assert shard["sha256"] == hashlib.sha256(data).hexdigest()


def test_seal_is_the_hmac_of_the_format_page(value):
    subkey = HKDF(SHA256(), 32, b"etc-data/1", b"sub-key:manifest").derive(SECRET)
    unsealed = {name: entry for name, entry in value.items() if name != "hmac"}
    text = json.dumps(unsealed, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    assert value["hmac"] == hmac.new(subkey, text.encode("ascii"), "sha256").hexdigest()


def test_manifest_survives_json(value, written, key):
    manifest = Manifest.read(written)
    assert manifest.to_dict() == value
    assert Manifest.from_dict(json.loads(json.dumps(manifest.to_dict()))) == manifest
    manifest.check_seal(key)
    assert (manifest.samples, manifest.total_bytes) == (33, sum(s.bytes for s in manifest.shards))
    cipher = manifest.cipher(key)
    assert (cipher.scheme.name, cipher.key_scope, cipher.context) == ("etc-16", "dataset", "")


def test_every_option_survives_json(tmp_path, key, plant):
    plant(tmp_path / "flat", "1.jpg", "2.jpg")
    scheme = Scheme(Scheme.preset("ind-16/8").steps, name="mine")
    cipher = Cipher(scheme, key, key_scope="image", context='holiday ☀ 🏖 "x"\n')
    out = tmp_path / "out"
    options = {"size": (33, 47), "resize": "exact", "fit": "pad", "codec": PngCodec(1)}
    manifest = write_shards(tmp_path / "flat", out, cipher, **options).manifest
    assert Manifest.read(out) == manifest
    manifest.check_seal(key)
    assert (out / "manifest.json").read_bytes().isascii()
    assert manifest.cipher(key).context == cipher.context
    assert manifest.cipher(key).key_scope == "image"
    assert manifest.cipher(key).scheme == scheme
    assert (manifest.size, manifest.resize, manifest.fit) == ((33, 47), "exact", "pad")
    assert (manifest.codec, manifest.labels, manifest.classes) == (PngCodec(1).describe(), "none", 0)


def test_repr_does_not_show_the_seal(written, value):
    assert value["hmac"] not in repr(Manifest.read(written))


# --- another key, an altered or newer manifest ------------------------------------------------


def test_wrong_key_is_refused_by_its_id(written, key):
    other = SecretKey(bytes(32))
    for check in (Manifest.read(written).check_seal, Manifest.read(written).cipher):
        with pytest.raises(WrongKeyError, match=f"with key {key.id}, but the key given is {other.id}"):
            check(other)


ALTERATIONS = {
    "scheme": lambda v: v.update(scheme="mine"),
    "steps": lambda v: v["steps"][1].update(assignment="common") or v.update(scheme="mine"),
    "key_scope": lambda v: v.update(key_scope="image"),
    "context": lambda v: v.update(context="x"),
    "size": lambda v: v.update(size=[48, 64]),
    "no size": lambda v: v.update(size=None),
    "resize": lambda v: v.update(resize="exact"),
    "fit": lambda v: v.update(fit="pad"),
    "codec": lambda v: v["codec"].update(quality=94),
    "labels": lambda v: v.update(labels="none"),
    "classes": lambda v: v.update(classes=4),
    "order of shards": lambda v: v["shards"].insert(0, v["shards"].pop(1)),
    "bytes": lambda v: v["shards"][0].update(bytes=1),
    "sha256": lambda v: v["shards"][0].update(sha256="0" * 64),
    "hmac": lambda v: v.update(hmac="0" * 64),
    "no hmac": lambda v: v.update(hmac=""),
    "a shard less": lambda v: (
        v.update(samples=27, splits={"train": {"samples": 27, "shards": 3}}) or v["shards"].pop()
    ),
    "samples": lambda v: (
        v["shards"][0].update(samples=8)
        or v["splits"]["train"].update(samples=26)
        or v.update(samples=32)
    ),
}


@pytest.mark.parametrize("name", ALTERATIONS)
def test_alteration_that_agrees_with_itself_is_told_by_the_key(changed, key, name):
    ALTERATIONS[name](changed)
    manifest = Manifest.from_dict(changed)
    with pytest.raises(ManifestError, match="altered after it was written"):
        manifest.check_seal(key)


def test_forged_key_id_is_refused(changed, key):
    changed["key_id"] = "0" * 16
    with pytest.raises(WrongKeyError):
        Manifest.from_dict(changed).check_seal(key)


@pytest.mark.parametrize("version", [2, 10, 999_999_999])
def test_newer_format_is_refused_by_name(data_set, changed, version):
    changed["format"] = f"etc-data-shards/{version}"
    changed["new"] = True
    (data_set / "manifest.json").write_text(json.dumps(changed))
    with pytest.raises(
        ManifestError, match=f"the format is etc-data-shards/{version}; this etc-data r"
    ):
        Manifest.read(data_set)


# --- malformed manifests ----------------------------------------------------------------------

NO_FORMATS = [None, 1, "", "etc-data-shards", "etc-data-shards/", "etc-data-shards/0", "other/1"]
NO_FORMATS += ["etc-data-shards/01", "etc-data-shards/1.0", "etc-data-shards/-1", "etc-data-shards/²"]
NO_FORMATS += ["etc-data-shards/١", "etc-data-shards/" + "9" * 5000, "etc-data-shards/1\n", ["x"]]


@pytest.mark.parametrize("name", NO_FORMATS, ids=lambda name: repr(name)[:30])
def test_other_formats_are_no_manifest(changed, name):
    changed["format"] = name
    with pytest.raises(ManifestError, match="this is no manifest of etc-data"):
        Manifest.from_dict(changed)


@pytest.mark.parametrize("value", [None, [], "text", 7, {}, {"shards": []}])
def test_other_json_is_no_manifest(value):
    with pytest.raises(ManifestError, match="this is no manifest of etc-data: it has no format"):
        Manifest.from_dict(value)


@pytest.mark.parametrize("field", FIELDS[1:])
def test_missing_field_is_named(changed, field):
    del changed[field]
    with pytest.raises(
        ManifestError, match="do not agree" if field in ("samples", "splits") else field
    ):
        Manifest.from_dict(changed)


WRONG = [None, True, -1, 1.0, 1.5, 1e400, "", "x", [], [1], {}, {"x": 1}, "\ud800", 10**30, [[[]]]]
MAY_BE = {"size": [None], "fit": [None], "context": ["", "x"], "hmac": [""], "scheme": ["x"]}
MAY_BE |= {"classes": [10**30]}


@pytest.mark.parametrize("field", FIELDS[1:])
def test_field_of_another_type_is_refused(changed, field):
    for wrong in WRONG:
        if wrong in MAY_BE.get(field, []):
            continue
        changed[field] = wrong
        with pytest.raises(ManifestError, match="the manifest is malformed: "):
            Manifest.from_dict(changed)


@pytest.mark.parametrize("field", ["name", "split", "bytes", "samples", "sha256"])
def test_shard_field_of_another_type_is_refused(changed, field):
    for wrong in WRONG:
        if field == "bytes" and wrong == 10**30:
            continue
        changed["shards"][0][field] = wrong
        with pytest.raises(ManifestError, match="the manifest is malformed: "):
            Manifest.from_dict(changed)
    del changed["shards"][0][field]
    with pytest.raises(ManifestError, match=field):
        Manifest.from_dict(changed)


NO_SHARDS = [
    "../x.tar",
    "../train-000000.tar",
    "/etc/train-000000.tar",
    "train-0.tar",
    "a/b-000000.tar",
]
NO_SHARDS += [
    "train-000000.tar\n",
    "train-000000",
    "train-000000.TAR",
    "tr.ain-000000.tar",
    "-000000.tar",
]
NO_SHARDS += ["x" * 65 + "-000000.tar", "train-000000.tar\0", "..\\train-000000.tar", "trän-000000.tar"]


@pytest.mark.parametrize("name", NO_SHARDS)
def test_shard_name_that_could_lead_elsewhere_is_refused(changed, name):
    changed["shards"][0].update(name=name, split=name[:-11])
    changed["splits"] = {**changed["splits"], name[:-11]: {"samples": 9, "shards": 1}}
    with pytest.raises(ManifestError, match="the manifest is malformed: name is "):
        Manifest.from_dict(changed)


def test_totals_that_do_not_agree_are_refused(changed):
    for change in (
        lambda v: v.update(samples=34),
        lambda v: v["splits"]["train"].update(samples=28),
        lambda v: v["splits"].update(test={"samples": 0, "shards": 0}),
        lambda v: v["splits"].pop("val"),
        lambda v: v.update(more=1),
        lambda v: v["shards"][0].update(samples=0),
        lambda v: v["shards"].pop(),
        lambda v: v.update(samples=33.0),
        lambda v: v["splits"]["val"].update(shards=True),
    ):
        wrong = copy.deepcopy(changed)
        change(wrong)
        with pytest.raises(ManifestError, match="its totals or fields do not agree"):
            Manifest.from_dict(wrong)


def test_shard_listed_twice_is_refused(changed):
    changed["shards"].append(changed["shards"][0])
    changed["samples"] += 9
    with pytest.raises(ManifestError, match="a shard is listed twice"):
        Manifest.from_dict(changed)


def test_manifest_without_shards_is_refused(changed):
    changed.update(shards=[], splits={}, samples=0)
    with pytest.raises(ManifestError, match="it lists no shards"):
        Manifest.from_dict(changed)


def test_preset_name_with_other_steps_is_refused(changed):
    changed["steps"].pop()
    with pytest.raises(ManifestError, match="the name etc-16 belongs to a preset with other steps"):
        Manifest.from_dict(changed)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"format": "etc-data-shards/1", "steps": ' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"format": "etc-data-shards/1", "size": ' + b"9" * 5000 + b"}",
        b'{"format": "etc-data-shards/1", "shards": [' + b"{}," * 10**5 + b"{}]}",
    ],
    ids=["empty", "cut", "no text", "deep", "deep inside", "long number", "many shards"],
)
def test_damaged_file_is_named(data_set, data):
    (data_set / "manifest.json").write_bytes(data)
    with pytest.raises(ManifestError, match=r"manifest\.json"):
        Manifest.read(data_set)


def test_missing_manifest_is_no_data_set(data_set):
    (data_set / "manifest.json").unlink()
    with pytest.raises(ManifestError, match=r"is no finished data set: it has no manifest\.json"):
        Manifest.read(data_set)
    shutil.rmtree(data_set)
    with pytest.raises(ManifestError, match="is no finished data set: it does not exist"):
        Manifest.read(data_set)


def test_manifest_that_is_a_folder_is_named(data_set):
    (data_set / "manifest.json").unlink()
    (data_set / "manifest.json").mkdir()
    with pytest.raises(ManifestError, match=r"manifest\.json cannot be read: Is a directory"):
        Manifest.read(data_set)


@pytest.mark.parametrize("put", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_manifest_that_is_a_pipe_or_device_is_named_and_not_waited_for(data_set, put):
    (data_set / "manifest.json").unlink()
    put(data_set / "manifest.json")
    with pytest.raises(ManifestError, match=r"manifest\.json cannot be read: it is no regular file$"):
        Manifest.read(data_set)


def test_many_splits_take_no_time(value):
    shards = tuple(ShardEntry(f"s{i}-000000.tar", f"s{i}", 10_240, 1, "0" * 64) for i in range(20_000))
    base = Manifest.from_dict(value)
    manifest = Manifest(**{**vars(base), "shards": shards})
    assert len(Manifest.from_dict(manifest.to_dict()).splits) == 20_000


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def places(value, path=()):
    """All places inside a JSON value."""
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    for name, entry in entries:
        yield (*path, name)
        if isinstance(entry, dict | list):
            yield from places(entry, (*path, name))


@settings(deadline=None, max_examples=400, derandomize=True)
@given(st.data())
def test_mutations_raise_nothing_but_our_errors(value, data):
    wrong = copy.deepcopy(value)
    for _ in range(data.draw(st.integers(1, 3))):
        *parents, last = data.draw(st.sampled_from(list(places(wrong))))
        holder = wrong
        for name in parents:
            holder = holder[name]
        kind = data.draw(st.sampled_from(["replace", "remove", "swap"]))
        if kind == "remove":
            del holder[last]
        elif kind == "replace":
            holder[last] = data.draw(JSON_VALUES)
        else:
            holder[last] = copy.deepcopy(data.draw(st.sampled_from(list(wrong.values()))))
        wrong = json.loads(json.dumps(wrong))
    try:
        manifest = Manifest.from_dict(wrong)
        manifest.check_seal(SecretKey(SECRET))
    except EtcError as error:
        str(error).encode("utf-8", "surrogatepass")
    else:
        assert json.dumps(wrong, sort_keys=True) == json.dumps(value, sort_keys=True)


@settings(deadline=None, max_examples=300, derandomize=True)
@given(st.data())
def test_mutated_bytes_raise_nothing_but_our_errors(written, data):
    text = bytearray((written / "manifest.json").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(text) - 1))
        text[place : place + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    try:
        value = json.loads(bytes(text))
    except ValueError:
        return
    try:
        Manifest.from_dict(value).check_seal(SecretKey(SECRET))
    except EtcError:
        pass
    else:
        assert value == json.loads((written / "manifest.json").read_bytes())
