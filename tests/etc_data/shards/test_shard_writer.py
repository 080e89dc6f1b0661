import json
import os

import numpy as np
import pytest
from PIL import Image

from etc_data.cipher import Cipher
from etc_data.codecs import JpegCodec, PngCodec, decode
from etc_data.errors import (
    CodecError,
    EtcError,
    GeometryError,
    ImageError,
    ManifestError,
    OutputExistsError,
    SourceError,
    UnreadableImageError,
)
from etc_data.shards import ShardWriter, open_shards, verify_shards
from etc_data.shards.ledger import Ledger
from etc_data.shards.manifest import Manifest
from etc_data.sources import load_rgb


@pytest.fixture
def cipher(key):
    return Cipher("etc-16", key)


@pytest.fixture
def image(photo):
    """image(seed) gives a picture of 32×48 pixels that fits the grid."""
    return lambda seed=0: load_rgb(photo(seed, 32, 48))


def names(folder):
    return sorted(os.listdir(folder))


def test_samples_lie_in_the_order_of_the_calls(tmp_path, cipher, image, key):
    out = tmp_path / "out"
    with ShardWriter(out, cipher, codec=PngCodec(), samples_per_shard=4) as writer:
        keys = [writer.write(image(i), i % 3, item=f"scan {i}") for i in range(10)]
        assert writer.manifest is None
    assert keys == [f"train-{i:09d}" for i in range(10)]
    assert writer.manifest == Manifest.read(out) == verify_shards(out, key=key)
    assert [shard.samples for shard in writer.manifest.shards] == [4, 4, 2]
    assert (writer.manifest.labels, writer.manifest.classes) == ("keep", 3)
    for i, sample in enumerate(open_shards(out, form="sample")):
        assert (sample.key, sample.label) == (keys[i], i % 3)
        assert np.array_equal(cipher.decrypt(decode(sample.image)), np.asarray(image(i)))
    shards = [f"train-00000{i}.tar" for i in range(3)]
    assert names(out) == ["_info.json", "manifest.json", *shards, "train.wids"]
    items = [Ledger.of(out).read_items(shard.name) for shard in writer.manifest.shards]
    assert [item for shard in items for item in shard.values()] == [f"scan {i}" for i in range(10)]


def test_bytes_repeat(tmp_path, cipher, image, contents):
    for name in ("one", "two"):
        with ShardWriter(tmp_path / name, cipher, samples_per_shard=3) as writer:
            for i in range(5):
                writer.write(image(i), split="train" if i % 2 else "val")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_full_last_shard_is_followed_by_no_empty_one(tmp_path, cipher, image):
    with ShardWriter(tmp_path / "out", cipher, samples_per_shard=2) as writer:
        for i in range(4):
            writer.write(image(i))
    assert [shard.samples for shard in writer.manifest.shards] == [2, 2]


def test_every_kind_of_image_is_taken(tmp_path, cipher, photo):
    pixels = np.asarray(load_rgb(photo(0, 32, 48)))
    read_only = pixels.copy()
    read_only.setflags(write=False)
    with ShardWriter(tmp_path / "out", cipher, codec=PngCodec()) as writer:
        for given in (photo(0, 32, 48), Image.fromarray(pixels), pixels, read_only, pixels[:, ::-1]):
            writer.write(given)
    found = [cipher.decrypt(image.copy()) for image, _ in open_shards(tmp_path / "out", form="numpy")]
    for one in found[:4]:
        assert np.array_equal(one, pixels)
    assert np.array_equal(found[4], pixels[:, ::-1])


def test_size_resize_and_fit_are_applied(tmp_path, cipher, photo):
    for options, shape in [
        ({"size": 64}, (64, 64)),
        ({"size": (32, 80), "resize": "exact"}, (32, 80)),
        ({"fit": "pad"}, (64, 80)),
        ({"size": (40, 40), "fit": "crop"}, (32, 32)),
    ]:
        out = tmp_path / f"{shape[0]}x{shape[1]}"
        with ShardWriter(out, cipher, **options) as writer:
            writer.write(photo(0))
        assert [image.shape for image, _ in open_shards(out, form="numpy")] == [(*shape, 3)]


def test_splits_are_counted_apart(tmp_path, cipher, image):
    out = tmp_path / "out"
    with ShardWriter(out, cipher, samples_per_shard=2) as writer:
        keys = [
            writer.write(image(i), i, split=s) for i, s in enumerate(["b", "a", "b", "b", "a", "c_9"])
        ]
    assert keys == [
        *("b-000000000", "a-000000000", "b-000000001", "b-000000002", "a-000000001"),
        "c_9-000000000",
    ]
    assert [shard.name for shard in writer.manifest.shards] == [
        *("b-000000.tar", "b-000001.tar", "a-000000.tar", "c_9-000000.tar"),
    ]
    assert [label for _, label in open_shards(out, split="a")] == [1, 4]
    assert json.loads((out / "_info.json").read_bytes())["splits"]["b"]["num_samples"] == 3


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"size": 40}, GeometryError),
        ({"size": 0}, GeometryError),
        ({"fit": "bend"}, GeometryError),
        ({"resize": "bend"}, GeometryError),
        ({"samples_per_shard": 0}, ValueError),
    ],
)
def test_unsuitable_options_leave_nothing(tmp_path, cipher, options, error):
    with pytest.raises(error):
        ShardWriter(tmp_path / "out", cipher, **options)
    assert names(tmp_path) == []


def test_noise_is_refused_unless_it_is_asked_for(tmp_path, key, image):
    with pytest.raises(CodecError, match="noise to JPEG"):
        ShardWriter(tmp_path / "out", Cipher("pe", key))
    assert names(tmp_path) == []
    with ShardWriter(tmp_path / "out", Cipher("pe", key), allow_noise=True) as writer:
        writer.write(image())


def test_finished_data_set_is_kept_without_force(data_set, cipher, contents, image):
    before = contents(data_set)
    with pytest.raises(OutputExistsError):
        ShardWriter(data_set, cipher)
    assert contents(data_set) == before
    with ShardWriter(data_set, cipher, force=True) as writer:
        writer.write(image())
    assert verify_shards(data_set).samples == 1


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("photo.jpg", ImageError, "not str"),
        (None, ImageError, "not NoneType"),
        (np.zeros((32, 32, 3)), ImageError, "array float64"),
        (np.zeros((32, 32), np.uint8), ImageError, r"array uint8 \(32, 32\)"),
        (np.zeros((3, 32, 32), np.uint8), ImageError, r"\(3, 32, 32\)"),
        (np.zeros((2, 32, 32, 3), np.uint8), ImageError, r"\(2, 32, 32, 3\)"),
        (Image.new("L", (32, 32)), ImageError, "mode L"),
        (Image.new("RGBA", (32, 32)), ImageError, "mode RGBA"),
        (Image.new("RGB", (33, 32)), GeometryError, "width 33"),
        (b"", UnreadableImageError, "empty"),
        (b"text", UnreadableImageError, "no picture"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else None,
)
def test_bad_image_is_refused_and_the_writer_goes_on(tmp_path, cipher, image, given, error, message):
    with ShardWriter(tmp_path / "out", cipher) as writer:
        writer.write(image(0), 0)
        with pytest.raises(error, match=message):
            writer.write(given, 1)
        with pytest.raises(error, match=message):
            writer.write(given, 0, split="other")
        assert writer.write(image(1), 2) == "train-000000001"
    assert writer.manifest.samples == 2
    assert verify_shards(tmp_path / "out").classes == 3


def test_rotated_picture_is_refused_rather_than_encrypted_lying(tmp_path, cipher, image):
    lying = image()
    lying.getexif()[0x0112] = 6
    with ShardWriter(tmp_path / "out", cipher) as writer:
        with pytest.raises(ImageError, match="EXIF orientation is 6"):
            writer.write(lying)
        writer.write(image())


@pytest.mark.parametrize("split", ["", "a b", "../up", "a/b", "a-b", "trän", "x" * 65, "a\n", "a.b"])
def test_unusable_split_is_refused(tmp_path, cipher, image, split):
    with ShardWriter(tmp_path / "out", cipher) as writer:
        with pytest.raises(SourceError, match="does not match"):
            writer.write(image(), split=split)
        writer.write(image(), split="x" * 64)


@pytest.mark.parametrize("label", [-2, 1.0, "1", None, np.float32(1)])
def test_label_that_is_no_class_number_is_refused(tmp_path, cipher, image, label):
    with ShardWriter(tmp_path / "out", cipher) as writer:
        with pytest.raises(SourceError, match="is no class number"):
            writer.write(image(), label)
        writer.write(image(), np.int64(5))
    assert writer.manifest.classes == 6


@pytest.mark.parametrize("labels", [(0, -1), (-1, 0), (-1, -1, 3), (2, 2, -1)])
def test_some_labels_and_some_none_are_refused(tmp_path, cipher, image, labels):
    with ShardWriter(tmp_path / "out", cipher) as writer:
        for label in labels[:-1]:
            writer.write(image(), label)
        with pytest.raises(SourceError, match="some samples have a label and some have none"):
            writer.write(image(), labels[-1])
        with pytest.raises(SourceError, match="some samples have a label"):
            writer.write(image(), labels[-1], split="val")
    assert verify_shards(tmp_path / "out").samples == len(labels) - 1


# --- ends, good and bad -----------------------------------------------------------------------


def test_writer_can_be_closed_by_hand(tmp_path, cipher, image):
    writer = ShardWriter(tmp_path / "out", cipher)
    writer.write(image())
    assert not (tmp_path / "out" / "manifest.json").exists()
    manifest = writer.close()
    assert manifest == writer.close() == Manifest.read(tmp_path / "out")


def test_closed_writer_takes_no_more(tmp_path, cipher, image, contents):
    with ShardWriter(tmp_path / "out", cipher) as writer:
        writer.write(image())
    before = contents(tmp_path / "out")
    with pytest.raises(ValueError, match="takes no more images"):
        writer.write(image())
    assert contents(tmp_path / "out") == before


def test_writer_without_samples_gives_no_data_set(tmp_path, cipher):
    with pytest.raises(SourceError, match="no sample was written"):
        with ShardWriter(tmp_path / "out", cipher):
            pass
    assert names(tmp_path / "out") == []


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, GeneratorExit, StopIteration])
def test_error_in_the_block_leaves_no_data_set(tmp_path, cipher, image, error):
    with pytest.raises(error):
        with ShardWriter(tmp_path / "out", cipher, samples_per_shard=2) as writer:
            for i in range(3):
                writer.write(image(i))
            writer.write(image(), split="val")
            raise error("mine")
    assert names(tmp_path / "out") == ["train-000000.tar"]
    with pytest.raises(ManifestError):
        open_shards(tmp_path / "out")
    with pytest.raises(ValueError, match="takes no more images"):
        writer.write(image())
    with pytest.raises(ValueError, match="no data set to finish"):
        writer.close()


def test_error_of_the_caller_is_not_replaced(tmp_path, cipher, image):
    mine = KeyError("mine")
    with pytest.raises(KeyError) as caught:
        with ShardWriter(tmp_path / "out", cipher) as writer:
            writer.write(image())
            raise mine
    assert caught.value is mine


def test_bad_image_that_nobody_catches_leaves_no_data_set(tmp_path, cipher, image):
    with pytest.raises(UnreadableImageError):
        with ShardWriter(tmp_path / "out", cipher) as writer:
            writer.write(image())
            writer.write(b"text")
    assert names(tmp_path / "out") == []


def test_folder_that_vanishes_is_our_error(tmp_path, cipher, image):
    out = tmp_path / "out"
    with pytest.raises(EtcError, match=r"out cannot be written: No such file or directory"):
        with ShardWriter(out, cipher) as writer:
            out.rmdir()
            writer.write(image())
    with pytest.raises(ValueError):
        writer.write(image())


def test_jpeg_is_coded_as_asked(tmp_path, cipher, image):
    sizes = []
    for quality in (50, 95):
        out = tmp_path / str(quality)
        with ShardWriter(out, cipher, codec=JpegCodec(quality)) as writer:
            writer.write(image())
        sizes.append(len(next(iter(open_shards(out, form="sample"))).image))
    assert sizes[0] < sizes[1]
