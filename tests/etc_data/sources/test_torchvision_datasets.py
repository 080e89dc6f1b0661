import hashlib
import importlib
import io
import json
import os
import pickle
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from etc_data.errors import SourceError, UnreadableImageError
from etc_data.sources import Source, TorchvisionDataset, load_rgb, torchvision_datasets

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def torchvision():
    importlib.import_module("etc_data.torchvision_cpu")  # before torchvision
    return importlib.import_module("torchvision")


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("nothing may be downloaded")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


def labels(source: TorchvisionDataset, split: str) -> list[int]:
    return [item.label for item in source.items(split)]


def strays(source: TorchvisionDataset) -> dict[str, str]:
    return {stray.id: stray.reason for stray in source.strays}


def plant(root: Path, picture, *names: str) -> Path:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(picture(number))
    return root


def write_idx(path: Path, values: np.ndarray) -> None:
    """A file of MNIST's own format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    path.write_bytes(bytes([0, 0, 8, values.ndim]) + sizes + values.astype(np.uint8).tobytes())


def make_mnist(root: Path, name: str = "MNIST", train: int = 20, test: int = 5) -> np.ndarray:
    """Writes digits in the layout of the data set and returns those of the train split."""
    digits = np.random.default_rng(0).integers(0, 256, (train + test, 28, 28), np.uint8)
    classes = np.arange(train + test) % 10
    for prefix, part in (("train", slice(train)), ("t10k", slice(train, None))):
        write_idx(root / name / "raw" / f"{prefix}-images-idx3-ubyte", digits[part])
        write_idx(root / name / "raw" / f"{prefix}-labels-idx1-ubyte", classes[part])
    return digits[:train]


# --- pixels in memory -------------------------------------------------------------------------


def test_mnist_is_read_with_its_classes_and_splits(tmp_path, contents):
    digits = make_mnist(tmp_path)
    source: Source = TorchvisionDataset("MNIST", root=tmp_path)
    assert source.splits == ("train", "test")
    assert source.class_names[:2] == ("0 - zero", "1 - one")
    assert source.strays == ()
    found = contents(source)
    assert [(name, label) for name, label, _ in found] == [
        (f"train/{row:09d}", row % 10) for row in range(20)
    ]
    for (_, _, data), digit in zip(found, digits, strict=True):
        assert np.array_equal(np.asarray(load_rgb(data)), np.repeat(digit[..., None], 3, axis=2))
        assert data == b"P5\n28 28\n255\n" + digit.tobytes()
    assert labels(source, "test") == [0, 1, 2, 3, 4]
    with pytest.raises(SourceError, match="'val' does not exist; there are train, test"):
        source.items("val")


def make_cifar10(root: Path, torchvision, monkeypatch, images: np.ndarray, classes: list[int]) -> None:
    """Writes the layout of the data set: pickles by batch, whose checksums torchvision compares."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)

    def write(name: str, value: dict[str, object]) -> tuple[str, str]:
        data = pickle.dumps(value)
        (folder / name).write_bytes(data)
        return name, hashlib.md5(data).hexdigest()

    rows = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    batches = [
        write(f"data_batch_{i + 1}", {"data": rows[i::6], "labels": classes[i::6]}) for i in range(5)
    ]
    tests = [write("test_batch", {"data": rows[5::6], "labels": classes[5::6]})]
    name, checksum = write("batches.meta", {"label_names": [f"class {i}" for i in range(10)]})
    cifar10 = torchvision.datasets.CIFAR10
    monkeypatch.setattr(cifar10, "train_list", [list(batch) for batch in batches])
    monkeypatch.setattr(cifar10, "test_list", [list(batch) for batch in tests])
    monkeypatch.setattr(cifar10, "meta", {"filename": name, "key": "label_names", "md5": checksum})


def test_cifar10_is_read_bit_for_bit(tmp_path, torchvision, monkeypatch):
    images = np.random.default_rng(1).integers(0, 256, (60, 32, 32, 3), np.uint8)
    classes = [row % 10 for row in range(60)]
    make_cifar10(tmp_path, torchvision, monkeypatch, images, classes)
    source = TorchvisionDataset("CIFAR10", root=tmp_path)
    assert source.splits == ("train", "test")
    assert source.class_names == tuple(f"class {i}" for i in range(10))
    order = [row for batch in range(5) for row in range(batch, 60, 6)]
    items = source.items("train")
    assert [item.label for item in items] == [classes[row] for row in order]
    for item, row in zip(items, order, strict=True):
        assert np.array_equal(np.asarray(load_rgb(item.read())), images[row])
        assert item.read() == b"P6\n32 32\n255\n" + images[row].tobytes()
    assert labels(source, "test") == classes[5::6]


def test_damaged_batch_raises(tmp_path, torchvision, monkeypatch):
    images = np.zeros((60, 32, 32, 3), np.uint8)
    make_cifar10(tmp_path, torchvision, monkeypatch, images, [0] * 60)
    path = tmp_path / "cifar-10-batches-py/data_batch_3"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(SourceError, match=r"CIFAR10 cannot be opened in .*not found or corrupted$"):
        TorchvisionDataset("CIFAR10", root=tmp_path)


def test_data_set_that_has_gone_fails_on_reading(tmp_path, monkeypatch):
    make_mnist(tmp_path)
    item = TorchvisionDataset("MNIST", root=tmp_path).items("train")[0]
    (tmp_path / "MNIST").rename(tmp_path / "patient")
    torchvision_datasets._open.cache_clear()
    with pytest.raises(UnreadableImageError, match="torchvision cannot read it: Dataset not found"):
        item.read()


def test_only_the_split_asked_for_is_opened(tmp_path):
    make_mnist(tmp_path, "FashionMNIST")
    source = TorchvisionDataset("FashionMNIST", root=tmp_path, split="test")
    assert source.splits == ("test",)
    assert source.class_names[0] == "T-shirt/top"
    with pytest.raises(SourceError, match="MNIST has no split 'val'; it has train, test"):
        TorchvisionDataset("FashionMNIST", root=tmp_path, split="val")


def test_variant_that_is_called_a_split_is_an_option(tmp_path):
    digits = np.zeros((3, 28, 28), np.uint8)
    for part in ("train", "test"):
        path = tmp_path / "EMNIST/raw" / f"emnist-digits-{part}"
        write_idx(path.with_name(f"{path.name}-images-idx3-ubyte"), digits)
        write_idx(path.with_name(f"{path.name}-labels-idx1-ubyte"), np.arange(3))
    source = TorchvisionDataset("EMNIST", root=tmp_path, split="digits")
    assert source.splits == ("train", "test")
    assert labels(source, "test") == [0, 1, 2]
    assert source.class_names == tuple("0123456789")


# --- images in files --------------------------------------------------------------------------


def test_files_are_taken_byte_for_byte_in_sorted_order(tmp_path, picture, contents):
    folder = "imagenette2-160"
    names = [
        f"{folder}/{split}/{wnid}/{number}.JPEG"
        for split in ("val", "train")
        for wnid in ("n02102040", "n01440764")
        for number in range(2)
    ]
    plant(tmp_path, picture, *names)
    source = TorchvisionDataset("Imagenette", root=tmp_path, size="160px")
    assert source.splits == ("train", "val")
    assert source.class_names[0] == "tench, Tinca tinca"
    found = contents(source)
    assert [(name, label) for name, label, _ in found] == [
        (f"{folder}/train/{wnid}/{number}.JPEG", label)
        for label, wnid in enumerate(("n01440764", "n02102040"))
        for number in range(2)
    ]
    for name, _, data in found:
        assert data == picture(names.index(name))


def test_data_set_without_splits_is_all_train(tmp_path, picture):
    plant(tmp_path, picture, "eurosat/2750/Forest/1.jpg", "eurosat/2750/River/1.jpg")
    source = TorchvisionDataset("EuroSAT", root=tmp_path)
    assert source.splits == ("train",)
    assert source.class_names == ("Forest", "River")
    assert labels(source, "train") == [0, 1]
    with pytest.raises(SourceError, match="EuroSAT has no split 'test'; it has train"):
        TorchvisionDataset("EuroSAT", root=tmp_path, split="test")


def test_order_of_files_does_not_depend_on_lists(tmp_path, picture):
    images = {"train": {"b": ["b/2", "b/1"], "a": ["a/1"]}, "test": {"b": ["b/3"], "a": ["a/2"]}}
    plant(tmp_path, picture, *(f"food-101/images/{n}.jpg" for n in ("a/1", "a/2", "b/1", "b/2", "b/3")))
    (tmp_path / "food-101/meta").mkdir()
    for split, names in images.items():
        (tmp_path / f"food-101/meta/{split}.json").write_text(json.dumps(names))
    source = TorchvisionDataset("Food101", root=tmp_path)
    assert [(item.id, item.label) for item in source.items("train")] == [
        ("food-101/images/a/1.jpg", 0),
        ("food-101/images/b/1.jpg", 1),
        ("food-101/images/b/2.jpg", 1),
    ]


def test_file_that_has_gone_fails_on_reading_without_its_path(tmp_path, picture):
    plant(tmp_path, picture, "eurosat/2750/Forest/patient.jpg")
    item = TorchvisionDataset("EuroSAT", root=tmp_path).items("train")[0]
    (tmp_path / "eurosat/2750/Forest/patient.jpg").unlink()
    with pytest.raises(UnreadableImageError, match="cannot be read") as caught:
        item.read()
    assert "patient" not in str(caught.value)


# --- images that torchvision opens ------------------------------------------------------------


def make_pets(root: Path, picture) -> Path:
    folder = root / "oxford-iiit-pet"
    names = ("Abyssinian_1", "beagle_2", "beagle_3", "Abyssinian_4")
    plant(folder / "images", picture, *(f"{name}.jpg" for name in names))
    (folder / "annotations").mkdir()
    (folder / "annotations/trainval.txt").write_text("Abyssinian_1 1 1 1\nbeagle_2 2 2 1\n")
    (folder / "annotations/test.txt").write_text("beagle_3 2 2 1\nAbyssinian_4 1 1 1\n")
    return folder


def test_default_split_stands_in_for_a_missing_train(tmp_path, picture, contents):
    make_pets(tmp_path, picture)
    source = TorchvisionDataset("OxfordIIITPet", root=tmp_path)
    assert source.splits == ("trainval", "test")
    assert source.class_names == ("Abyssinian", "Beagle")
    assert [label for _, label, _ in contents(source, "trainval")] == [0, 1]
    data = source.items("trainval")[0].read()
    assert np.array_equal(np.asarray(load_rgb(data)), np.asarray(load_rgb(picture(0))))
    assert TorchvisionDataset("OxfordIIITPet", root=tmp_path, split="test").splits == ("test",)


def test_default_split_is_left_out_where_there_is_train(tmp_path, picture):
    folder = tmp_path / "fgvc-aircraft-2013b/data"
    plant(folder / "images", picture, *(f"{name}.jpg" for name in ("train", "val", "test")))
    (folder / "variants.txt").write_text("707\nA320\n")
    for split, line in {"train": "train 707", "val": "val A320", "test": "test 707"}.items():
        (folder / f"images_variant_{split}.txt").write_text(f"{line}\n")
    (folder / "images_variant_trainval.txt").write_text("train 707\nval A320\n")
    source = TorchvisionDataset("FGVCAircraft", root=tmp_path)
    assert source.splits == ("train", "val", "test")
    assert source.class_names == ("707", "A320")
    whole = TorchvisionDataset("FGVCAircraft", root=tmp_path, split="trainval")
    assert labels(whole, "trainval") == [0, 1]


def test_split_whose_files_are_missing_is_a_stray(tmp_path, picture):
    folder = tmp_path / "gtsrb/GTSRB/Training"
    for name in ("00000/1.ppm", "00007/2.ppm"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(picture(1, "PPM"))
    source = TorchvisionDataset("GTSRB", root=tmp_path)
    assert source.splits == ("train",)
    assert strays(source) == {"test": "cannot be opened: Dataset not found"}
    assert source.class_names == ("0", "1")


def test_image_that_cannot_be_read_is_a_stray_and_numbers_stay(tmp_path, picture):
    folder = make_pets(tmp_path, picture)
    (folder / "images/Abyssinian_1.jpg").write_bytes(b"damaged")
    source = TorchvisionDataset("OxfordIIITPet", root=tmp_path, split="trainval")
    assert [(item.id, item.label) for item in source.items("trainval")] == [("trainval/000000001", 1)]
    assert list(strays(source)) == ["trainval/000000000"]
    assert str(tmp_path) not in strays(source)["trainval/000000000"]
    expected = np.asarray(load_rgb(picture(1)))
    assert np.array_equal(np.asarray(load_rgb(source.items("trainval")[0].read())), expected)


def test_split_of_which_no_image_can_be_read_raises_with_a_reason(tmp_path, picture):
    folder = make_pets(tmp_path, picture)
    for path in (folder / "images").iterdir():
        path.write_bytes(b"damaged")
    reason = "no readable image; the first, trainval/000000000, cannot be read: it is no picture"
    with pytest.raises(SourceError, match=reason):
        TorchvisionDataset("OxfordIIITPet", root=tmp_path)


def test_images_without_a_target_have_no_label(tmp_path, torchvision, monkeypatch):
    make_mnist(tmp_path)
    image = Image.new("L", (4, 4))
    monkeypatch.setattr(torchvision.datasets.MNIST, "__getitem__", lambda self, row: (image, None))
    source = TorchvisionDataset("MNIST", root=tmp_path)
    assert labels(source, "test") == [-1] * 5
    assert source.class_names == ()


def test_image_of_an_unusual_mode_keeps_its_pixels(tmp_path, torchvision, monkeypatch):
    image = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(4, 4, 4), "RGBA")
    make_mnist(tmp_path)
    monkeypatch.setattr(torchvision.datasets.MNIST, "__getitem__", lambda self, row: (image, 0))
    data = TorchvisionDataset("MNIST", root=tmp_path).items("test")[0].read()
    with Image.open(io.BytesIO(data)) as found:
        assert np.array_equal(np.asarray(found), np.asarray(image))


# --- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["CIFAR10", "MNIST", "STL10", "Flowers102", "Food101", "SVHN", "USPS"])
def test_missing_files_raise_and_nothing_is_downloaded(tmp_path, name):
    with pytest.raises(SourceError, match=f"{name} cannot be opened in ") as caught:
        TorchvisionDataset(name, root=tmp_path)
    assert "download" not in str(caught.value)
    assert f"torchvision.datasets.{name}(…, download=True)" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_missing_root_raises(tmp_path):
    with pytest.raises(SourceError, match="is no folder"):
        TorchvisionDataset("Caltech101", root=tmp_path / "missing")
    assert not (tmp_path / "missing").exists()


def test_unknown_name_raises_with_the_nearest_one(tmp_path):
    with pytest.raises(SourceError, match="torchvision has no data set 'CIFAR-10'") as caught:
        TorchvisionDataset("CIFAR-10", root=tmp_path)
    assert caught.value.hint == "did you mean CIFAR10?"
    for name in ("wrap_dataset_for_transforms_v2", "__class__", "torch", ""):
        with pytest.raises(SourceError, match="no data set"):
            TorchvisionDataset(name, root=tmp_path)


def test_made_up_data_is_refused(tmp_path):
    with pytest.raises(SourceError, match="FakeData has no folder of its own"):
        TorchvisionDataset("FakeData", root=tmp_path)


@pytest.mark.parametrize("option", ["download", "transform", "loader", "sizes"])
def test_option_that_is_not_to_be_set_raises(tmp_path, option):
    with pytest.raises(SourceError, match=f"Imagenette has no option '{option}'.*it has split, size"):
        TorchvisionDataset("Imagenette", root=tmp_path, **{option: "true"})


def test_wrong_value_of_an_option_raises_with_the_reason(tmp_path):
    with pytest.raises(SourceError, match="Unknown value '9px' for argument size"):
        TorchvisionDataset("Imagenette", root=tmp_path, size="9px")


def test_targets_that_are_no_classes_raise(tmp_path, picture):
    folder = make_pets(tmp_path, picture)
    (folder / "annotations/trimaps").mkdir()
    for name in ("Abyssinian_1", "beagle_2", "beagle_3", "Abyssinian_4"):
        (folder / f"annotations/trimaps/{name}.png").write_bytes(picture(1, "PNG", mode="L"))
    with pytest.raises(SourceError, match=r"OxfordIIITPet gives targets of type .*, not class numbers"):
        TorchvisionDataset("OxfordIIITPet", root=tmp_path, target_types="segmentation")


def test_data_that_is_no_pair_of_image_and_class_raises(tmp_path):
    (tmp_path / "MovingMNIST").mkdir()
    np.save(tmp_path / "MovingMNIST/mnist_test_seq.npy", np.zeros((20, 2, 64, 64), np.uint8))
    with pytest.raises(SourceError, match="MovingMNIST does not give pairs of an image and its class"):
        TorchvisionDataset("MovingMNIST", root=tmp_path)


def test_splits_with_other_classes_raise(tmp_path, picture):
    for split, names in {"train": ("n01440764", "n02102040"), "val": ("n02102040",)}.items():
        plant(tmp_path, picture, *(f"imagenette2/{split}/{name}/1.JPEG" for name in names))
    with pytest.raises(SourceError, match="do not agree on the names of the classes"):
        TorchvisionDataset("Imagenette", root=tmp_path)


def test_torchvision_is_imported_only_when_it_is_used():
    script = "import sys, etc_data.sources; print({'torch', 'datasets', 'pyarrow'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "set()\n"
