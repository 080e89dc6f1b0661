"""Several data sets, read as one."""

import importlib.util
import shutil
from collections import Counter
from operator import attrgetter
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from etc_data.cipher import Cipher
from etc_data.errors import DamagedShardError, ManifestError, WrongKeyError
from etc_data.keys import SecretKey
from etc_data.shards import Manifest, ShardCache, open_shards, write_shards

_spec = importlib.util.spec_from_file_location("servers", Path(__file__).with_name("servers.py"))
servers = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(servers)
http_server = servers.http_server


@pytest.fixture(scope="module")
def other_source(tmp_path_factory, photo):
    """Eleven photos more, one split."""
    folder = tmp_path_factory.mktemp("other") / "train" / "cat"
    folder.mkdir(parents=True)
    for number in range(11):
        (folder / f"{number}.jpg").write_bytes(photo(500 + number))
    return folder.parent.parent


@pytest.fixture(scope="module")
def write(tmp_path_factory, other_source, key):
    """write(scheme="etc-16", …) encrypts the photos and returns the data set."""

    def make(scheme="etc-16", key=key, key_scope="dataset", context="", **options):
        out = tmp_path_factory.mktemp("several") / "out"
        cipher = Cipher(scheme, key, key_scope=key_scope, context=context)
        write_shards(other_source, out, cipher, size=48, samples_per_shard=4, **options)
        return out

    return make


@pytest.fixture(scope="module")
def other(write):
    """A data set of three shards, whose names are those of `written` too."""
    return write()


def images(data) -> list[bytes]:
    return [sample.image for sample in data]


def test_samples_come_one_set_after_the_other(written, other):
    both = open_shards([written, str(other)], form="sample")
    one, two = (images(open_shards(folder, form="sample")) for folder in (written, other))
    assert images(both) == one + two
    assert len(both) == both.samples == 44
    assert both.manifests == (Manifest.read(written), Manifest.read(other))
    assert images(open_shards((other, written), form="sample")) == two + one


def test_a_list_of_one_is_that_one(written):
    one = open_shards([written])
    assert one.manifest == one.manifests[0] == Manifest.read(written)
    assert one.samples == 33


def test_several_have_no_single_manifest(written, other):
    with pytest.raises(ValueError, match="there are 2 data sets: ask for manifests"):
        _ = open_shards([written, other]).manifest


def test_shuffled_samples_come_from_all_sets_and_all_once(written, other):
    both = open_shards([written, other], shuffle=True, seed=1, form="sample", batch_size=4)
    expected = Counter(images(open_shards([written, other], form="sample")))
    for workers in (0, 2):
        loader = DataLoader(both, batch_size=4, num_workers=workers, collate_fn=list)
        batches = [images(batch) for batch in loader]
        assert len(batches) == len(loader) == 11
        assert Counter(image for batch in batches for image in batch) == expected
    first = set(images(open_shards(written, form="sample")))
    owners = [image in first for image in images(both)]
    assert owners != sorted(owners) != owners[::-1]


def test_each_set_must_have_the_split(written, other):
    assert open_shards([written, other], split="train").samples == 27 + 11
    with pytest.raises(ManifestError, match=f"there is no split 'val' in {other}; there are train"):
        open_shards([written, other], split="val")


def test_repr_names_every_set(written, other, key):
    text = repr(open_shards([written, other]))
    assert str(written) in text and str(other) in text and text.count(key.id) == 2
    assert "44 samples in 7 shards" in text


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"key": SecretKey(bytes(32))}, r"key_id '[0-9a-f]{16}' and '[0-9a-f]{16}'$"),
        ({"scheme": "ind-16"}, r"scheme 'etc-16 = scramble.*' and 'ind-16 = rotate"),
        ({"key_scope": "image"}, r"key_scope 'dataset' and 'image'$"),
        ({"context": "two"}, r"context '' and 'two'$"),
    ],
)
def test_sets_encrypted_differently_are_mixed_only_if_asked_for(written, write, options, what):
    different = write(**options)
    with pytest.raises(ManifestError) as raised:
        open_shards([written, different])
    assert str(raised.value).startswith(f"{written} and {different} are encrypted differently: ")
    assert raised.match(what)
    assert raised.value.hint == "pass mixed=True if one model is to see both"
    mixed = open_shards([written, different], mixed=True)
    assert len(list(mixed)) == mixed.samples == 44


def test_every_difference_is_named(written, write):
    different = write(scheme="com-16", key=SecretKey(bytes(32)), context="two")
    with pytest.raises(ManifestError, match=r"key_id .*, scheme .*, context "):
        open_shards([written, different])


def test_sets_with_and_without_labels_are_never_mixed(written, write):
    unlabeled = write(labels=False)
    for mixed in (False, True):
        with pytest.raises(ManifestError, match=f"{written} has labels 'keep', {unlabeled} has 'none'"):
            open_shards([written, unlabeled], mixed=mixed)


def test_the_same_samples_twice_are_refused(written, other, tmp_path):
    copy = shutil.copytree(written, tmp_path / "copy")
    for second in (written, copy):
        with pytest.raises(
            ManifestError, match=f"{written} and {second} hold the same samples: shard train-000000.tar"
        ):
            open_shards([written, other, second], mixed=True)


def test_an_empty_list_is_refused():
    with pytest.raises(ValueError, match="the list of data sets is empty"):
        open_shards([])


def test_the_seal_of_every_set_is_checked(written, write, tmp_path, key):
    open_shards([written, write(context="x")], key=key, mixed=True)
    with pytest.raises(WrongKeyError):
        open_shards([written, write(key=SecretKey(bytes(32)))], key=key, mixed=True)
    altered = shutil.copytree(write(), tmp_path / "altered")
    text = (altered / "manifest.json").read_text()
    (altered / "manifest.json").write_text(text.replace('"classes": 1', '"classes": 2'))
    with pytest.raises(ManifestError, match="altered after it was written"):
        open_shards([written, altered], key=key)


@pytest.mark.parametrize("damage", ["flip", "remove", "garbage"])
def test_damage_names_the_set(written, other, tmp_path, damage):
    copy = shutil.copytree(other, tmp_path / "copy")
    path = copy / "train-000001.tar"
    data = bytearray(path.read_bytes())
    if damage == "remove":
        path.unlink()
    else:
        start = data.index(b"\xff\xd8\xff")
        data[start : start + 3] = b"bad"
        path.write_bytes(data)
    both = open_shards([written, copy], verify=damage != "garbage")
    seen = 0
    with pytest.raises(DamagedShardError, match=rf"^{copy}: shard train-000001\.tar.*(is|was|cannot)"):
        for _ in both:
            seen += 1
    assert seen == 33 + Manifest.read(other).shards[0].samples


def test_local_and_remote_sets_are_read_as_one(http_server, written, other, tmp_path, monkeypatch):
    servers.forget_settings(monkeypatch, tmp_path)
    shutil.copytree(other, http_server.root / "other")
    cache = ShardCache(tmp_path / "cache")
    options = {"shuffle": True, "seed": 2, "form": "sample", "transform": attrgetter("image")}
    both = open_shards([written, f"{http_server.url}/other"], cache=cache, **options)
    assert list(both) == list(open_shards([written, other], **options))
    assert len(list((tmp_path / "cache").glob("*.tar"))) == 3
    with pytest.raises(ManifestError, match="hold the same samples"):
        open_shards([other, f"{http_server.url}/other"], cache=cache)


def test_batches_hold_images_of_both(written, other):
    loader = DataLoader(open_shards([written, other], shuffle=True), batch_size=44)
    pixels, labels = next(iter(loader))
    assert pixels.shape == (44, 3, 48, 48) and pixels.dtype == torch.uint8
    assert len(labels) == 44
