import tarfile
from pathlib import Path

import pytest

from etc_data.errors import SourceError
from etc_data.sources import ImageFolder, TarShards, open_source, spec


@pytest.fixture
def calls(monkeypatch):
    """What the sources that load other packages are called with."""
    calls: list[tuple[object, ...]] = []

    def record(*arguments, **options):
        calls.append((*arguments, options))

    monkeypatch.setattr(spec, "HuggingFaceDataset", record)
    monkeypatch.setattr(spec, "TorchvisionDataset", record)
    return calls


@pytest.fixture
def plant(tmp_path, picture):
    """plant("a/1.jpg", "x.tar") makes such files."""

    def make(*names: str) -> Path:
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture(1))
            if name.endswith(".tar"):
                path.with_suffix(".jpg").write_bytes(picture(1))
                with tarfile.open(path, "w") as tar:
                    tar.add(path.with_suffix(".jpg"), "a.jpg")
                path.with_suffix(".jpg").unlink()
        return tmp_path

    return make


# --- paths ------------------------------------------------------------------------------------


def test_folder_of_images_is_an_image_folder(plant, monkeypatch):
    root = plant("a/1.jpg", "b/2.jpg", "labels.csv")
    monkeypatch.chdir(root.parent)
    for text in (str(root), root, root.name):
        source = open_source(text)
        assert isinstance(source, ImageFolder)
        assert source.class_names == ("a", "b")


@pytest.mark.parametrize(
    "names",
    [
        ("x.tar",),
        ("train-0.tar", "val-0.tar", "_info.json", "classes.txt"),
        ("train/0.tar", "Val/0.tar", "val/notes.txt"),
    ],
)
def test_folder_of_tars_is_read_as_tars(plant, names):
    assert isinstance(open_source(plant(*names)), TarShards)


@pytest.mark.parametrize(
    "names",
    [
        ("a/1.jpg", "backup.tar"),
        ("1.jpg", "backup.tar"),
        ("train/1.jpg", "train/0.tar"),
        ("train/a/1.jpg", "train/0.tar"),
    ],
)
def test_tars_beside_images_are_strays_of_the_image_folder(plant, names):
    source = open_source(plant(*names))
    assert isinstance(source, ImageFolder)
    assert [stray.id for stray in source.strays] == [names[1]]


def test_tars_are_named_by_file_and_pattern(plant, monkeypatch):
    root = plant("x-000.tar", "x-001.tar", "y.jpg")
    monkeypatch.chdir(root)
    for text, count in (("x-000.tar", 1), ("x-{000..001}.tar", 2), ("x-*.tar", 2), ("x-00?.tar", 2)):
        source = open_source(text)
        assert isinstance(source, TarShards)
        assert len(source.items("train")) == count
    assert isinstance(open_source(root / "x-*.tar"), TarShards)


def test_folder_with_signs_of_a_pattern_is_a_folder(plant):
    assert isinstance(open_source(plant("a [1]/{x}/1.jpg") / "a [1]"), ImageFolder)


def test_compressed_tars_tell_their_reason(plant):
    root = plant("x.tar.gz")
    for text in (root, root / "x.tar.gz"):
        with pytest.raises(SourceError, match="is compressed"):
            open_source(text)


def test_tables_hint_at_hugging_face(plant):
    root = plant("data/x.parquet")
    for text in (root, root / "data", root / "data/x.parquet"):
        with pytest.raises(SourceError) as caught:
            open_source(text)
        assert caught.value.hint == f"Parquet and Arrow are read as hf:{text}"


def test_encrypted_folder_is_refused(plant):
    root = plant("train-000000.tar")
    (root / "manifest.json").write_text('{"format": "etc-data-shards/1"}')
    with pytest.raises(SourceError, match="already encrypted"):
        open_source(root)


@pytest.mark.parametrize(
    "text", ["missing", "photo.jpg", "s3://bucket/x.tar", "https://x.org/{0..9}.tar"]
)
def test_what_is_no_source_raises_with_the_known_forms(plant, monkeypatch, text):
    monkeypatch.chdir(plant("photo.jpg"))
    with pytest.raises(SourceError) as caught:
        open_source(text)
    assert "torchvision:NAME?root=FOLDER" in caught.value.hint


def test_folder_without_an_image_keeps_its_own_hint(plant):
    with pytest.raises(SourceError, match="holds no image") as caught:
        open_source(plant("x.csv"))
    assert "folders of images" in caught.value.hint


# --- hf: --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hf:mnist", ("mnist", None, {})),
        ("hf:uoft-cs/cifar10:test", ("uoft-cs/cifar10", "test", {})),
        ("hf:x/y:train[:10]", ("x/y", "train[:10]", {})),
        ("hf:here/data", ("here/data", None, {})),
        ("hf:here/da:ta", ("here/da:ta", None, {})),
        ("hf:here/da:ta:val", ("here/da:ta", "val", {})),
        ("hf:here/what?", ("here/what?", None, {})),
        ("hf:here/data:val?image_column=a%26b", ("here/data", "val", {"image_column": "a&b"})),
        ("hf:x?config=c&label_column=l", ("x", None, {"config": "c", "label_column": "l"})),
    ],
)
def test_hugging_face_specs(tmp_path, monkeypatch, calls, text, expected):
    for name in ("data", "da:ta", "what?"):
        (tmp_path / "here" / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    open_source(text)
    assert calls == [expected]


@pytest.mark.parametrize(
    "text", ["hf:", "hf:?config=x", "hf:x?split=train", "hf:x?config", "hf:x?config="]
)
def test_malformed_hugging_face_specs_raise(calls, text):
    with pytest.raises(SourceError, match=r"names no data set|no option 'split'|form name=value"):
        open_source(text)


def test_path_object_is_never_a_spec(tmp_path, monkeypatch, picture):
    monkeypatch.chdir(tmp_path)
    Path("hf:x").mkdir()
    Path("hf:x/1.jpg").write_bytes(picture(1))
    assert isinstance(open_source(Path("hf:x")), ImageFolder)


# --- torchvision: -----------------------------------------------------------------------------


def test_torchvision_specs(calls):
    open_source("torchvision:CIFAR10?root=a b/c+d")
    open_source("torchvision:Imagenette?root=x&split=val&size=160px")
    assert calls == [
        ("CIFAR10", {"root": "a b/c+d"}),
        ("Imagenette", {"root": "x", "split": "val", "size": "160px"}),
    ]


@pytest.mark.parametrize(
    "text",
    ["torchvision:", "torchvision:CIFAR10", "torchvision:?root=x", "torchvision:X?root=a&root=b"],
)
def test_malformed_torchvision_specs_raise(calls, text):
    with pytest.raises(SourceError, match=r"needs a data set and its root|given twice"):
        open_source(text)


def test_option_that_names_an_argument_of_ours_is_no_option(tmp_path):
    with pytest.raises(SourceError, match="CIFAR10 has no option 'name' to set; it has none"):
        open_source(f"torchvision:CIFAR10?root={tmp_path}&name=x")


def test_real_specs_open(pictures, tmp_path):
    assert open_source(str(pictures / "imagenette128" / "val-*.tar")).splits == ("val",)
    assert open_source(pictures / "photos").splits == ("train",)
