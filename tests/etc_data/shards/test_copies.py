"""Augmented copies: real photos through the real command, against a second implementation."""

import hashlib
import importlib.util
import json
import random
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset
from PIL import Image

import etc_data.torchvision_cpu  # noqa: F401
from etc_data.augmentation import Augmentation
from etc_data.cipher import Cipher
from etc_data.codecs import JpegCodec, PngCodec, codec_from_dict, decode
from etc_data.errors import AugmentationError
from etc_data.fitting import prepare_image
from etc_data.keys import SecretKey
from etc_data.schemes import PRESET_NAMES, Scheme
from etc_data.shards import decrypt_shards, open_shards, verify_shards, write_shards
from etc_data.shards.layout import sample_order
from etc_data.shards.ledger import Ledger
from etc_data.shards.manifest import Manifest
from etc_data.shards.samples import SampleEncoder
from etc_data.sources import load_rgb

# isort: split
from torchvision.transforms import v2

SECRET = bytes(range(32))
TESTS = Path(__file__).resolve().parents[2]
COPIES = 3


def load_reference():
    path = TESTS / "reference" / "etc_reference.py"
    spec = importlib.util.spec_from_file_location("etc_reference", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reference = load_reference()
vectors = json.loads((TESTS / "vectors" / "augmentation.json").read_text("ascii"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory, pictures):
    """Twelve real photos of three classes to train on, and three to validate."""
    root = tmp_path_factory.mktemp("photos")
    for split, count in (("train", 4), ("val", 1)):
        for folder in sorted((pictures / "imagenette224" / split).iterdir())[:3]:
            target = root / split / folder.name
            target.mkdir(parents=True)
            for path in sorted(folder.iterdir())[:count]:
                shutil.copy(path, target)
    return root


@pytest.fixture(scope="module")
def run(tmp_path_factory, environment, photos):
    """run("name", "--option", …) encrypts the photos with the real command and returns the folder."""
    folder = tmp_path_factory.mktemp("runs")
    SecretKey(SECRET).save(folder / "key")

    def encrypt(name, *options):
        arguments = ["encrypt", photos, folder / name, "--key", folder / "key", "--size", 64]
        arguments += ["--lossless", "--samples-per-shard", 10, *options]
        command = [sys.executable, "-m", "etc_data.cli.main", *map(str, arguments)]
        subprocess.run(command, env=environment, check=True, capture_output=True)
        return folder / name

    return encrypt


@pytest.fixture(scope="module")
def write(tmp_path_factory, photos):
    """write("name", …) encrypts the photos as `run` does, in this process."""
    folder = tmp_path_factory.mktemp("written")

    def encrypt(name, key_scope="dataset", **options):
        cipher = Cipher("etc-16", SecretKey(SECRET), key_scope=key_scope)
        options |= {"size": 64, "codec": PngCodec(), "samples_per_shard": 10}
        write_shards(photos, folder / name, cipher, **options)
        return folder / name

    return encrypt


@pytest.fixture(scope="module")
def augmented(run):
    return run("augmented", "--augment", "crop:0.35+flip+color", "--copies", COPIES)


@pytest.fixture(scope="module")
def turned(write):
    """Copies in image scope."""
    return write("turned", "image", augment="flip", copies=4)


def samples_of(out, split="train"):
    return list(open_shards(out, split=split, form="sample"))


def items_of(out):
    """Sample key → id of its item."""
    found = {}
    for shard in Manifest.read(out).shards:
        found |= Ledger.of(out).read_items(shard.name)
    return found


def decrypted(out, split="train"):
    cipher = Manifest.read(out).cipher(SecretKey(SECRET))
    for sample in samples_of(out, split):
        yield sample, cipher.decrypt(decode(sample.image), nonce=sample.nonce())


def copy_numbers(out):
    """Sample key → (item, copy) of the split train, from the secret order alone."""
    ids = sorted({item for item in items_of(out).values() if item.startswith("train/")})
    copies = Manifest.read(out).copies
    order = reference.sample_order(SECRET, "", "train", len(ids) * copies)
    places = (reference.item_and_copy(index, copies) for index in order)
    return {f"train-{k:09d}": (ids[item], copy) for k, (item, copy) in enumerate(places)}


# --- what is written --------------------------------------------------------------------------


def test_two_workers_write_the_same_bytes(run, augmented, contents):
    again = run("again", "--augment", "crop:.35+flip+color:0.4", "--copies", COPIES, "--workers", 2)
    assert contents(again) == contents(augmented)


def test_every_photo_of_train_becomes_so_many_samples(augmented, photos):
    counts = Counter(items_of(augmented).values())
    assert len(counts) == 15
    for item, count in counts.items():
        assert count == (COPIES if item.startswith("train/") else 1)
    verify_shards(augmented, key=SecretKey(SECRET))
    manifest = Manifest.read(augmented)
    assert (manifest.samples, manifest.copies) == (12 * COPIES + 3, COPIES)
    assert manifest.augmentation == "crop:0.35+flip+color:0.4"


def test_copies_are_what_torchvision_makes_of_the_photo_with_the_documented_seed(augmented, photos):
    crop = v2.RandomResizedCrop(64, scale=(0.35, 1), interpolation=v2.InterpolationMode.BICUBIC)
    chain = v2.Compose([crop, v2.RandomHorizontalFlip(), v2.ColorJitter(0.4, 0.4, 0.4)])
    names = Ledger.of(augmented).read_class_names()
    items = items_of(augmented)
    places = copy_numbers(augmented)
    seen = []
    for sample, pixels in decrypted(augmented):
        item, copy = places[sample.key]
        assert items[sample.key] == item
        assert names[sample.label] == item.split("/")[1]
        data = (photos / item).read_bytes()
        random.seed(reference.augmentation_seed(SECRET, hashlib.sha256(data).digest(), copy))
        np.random.seed(random.getrandbits(32))  # noqa: NPY002
        torch.manual_seed(random.getrandbits(32))
        assert np.array_equal(pixels, np.asarray(chain(load_rgb(data))))
        seen.append(pixels.tobytes())
    assert len(set(seen)) == 12 * COPIES


def test_other_splits_are_as_they_were(write, augmented, contents):
    plain = contents(write("plain"))
    for name, content in contents(augmented).items():
        if name.startswith("val"):
            assert plain[name] == content
    for _, pixels in decrypted(augmented, "val"):
        assert pixels.shape == (64, 64, 3)


def test_other_splits_keep_their_pixels_in_image_scope(write, turned):
    plain = write("plain image", "image")
    for (one, pixels), (other, same) in zip(
        decrypted(turned, "val"), decrypted(plain, "val"), strict=True
    ):
        assert (one.key, one.label) == (other.key, other.label)
        assert np.array_equal(pixels, same)
        assert one.nonce() != other.nonce()  # of which the recipe is a part


def test_samples_do_not_tell_which_copy_they_are(augmented, turned):
    for out in (augmented, turned):
        infos = [json.loads(sample.info) for sample in samples_of(out)]
        assert {info["copy"] for info in infos} == {0}
        assert len({json.dumps(info | {"nonce": ""}) for info in infos}) == 1


def test_position_does_not_tell_which_samples_show_one_photo(augmented):
    items = items_of(augmented)
    shown = [items[sample.key] for sample in samples_of(augmented)]
    neighbors = sum(one == other for one, other in zip(shown[1:], shown, strict=False))
    assert neighbors < 8  # by chance 2; in the order of the source 24
    shards = [
        set(Ledger.of(augmented).read_items(s.name).values())
        for s in Manifest.read(augmented).splits["train"]
    ]
    assert any(one & other for one, other in zip(shards[1:], shards, strict=False))


def test_file_that_is_there_twice_is_augmented_in_one_way(tmp_path, photos, key):
    file = next(photos.rglob("*.JPEG"))
    for name in ("a/1.jpg", "b/2.jpg", "a/3.jpg"):
        (tmp_path / "in/train" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, tmp_path / "in/train" / name)
    options = {"size": 64, "codec": PngCodec(), "augment": "crop+color"}
    write_shards(tmp_path / "in", tmp_path / "out", Cipher("etc-16", key, key_scope="image"), **options)
    (plain,) = {pixels.tobytes() for _, pixels in decrypted(tmp_path / "out")}
    assert len({sample.image for sample in samples_of(tmp_path / "out")}) == 3
    # Nor do another quality, context or scheme give the photo another crop.
    cipher = Cipher("ind-16", key, context="again", key_scope="image")
    write_shards(tmp_path / "in", tmp_path / "other", cipher, **options | {"codec": PngCodec(1)})
    assert {pixels.tobytes() for _, pixels in decrypted(tmp_path / "other")} == {plain}


# --- who reads them ---------------------------------------------------------------------------


def test_decrypted_copies_lie_beside_each_other(tmp_path, turned, photos):
    summary = decrypt_shards(turned, tmp_path / "out", SecretKey(SECRET))
    assert (summary.images, summary.named_by_ledger) == (12 * 4 + 3, True)
    for path in (photos / "train").rglob("*.*"):
        found = list((tmp_path / "out" / path.relative_to(photos).parent).glob(f"{path.name}*.png"))
        assert len(found) == 4
        plain = np.asarray(prepare_image(load_rgb(path), 16, size=(64, 64)))
        for file in found:
            pixels = np.asarray(Image.open(file))
            assert np.array_equal(pixels, plain) or np.array_equal(pixels, plain[:, ::-1])


def test_webdataset_and_timm_read_copies(augmented):
    from timm.data import create_dataset

    urls = [str(augmented / shard.name) for shard in Manifest.read(augmented).splits["train"]]
    found = Counter(sample["__key__"] for sample in webdataset.WebDataset(urls, shardshuffle=False))
    assert found == Counter({f"train-{number:09d}": 1 for number in range(12 * COPIES)})
    data = create_dataset("wds/", root=str(augmented), split="train", is_training=False)
    assert len(data) == 12 * COPIES
    assert Counter(label for _, label in data) == Counter(dict.fromkeys(range(3), 4 * COPIES))


# --- image scope: copies show each other nothing ----------------------------------------------


def encoder(recipe, copies=2, scheme="etc-16", key_scope="image", **options):
    options = {"codec": PngCodec(), "size": (64, 64)} | options
    augmentation = None if recipe is None else Augmentation(recipe)
    cipher = Cipher(scheme, SecretKey(SECRET), key_scope=key_scope)
    return SampleEncoder(cipher, augmentation=augmentation, copies=copies, **options)


@pytest.mark.parametrize(
    "recipe",
    [
        *("crop", "shift", "color", "randaugment", "trivialaugment", "rand-m9"),
        *("crop+flip", "flip+shift", "flip+color", "color+flip", "flip+rand-m9-mstd0.5"),
    ],
)
def test_copies_of_other_blocks_are_refused_in_image_scope(recipe):
    with pytest.raises(AugmentationError, match="must be made of the same blocks, which") as caught:
        encoder(recipe).check()
    assert "use flip alone" in caught.value.hint
    encoder(recipe, copies=1).check()
    encoder(recipe, key_scope="dataset").check()


def test_equal_copies_are_refused_in_dataset_scope_alone():
    with pytest.raises(AugmentationError, match="2 copies of each image would be equal"):
        encoder(None, key_scope="dataset").check()
    encoder(None).check()


@pytest.mark.parametrize(("recipe", "outcomes"), [("flip", 2), ("flip+flip", 2), ("shift:1", 9)])
def test_more_copies_than_there_can_be_are_refused_in_dataset_scope_alone(recipe, outcomes):
    encoder(recipe, outcomes, key_scope="dataset").check()
    with pytest.raises(
        AugmentationError,
        match=f"at most {outcomes} different images of one, so some of {outcomes + 1}",
    ) as caught:
        encoder(recipe, outcomes + 1, key_scope="dataset").check()
    assert f"make {outcomes} copies" in caught.value.hint
    encoder("flip", 9).check()  # in image scope each of them is encrypted in its own way


@pytest.mark.parametrize("key_scope", ["dataset", "image"])
def test_flipped_copies_come_in_pairs(key_scope):
    one = encoder("flip", 4, key_scope=key_scope)
    mirrored = []
    for number in range(40):
        image = Image.fromarray(np.random.default_rng(number).integers(0, 256, (64, 64, 3), np.uint8))
        source = hashlib.sha256(image.tobytes()).digest()
        copies = [np.asarray(one.plain_copy(image, "train", source, copy)) for copy in range(4)]
        for pair in (0, 2):
            random.seed(reference.augmentation_seed(SECRET, source, pair))
            random.getrandbits(32)
            torch.manual_seed(random.getrandbits(32))
            assert np.array_equal(copies[pair], np.asarray(v2.RandomHorizontalFlip()(image)))
            assert np.array_equal(copies[pair + 1], copies[pair][:, ::-1])
        mirrored.append(not np.array_equal(copies[0], np.asarray(image)))
    assert 8 < sum(mirrored) < 32


@pytest.mark.parametrize("copies", [0, -1, 10_001])
def test_number_of_copies_is_bounded(copies):
    with pytest.raises(AugmentationError, match=f"copies is {copies}; it must be from 1 to 10000"):
        encoder("crop", copies, key_scope="dataset").check()


def test_crop_needs_a_size():
    with pytest.raises(AugmentationError, match="crop needs a size"):
        encoder("crop", 1, size=None, fit="pad").check()
    encoder("flip", 2, size=None, fit="pad").check()


def test_source_without_the_split_train_is_refused(tmp_path, photos, key):
    shutil.copytree(photos / "val", tmp_path / "in" / "val")
    with pytest.raises(AugmentationError, match="only the split train is augmented and copied"):
        write_shards(tmp_path / "in", tmp_path / "out", Cipher("etc-16", key), size=64, augment="flip")
    assert not (tmp_path / "out").exists()


def blocks_up_to_turning(pixels, block_size):
    """The blocks of an image, each as the first of its eight orientations, counted."""
    height, width = pixels.shape[:2]
    counted = Counter()
    for top in range(0, height, block_size):
        for left in range(0, width, block_size):
            block = pixels[top : top + block_size, left : left + block_size]
            turns = [np.rot90(block, k) for k in range(4)]
            counted[min(turn.tobytes() for t in turns for turn in (t, t[:, ::-1]))] += 1
    return counted


@pytest.mark.parametrize("scheme", [name for name in PRESET_NAMES if name != "pe"])
@pytest.mark.parametrize(
    "options",
    [
        {"size": (64, 96)},
        {"size": None, "fit": "pad"},
        {"size": None, "fit": "crop"},
        {"size": None, "fit": "resize"},
        {"size": (50, 77), "fit": "pad"},
        {"size": (50, 77), "fit": "crop"},
        {"size": (50, 77), "fit": "resize", "resize": "exact"},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_all_copies_are_made_of_the_same_blocks(photo, scheme, options):
    data = photo(1, 61, 107)
    block_size = Scheme.preset(scheme).block_size
    one = encoder("flip", 8, scheme, **options)
    one.check()
    plain = np.asarray(
        prepare_image(
            load_rgb(data),
            block_size,
            size=options["size"],
            resize=options.get("resize", "crop"),
            fit=options.get("fit"),
        )
    )
    found = set()
    for copy in range(8):
        content = dict(one.encode_file(data, 0, "train", copy, copy))
        nonce = bytes.fromhex(json.loads(content[f"train-{copy:09d}.json"])["nonce"])
        pixels = one.cipher.decrypt(decode(content[f"train-{copy:09d}.png"]), nonce=nonce)
        is_flipped = np.array_equal(pixels, plain[:, ::-1])
        # Padding on the right goes to the left, but by whole blocks: none is cut elsewhere.
        assert is_flipped or np.array_equal(pixels, plain)
        assert blocks_up_to_turning(pixels, block_size) == blocks_up_to_turning(plain, block_size)
        found.add(is_flipped)
    assert found == {False, True}


def test_flipped_copies_have_nothing_in_common_but_their_blocks(turned):
    items = items_of(turned)
    by_item = {}
    for sample in samples_of(turned):
        by_item.setdefault(items[sample.key], []).append(sample)
    assert len({sample.nonce() for sample in samples_of(turned)}) == 48
    for samples in by_item.values():
        first, *others = (decode(sample.image).astype(int) for sample in samples)
        for other in others:
            assert np.mean(first != other) > 0.5


# --- fixed vectors ----------------------------------------------------------------------------


@pytest.mark.parametrize("entry", vectors["seeds"], ids=range(12))
def test_seed_matches(entry):
    cipher = Cipher("etc-16", SecretKey(bytes.fromhex(entry["secret"])))
    source = bytes.fromhex(entry["source_sha256"])
    one = SampleEncoder(cipher, JpegCodec(), (32, 32))
    assert str(one.augmentation_seed(source, entry["copy"])) == entry["seed"]


def test_seeds_differ_and_are_secret():
    one, other = (
        SampleEncoder(Cipher("etc-16", SecretKey(secret)), JpegCodec(), None)
        for secret in (SECRET, bytes(32))
    )
    sources = [bytes([n]) * 32 for n in range(10)]
    seeds = {e.augmentation_seed(s, copy) for e in (one, other) for s in sources for copy in range(10)}
    assert len(seeds) == 200
    assert one.cipher.subkey("augmentation").hex() not in repr(one)


@pytest.mark.parametrize("entry", vectors["nonces"])
def test_nonce_of_an_augmented_sample_matches(entry):
    options = entry["options"]
    cipher = Cipher(
        Scheme.from_description(options["scheme"]),
        SecretKey(bytes.fromhex(entry["secret"])),
        key_scope=options["key_scope"],
    )
    one = SampleEncoder(
        cipher,
        codec_from_dict(options["codec"]),
        tuple(options["size"]),
        augmentation=Augmentation("crop+flip"),
    )
    assert one.options() == options
    source = bytes.fromhex(entry["source_sha256"])
    assert one.nonce(entry["split"], entry["position"], source, entry["copy"]).hex() == entry["nonce"]


@pytest.mark.parametrize("entry", vectors["orders"])
def test_order_of_copies_matches(entry):
    cipher = Cipher("etc-16", SecretKey(bytes.fromhex(entry["secret"])))
    order = sample_order(cipher, "train", entry["items"] * entry["copies"])
    assert [list(divmod(int(index), entry["copies"])) for index in order] == entry["order"]


@pytest.mark.parametrize("entry", vectors["manifests"])
def test_seal_of_a_manifest_with_all_its_extras_matches(entry):
    manifest = Manifest.from_dict(entry["manifest"])
    manifest.check_seal(SecretKey(bytes.fromhex(entry["secret"])))
    assert (manifest.augmentation, manifest.copies) == ("flip", 4)
    assert manifest.class_names == ("cat", "Katze ☀")
