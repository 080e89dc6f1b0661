"""The public names of classes, and the other fields that a manifest only sometimes has."""

import copy
import json
import re

import pytest

from etc_data.cipher import Cipher
from etc_data.errors import ManifestError
from etc_data.shards import open_shards, write_shards
from etc_data.shards.ledger import Ledger
from etc_data.shards.manifest import Manifest
from etc_data.sources import Item

ODD = ("Katze ☀ 🏖", 'with "quotes" and \\', "a\nb\x1b[31m", "  ", "", "0", "ﷺ" * 50, "e\u0301", "é")


class Memory:
    """A source of one photo for each of its classes."""

    splits, strays = ("train",), ()

    def __init__(self, class_names, photo):
        self.class_names, self._photo = tuple(class_names), photo

    def items(self, split):
        return [
            Item(f"{number}", number, lambda: self._photo)
            for number in range(max(1, len(self.class_names)))
        ]


@pytest.fixture
def write(tmp_path, key, photo):
    """write(names) writes a data set and returns its folder."""

    def make(class_names, **options):
        source = Memory(class_names, photo(0, 16, 16))
        cipher = Cipher("etc-16", key)
        write_shards(source, tmp_path / "out", cipher, size=16, class_names=True, **options)
        return tmp_path / "out"

    return make


@pytest.mark.parametrize("names", [ODD, [f"class {n}" for n in range(2000)]], ids=["odd", "thousands"])
def test_names_are_kept_as_they_are(write, key, names):
    out = write(names)
    manifest = Manifest.read(out)
    assert manifest.class_names == tuple(names)
    assert manifest.classes == len(names)
    manifest.check_seal(key)
    assert (out / "manifest.json").read_bytes().isascii()
    assert Ledger.of(out).read_class_names() == list(names)
    assert len(list(open_shards(out, form="sample"))) == len(names)


def test_names_are_dropped_by_default(written):
    assert "class_names" not in json.loads((written / "manifest.json").read_bytes())
    for path in written.iterdir():
        assert not re.search(rb"\b(cat|dog|emu)\b", path.read_bytes())


def test_names_without_labels_are_refused(write):
    with pytest.raises(ValueError, match="class_names needs labels"):
        write(("a", "b"), labels=False)


def test_classes_without_names_have_none(write):
    assert Manifest.read(write(())).class_names == ()


@pytest.fixture
def value(write, key):
    """The manifest of two classes, as JSON's value, that also says it was augmented."""
    manifest = json.loads((write(("a", "b")) / "manifest.json").read_bytes())
    extra = Manifest.from_dict(manifest | {"augmentation": "flip", "copies": 4})
    return extra.sealed(key.subkey("manifest")).to_dict()


def test_extras_survive_json(value, key):
    manifest = Manifest.from_dict(json.loads(json.dumps(value)))
    manifest.check_seal(key)
    assert (manifest.class_names, manifest.augmentation, manifest.copies) == (("a", "b"), "flip", 4)


@pytest.mark.parametrize(
    "change",
    [
        {"class_names": ["a", "c"]},
        {"class_names": ["b", "a"]},
        {"augmentation": "crop:0.08"},
        {"copies": 5},
    ],
    ids=str,
)
def test_seal_covers_the_extras(value, key, change):
    with pytest.raises(ManifestError, match="altered after it was written"):
        Manifest.from_dict(value | change).check_seal(key)


@pytest.mark.parametrize("field", ["class_names", "augmentation", "copies"])
def test_seal_tells_that_an_extra_was_taken_away(value, key, field):
    del value[field]
    with pytest.raises(ManifestError, match="altered after it was written"):
        Manifest.from_dict(value).check_seal(key)


WRONG = {
    "class_names": [
        *(None, "", "ab", 2, True, {}, {"a": 1, "b": 2}, [], ["a"], ["a", "b", "c"], ["a", 1]),
        *(["a", None], ["a", ["b"]], [["a", "b"]], ["a", "\ud800"], ["\udce9", "b"]),
    ],
    "augmentation": [
        *(None, "", 1, True, [], ["flip"], {}, "flip\n", "Flip", "flip flip", "\x1b[31m", "x" * 201),
        *("ｆlip", "\ud800"),
    ],
    "copies": [None, "", "4", True, False, 0, 1, -4, 4.0, 4.5, 2**63, 10**30, [], {}],
}


@pytest.mark.parametrize(
    ("field", "wrong"),
    [(field, wrong) for field, values in WRONG.items() for wrong in values],
    ids=lambda value: ascii(value)[:20],
)
def test_malformed_extras_are_refused(value, field, wrong):
    changed = copy.deepcopy(value)
    changed[field] = wrong
    with pytest.raises(ManifestError, match="the manifest is malformed: ") as caught:
        Manifest.from_dict(changed)
    assert len(str(caught.value)) < 250


def test_names_without_classes_are_refused(value):
    with pytest.raises(ManifestError, match="class_names has 2 names for 0 classes"):
        Manifest.from_dict(value | {"labels": "none", "classes": 0})
