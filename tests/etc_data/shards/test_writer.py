import json
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from etc_data.cipher import Cipher
from etc_data.codecs import JpegCodec, PngCodec, decode
from etc_data.errors import (
    CodecError,
    EtcError,
    GeometryError,
    OutputExistsError,
    SourceError,
    UnreadableImageError,
)
from etc_data.keys import SecretKey
from etc_data.shards import open_shards, verify_shards, write_shards
from etc_data.shards.layout import shard_count, shard_name
from etc_data.shards.ledger import Ledger
from etc_data.shards.manifest import Manifest
from etc_data.shards.samples import SampleEncoder
from etc_data.sources import ImageFolder, Item, load_rgb

TESTS = Path(__file__).resolve().parents[2]


@pytest.fixture
def cipher(key):
    return Cipher("etc-16", key)


class Memory:
    """A source in memory: {split: [(id, label, reader), …]}."""

    strays = ()

    def __init__(self, class_names=(), **splits):
        self.class_names, self._splits = tuple(class_names), splits
        self.splits = tuple(splits)

    def items(self, split):
        return [Item(*entry) for entry in self._splits[split]]


def samples_of(out, split=None):
    return list(open_shards(out, split=split, form="sample"))


# --- the same bytes ---------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_bytes_do_not_depend_on_the_number_of_workers(
    tmp_path, source, written, cipher, contents, workers
):
    summary = write_shards(
        source, tmp_path / "out", cipher, size=48, samples_per_shard=10, workers=workers
    )
    assert contents(tmp_path / "out") == contents(written)
    assert (summary.manifest.samples, summary.failures, summary.strays) == (33, (), ())
    assert summary.source_bytes == sum(path.stat().st_size for path in source.rglob("*.jpg"))
    assert summary.ledger == tmp_path / "out.ledger"
    for shard in ("train-000000", "train-000001", "train-000002", "val-000000"):
        ours, theirs = (
            folder.with_name(f"{folder.name}.ledger") / "samples" / f"{shard}.jsonl"
            for folder in (tmp_path / "out", written)
        )
        assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        {"key": SecretKey(bytes(32))},
        {"context": "another"},
        {"scheme": "ind-16"},
        {"scheme": "etc-8"},
        {"size": 64},
        {"codec": JpegCodec(94)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_other_key_or_options_give_other_shards(tmp_path, source, written, key, contents, change):
    cipher = Cipher(
        change.get("scheme", "etc-16"), change.get("key", key), context=change.get("context", "")
    )
    options = {"size": change.get("size", 48), "codec": change.get("codec")}
    write_shards(source, tmp_path / "out", cipher, samples_per_shard=10, **options)
    before, after = contents(written), contents(tmp_path / "out")
    assert before.keys() == after.keys()
    for name in before:
        if name.endswith(".tar"):
            assert before[name] != after[name]


def test_names_of_the_sources_decide_the_order_alone(tmp_path, source, written, cipher, contents):
    renamed = tmp_path / "renamed"
    for path in source.rglob("*.jpg"):
        target = renamed / path.relative_to(source).with_name(f"{9 - int(path.stem)}.jpg")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    write_shards(renamed, tmp_path / "out", cipher, size=48, samples_per_shard=10)
    ours, theirs = contents(tmp_path / "out"), contents(written)
    assert all(ours[name] != theirs[name] for name in ours if name.endswith(".tar"))

    def images(out):
        return Counter(sample.image for sample in samples_of(out))

    assert images(tmp_path / "out") == images(written)


def test_order_and_shards_are_those_of_the_format_page(written, source, reference):
    ledger = Ledger.of(written)
    manifest = Manifest.read(written)
    for split, shards in manifest.splits.items():
        ids = sorted(path.relative_to(source).as_posix() for path in (source / split).rglob("*.jpg"))
        order = reference.sample_order(bytes(range(32)), "", split, len(ids))
        for number, shard in enumerate(shards):
            first, end = reference.shard_positions(len(ids), len(shards), number)
            expected = {f"{split}-{p:09d}": ids[order[p]] for p in range(first, end)}
            assert ledger.read_items(shard.name) == expected
            assert list(ledger.read_items(shard.name)) == list(expected)


def test_members_are_sorted_adjacent_and_without_traces(written):
    for path in written.glob("*.tar"):
        with tarfile.open(path) as tar:
            headers = tar.getmembers()
        names = [header.name for header in headers]
        assert names == sorted(names)
        stem = path.name[:-11]
        assert len(names) % 3 == 0
        for i in range(0, len(names), 3):
            key = names[i].removesuffix(".cls")
            assert key.startswith(f"{stem}-") and len(key) == len(stem) + 10
            assert names[i : i + 3] == [f"{key}.cls", f"{key}.jpg", f"{key}.json"]
        for header in headers:
            assert (header.mtime, header.uid, header.gid, header.mode) == (0, 0, 0, 0o644)
            assert (header.uname, header.gname) == ("", "")
        assert path.stat().st_size % 10_240 == 0


# --- samples and labels -----------------------------------------------------------------------


@pytest.mark.parametrize("codec", [JpegCodec(), PngCodec()])
def test_every_sample_is_its_source_encrypted(tmp_path, source, cipher, codec):
    out = tmp_path / "out"
    write_shards(source, out, cipher, size=48, codec=codec)
    names = Ledger.of(out).read_class_names()
    assert names == ["cat", "dog", "emu"]
    seen = set()
    for shard in Manifest.read(out).shards:
        items = Ledger.of(out).read_items(shard.name)
        for sample in samples_of(out, shard.split):
            if sample.key not in items:
                continue
            item = items[sample.key]
            assert names[sample.label] == item.split("/")[1]
            plain = np.asarray(load_rgb(source / item).resize((61, 48), Image.Resampling.BICUBIC))
            plain = plain[:, 6:54]
            found = cipher.decrypt(decode(sample.image)).astype(int)
            assert np.abs(found - plain).mean() <= (0 if codec == PngCodec() else 2)
            seen.add(item)
    assert seen == {path.relative_to(source).as_posix() for path in source.rglob("*.jpg")}


def test_splits_share_one_numbering_of_classes(tmp_path, plant, cipher):
    plant(tmp_path / "in", "train/a/1.jpg", "train/c/1.jpg", "val/b/1.jpg", "val/c/2.jpg")
    manifest = write_shards(tmp_path / "in", tmp_path / "out", cipher, size=48).manifest
    assert (manifest.labels, manifest.classes) == ("keep", 3)
    assert {sample.label for sample in samples_of(tmp_path / "out", "train")} == {0, 2}
    assert {sample.label for sample in samples_of(tmp_path / "out", "val")} == {1, 2}


def members_of(out):
    for path in out.glob("*.tar"):
        with tarfile.open(path) as tar:
            yield from tar.getnames()


def test_flat_folder_gives_no_labels(tmp_path, plant, cipher):
    plant(tmp_path / "in", "1.jpg", "2.jpg")
    manifest = write_shards(tmp_path / "in", tmp_path / "out", cipher, size=48).manifest
    assert (manifest.labels, manifest.classes) == ("none", 0)
    assert [sample.label for sample in samples_of(tmp_path / "out")] == [-1, -1]
    assert not [name for name in members_of(tmp_path / "out") if name.endswith(".cls")]


def test_labels_can_be_left_out(tmp_path, source, cipher):
    manifest = write_shards(source, tmp_path / "out", cipher, size=48, labels=False).manifest
    assert (manifest.labels, manifest.classes) == ("none", 0)
    assert {sample.label for sample in samples_of(tmp_path / "out")} == {-1}
    assert not [name for name in members_of(tmp_path / "out") if name.endswith(".cls")]


def test_unlabeled_split_may_stand_beside_a_labeled_one(tmp_path, plant, cipher):
    plant(tmp_path / "in", "train/a/1.jpg", "train/b/1.jpg", "test/1.jpg")
    manifest = write_shards(tmp_path / "in", tmp_path / "out", cipher, size=48).manifest
    assert (manifest.labels, manifest.classes) == ("keep", 2)
    assert [sample.label for sample in samples_of(tmp_path / "out", "test")] == [-1]


def test_images_of_their_own_sizes_are_kept_so(tmp_path, photo, cipher):
    (tmp_path / "in").mkdir()
    for height, width in [(32, 32), (48, 16), (16, 80)]:
        (tmp_path / "in" / f"{height}x{width}.jpg").write_bytes(photo(height, height, width))
    manifest = write_shards(tmp_path / "in", tmp_path / "out", cipher).manifest
    assert manifest.size is None
    shapes = {decode(sample.image).shape[:2] for sample in samples_of(tmp_path / "out")}
    assert shapes == {(32, 32), (48, 16), (16, 80)}


def test_numbered_classes_without_names_are_counted(tmp_path, photo, cipher):
    one = Memory(train=[("a", 4, lambda: photo(0)), ("b", 1, lambda: photo(1))])
    manifest = write_shards(one, tmp_path / "out", cipher, size=48).manifest
    assert (manifest.labels, manifest.classes) == ("keep", 5)
    assert Manifest.read(tmp_path / "out") == manifest


def test_empty_split_gives_no_shard(tmp_path, photo, cipher):
    one = Memory(train=[("a", -1, lambda: photo(0))], val=[])
    manifest = write_shards(one, tmp_path / "out", cipher, size=48).manifest
    assert list(manifest.splits) == ["train"]
    verify_shards(tmp_path / "out")


# --- numbers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("items", "samples_per_shard", "count"),
    [
        *((1, None, 1), (127, None, 1), (128, None, 2), (1279, None, 19), (1280, None, 20)),
        *((53_480, None, 20), (53_481, None, 21), (60_000, None, 23), (1_281_167, None, 480)),
        *((1, 1, 1), (10, 3, 4), (10, 10, 1), (10, 99, 1), (0, 5, 1), (0, None, 1)),
    ],
)
def test_number_of_shards_follows_from_the_number_of_items(cipher, items, samples_per_shard, count):
    encoder = SampleEncoder(cipher, JpegCodec(), (224, 224))
    assert shard_count(items, encoder, samples_per_shard) == count


def test_shards_of_large_lossless_images_hold_fewer():
    cipher = Cipher("etc-16", SecretKey(bytes(32)))
    assert shard_count(1000, SampleEncoder(cipher, PngCodec(), (1024, 1024)), None) == 24
    assert shard_count(1000, SampleEncoder(cipher, PngCodec(), (16_384, 16_384)), None) == 1000
    assert shard_count(5120, SampleEncoder(cipher, JpegCodec(), None), None) == 20


def test_shard_names_have_six_digits():
    assert shard_name("train", 12) == "train-000012.tar"


@pytest.mark.parametrize("workers", [1, 2])
def test_progress_counts_every_item_once(tmp_path, source, cipher, workers):
    seen = []

    def start(total):
        seen.append(total)
        return seen.append

    write_shards(
        source,
        tmp_path / "out",
        cipher,
        size=48,
        samples_per_shard=4,
        workers=workers,
        progress=start,
    )
    assert seen[0] == 33
    assert sum(seen[1:]) == 33
    assert min(seen) > 0


# --- what is refused, before any work ---------------------------------------------------------


def unread(*_):
    raise AssertionError("the source was read")


@pytest.mark.parametrize(
    ("scheme", "options", "error", "message"),
    [
        ("pe", {"size": 48}, CodecError, "noise to JPEG"),
        ("shuffle-com-16", {"size": 48}, CodecError, "noise to JPEG"),
        ("etc-4", {"size": 48}, CodecError, "noise to JPEG"),
        ("etc-16", {"size": 50}, GeometryError, "50 is not a multiple of block_size 16"),
        ("etc-16", {"size": (48, 50)}, GeometryError, "width 50"),
        ("etc-16", {"size": 0}, GeometryError, "height 0"),
        ("etc-16", {"fit": "bend"}, GeometryError, "fit is 'bend'"),
        ("etc-16", {"size": 48, "resize": "bend"}, GeometryError, "resize is 'bend'"),
        ("etc-16", {"size": 48, "workers": 0}, ValueError, "workers is 0"),
        ("etc-16", {"size": 48, "samples_per_shard": 0}, ValueError, "samples_per_shard is 0"),
    ],
)
def test_unsuitable_options_are_refused_before_work(tmp_path, key, scheme, options, error, message):
    one = Memory(train=[("a", 0, unread)])
    with pytest.raises(error, match=message):
        write_shards(one, tmp_path / "out", Cipher(scheme, key), **options)
    assert list(tmp_path.iterdir()) == []


def test_noise_is_written_where_it_is_asked_for(tmp_path, source, key):
    cipher = Cipher("shuffle-com-16", key)
    write_shards(source, tmp_path / "jpeg", cipher, size=48, allow_noise=True)
    write_shards(source, tmp_path / "png", cipher, size=48, codec=PngCodec())
    assert len(samples_of(tmp_path / "jpeg")) == len(samples_of(tmp_path / "png")) == 33


class Million(Memory):
    """A source of a million items and one more, none of which may be asked for."""

    splits = ("train",)

    def __init__(self):
        pass

    def items(self, split):
        return range(1_000_001)


@pytest.mark.parametrize(
    ("one", "error", "message"),
    [
        (Memory(), SourceError, "the source holds no image"),
        (Memory(train=[], val=[]), SourceError, "the source holds no image"),
        (Memory(**{"../up": [("a", 0, unread)]}), SourceError, r"split '\.\./up' does not match"),
        (Memory(**{"my split": [("a", 0, unread)]}), SourceError, "split 'my split'"),
        (Memory(**{"trän": [("a", 0, unread)]}), SourceError, "split 'trän'"),
        (Million(), ValueError, "more than 1000000 shards"),
    ],
    ids=["no split", "no item", "path", "space", "not ASCII", "too many shards"],
)
def test_unusable_source_is_refused_before_work(tmp_path, cipher, one, error, message):
    with pytest.raises(error, match=message):
        write_shards(one, tmp_path / "out", cipher, size=48, samples_per_shard=1)
    assert list(tmp_path.iterdir()) == []


def test_missing_source_leaves_nothing(tmp_path, cipher):
    with pytest.raises(SourceError, match="does not exist"):
        write_shards(tmp_path / "nowhere", tmp_path / "out", cipher, size=48)
    assert list(tmp_path.iterdir()) == []


def test_finished_data_set_is_kept_without_force(data_set, source, cipher, contents):
    before = contents(data_set)
    with pytest.raises(OutputExistsError, match="not empty"):
        write_shards(source, data_set, cipher, size=48)
    assert contents(data_set) == before


def test_force_replaces_the_data_set(data_set, source, key, contents, tmp_path):
    cipher = Cipher("ind-16", key)
    write_shards(source, data_set, cipher, size=64, samples_per_shard=20, force=True)
    write_shards(source, tmp_path / "fresh", cipher, size=64, samples_per_shard=20)
    assert contents(data_set) == contents(tmp_path / "fresh")


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("as_object", [False, True])
def test_data_set_inside_its_source_is_refused(tmp_path, plant, cipher, force, as_object):
    folder = plant(tmp_path / "in", "a/1.jpg")
    one = ImageFolder(folder) if as_object else str(folder)
    for out in (folder, folder / "out", tmp_path):
        with pytest.raises(SourceError, match="overlap"):
            write_shards(one, out, cipher, size=48, force=force)
    assert [path.name for path in tmp_path.rglob("*")] == ["in", "a", "1.jpg"]


def test_folder_that_cannot_be_made_is_our_error(tmp_path, source, cipher):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(EtcError, match="cannot be written"):
        write_shards(source, tmp_path / "file" / "out", cipher, size=48)


def test_item_that_vanishes_is_a_failure(tmp_path, photo, cipher):
    def gone():
        raise UnreadableImageError("the file cannot be read: it is gone")

    one = Memory(train=[("a", -1, lambda: photo(0)), ("b", -1, gone)])
    summary = write_shards(one, tmp_path / "out", cipher, size=48, skip_bad=True)
    assert [(f.item, f.reason) for f in summary.failures] == [
        ("b", "the file cannot be read: it is gone")
    ]


def test_run_is_recorded_for_the_owner(written):
    record = json.loads((written.with_name("out.ledger") / "run.json").read_bytes())
    assert (record["samples"], record["workers"], record["failures"]) == (33, 1, 0)
    assert record["bytes"] == Manifest.read(written).total_bytes
