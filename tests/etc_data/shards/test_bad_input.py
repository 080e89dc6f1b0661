"""Photos that cannot be taken: named for the owner, never taken half, never silently dropped."""

import io
import json
import pickle

import numpy as np
import pytest
from PIL import Image

from etc_data.cipher import Cipher
from etc_data.codecs import PngCodec, decode
from etc_data.errors import GeometryError, SourceError
from etc_data.shards import SkippedItemsError, open_shards, verify_shards, write_shards
from etc_data.shards.ledger import Ledger
from etc_data.shards.manifest import Manifest
from etc_data.sources import load_rgb


def saved(image: Image.Image, name: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


@pytest.fixture
def cipher(key):
    return Cipher("etc-16", key)


@pytest.fixture
def mixed(tmp_path, plant, photo):
    """Good photos of every kind, and bad ones."""
    folder = plant(tmp_path / "in", "a/good.jpg", "b/good.jpg", "b/fine.jpg")
    rgb = Image.open(io.BytesIO(photo(5)))
    gray = np.linspace(0, 65_535, 64 * 64).reshape(64, 64).astype(np.uint16)
    files = {
        "a/cmyk.jpg": saved(rgb.convert("CMYK"), "JPEG"),
        "a/gray.png": saved(Image.fromarray(gray), "PNG"),
        "a/palette.gif": saved(rgb.quantize(32), "GIF"),
        "b/alpha.webp": saved(rgb.convert("RGBA"), "WEBP"),
        "b/bilevel.png": saved(rgb.convert("1"), "PNG"),
        "a/cut.jpg": photo(6)[:-900],
        "a/empty.jpg": b"",
        "a/text.jpg": b"Dear Sir or Madam,\n",
        "b/cut.png": saved(rgb, "PNG")[:-10],
        "b/several.tiff": saved(rgb, "TIFF", save_all=True, append_images=[rgb]),
        "b/thin.png": saved(Image.new("RGB", (100_000, 2)), "PNG"),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / "notes.txt").write_text("not a picture")
    return folder


GOOD = ["a/cmyk.jpg", "a/good.jpg", "a/gray.png", "a/palette.gif"]
GOOD += ["b/alpha.webp", "b/bilevel.png", "b/fine.jpg", "b/good.jpg"]
BAD = ["a/cut.jpg", "a/empty.jpg", "a/text.jpg", "b/cut.png", "b/several.tiff", "b/thin.png"]


def rows(out, name):
    text = (out.with_name(f"{out.name}.ledger") / name).read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("workers", [1, 2])
def test_skipped_items_are_named_and_the_rest_is_written(tmp_path, mixed, cipher, workers):
    out = tmp_path / "out"
    with pytest.raises(SkippedItemsError, match="6 of 14 images could not be taken") as caught:
        write_shards(mixed, out, cipher, size=48, workers=workers, samples_per_shard=4)
    assert "the first: a/cut.jpg: cannot be read: " in str(caught.value)
    assert "failures.jsonl lists all" in caught.value.hint
    summary = caught.value.summary
    assert [failure.item for failure in summary.failures] == BAD
    assert [(stray.id, stray.reason) for stray in summary.strays] == [
        ("notes.txt", "has no extension of a picture")
    ]
    assert summary.manifest == verify_shards(out, key=cipher._key)
    assert summary.manifest.samples == 8


def test_reasons_are_listed_for_the_owner(tmp_path, mixed, cipher):
    out = tmp_path / "out"
    write_shards(mixed, out, cipher, size=48, skip_bad=True)
    listed = rows(out, "failures.jsonl")
    assert [row["item"] for row in listed if row["kind"] == "failure"] == BAD
    assert [row["item"] for row in listed if row["kind"] == "stray"] == ["notes.txt"]
    reasons = {row["item"]: row["reason"] for row in listed}
    assert reasons["a/empty.jpg"] == "the file is empty"
    assert "truncated" in reasons["a/cut.jpg"]
    assert "cut short" in reasons["b/cut.png"]
    assert "no picture of a format that Pillow reads" in reasons["a/text.jpg"]
    assert "2 frames or pages" in reasons["b/several.tiff"]
    assert "crop it to a less narrow shape first" in reasons["b/thin.png"]
    assert not any(str(tmp_path) in reason for reason in reasons.values())


def test_good_pictures_of_every_kind_come_back(tmp_path, mixed, cipher):
    out = tmp_path / "out"
    summary = write_shards(mixed, out, cipher, size=48, codec=PngCodec(), skip_bad=True)
    assert len(summary.failures) == 6
    items = Ledger.of(out).read_items("train-000000.tar")
    assert sorted(items.values()) == GOOD
    for sample in open_shards(out, form="sample"):
        plain = load_rgb(mixed / items[sample.key])
        scaled = plain.resize((plain.width * 48 // plain.height, 48), Image.Resampling.BICUBIC)
        left = round((scaled.width - 48) / 2)
        expected = np.asarray(scaled.crop((left, 0, left + 48, 48)))
        assert np.array_equal(cipher.decrypt(decode(sample.image)), expected)


def test_positions_of_bad_items_are_left_out(tmp_path, mixed, cipher):
    out = tmp_path / "out"
    write_shards(mixed, out, cipher, size=48, skip_bad=True)
    keys = [sample.key for sample in open_shards(out, form="sample")]
    positions = [int(key.removeprefix("train-")) for key in keys]
    assert positions == sorted(positions)
    assert len(positions) == 8 and set(positions) < set(range(14))


def test_shard_without_any_good_item_is_not_published(tmp_path, plant, cipher):
    folder = plant(tmp_path / "in", *(f"{i}.jpg" for i in range(6)))
    for i in range(5):
        (folder / f"{i}.jpg").write_bytes(b"text")
    out = tmp_path / "out"
    write_shards(folder, out, cipher, size=48, samples_per_shard=1, skip_bad=True)
    manifest = verify_shards(out)
    assert len(manifest.shards) == 1
    assert [path.name for path in out.glob("*.tar")] == [manifest.shards[0].name]
    assert len(list(open_shards(out))) == 1
    samples = out.with_name("out.ledger") / "samples"
    listed = [path.stem for path in samples.iterdir() if path.read_bytes()]
    assert listed == [manifest.shards[0].name[:-4]]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("skip_bad", [False, True])
def test_source_without_any_good_item_gives_no_data_set(tmp_path, cipher, workers, skip_bad):
    (tmp_path / "in").mkdir()
    for i in range(3):
        (tmp_path / "in" / f"{i}.jpg").write_bytes(b"text")
    out = tmp_path / "out"
    with pytest.raises(SourceError, match=r"none of the 3 images could be taken: 0\.jpg: .*; 2\.jpg: "):
        write_shards(tmp_path / "in", out, cipher, size=48, workers=workers, skip_bad=skip_bad)
    # Nothing is left behind that would stand in the way of the next try.
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_images_of_mixed_sizes_without_a_size_are_refused_before_work(tmp_path, photo, cipher):
    (tmp_path / "in").mkdir()
    for height, width in [(33, 32), (50, 37), (8, 8)]:
        (tmp_path / "in" / f"{height}x{width}.jpg").write_bytes(photo(0, height, width))
    with pytest.raises(GeometryError, match=r"33x32\.jpg: image height 33 is not a multiple") as caught:
        write_shards(tmp_path / "in", tmp_path / "out", cipher)
    assert "--size" in caught.value.hint
    assert "--fit" in caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_images_that_do_not_fit_the_grid_are_failures(tmp_path, photo, cipher):
    (tmp_path / "in").mkdir()
    for height, width in [(32, 32), (33, 32), (8, 8)]:
        (tmp_path / "in" / f"{height}x{width}.jpg").write_bytes(photo(0, height, width))
    summary = write_shards(tmp_path / "in", tmp_path / "out", cipher, skip_bad=True)
    assert {failure.item: failure.reason.partition(";")[0] for failure in summary.failures} == {
        "33x32.jpg": "image height 33 is not a multiple of block_size 16",
        "8x8.jpg": "image height 8 is not a multiple of block_size 16",
    }
    for fit, shapes in [
        ("pad", {(32, 32), (48, 32), (16, 16)}),
        ("resize", {(32, 32), (16, 16)}),
        ("crop", {(32, 32)}),
    ]:
        out = tmp_path / fit
        write_shards(tmp_path / "in", out, cipher, fit=fit, skip_bad=True)
        found = {decode(sample.image).shape[:2] for sample in open_shards(out, form="sample")}
        assert found == shapes


def test_image_too_large_for_jpeg_is_a_failure(tmp_path, photo, cipher):
    (tmp_path / "in").mkdir()
    Image.new("RGB", (65_520, 16)).save(tmp_path / "in" / "long.png")
    (tmp_path / "in" / "good.jpg").write_bytes(photo(0, 32, 32))
    summary = write_shards(tmp_path / "in", tmp_path / "out", cipher, skip_bad=True)
    assert [failure.item for failure in summary.failures] == ["long.png"]
    assert Manifest.read(tmp_path / "out").samples == 1


def test_skipped_items_cross_process_borders():
    error = pickle.loads(pickle.dumps(SkippedItemsError("2 of 3", "see there")))
    assert (str(error), error.hint) == ("2 of 3", "see there")
