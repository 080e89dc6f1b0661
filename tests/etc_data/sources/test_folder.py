import importlib
import json
import os
import pickle
import random
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from etc_data.errors import SourceError, UnreadableImageError
from etc_data.sources import ImageFolder, Item, Source, Stray
from etc_data.sources.folder import printable
from etc_data.sources.images import load_rgb

ROOT = Path(__file__).parents[3]
PICTURES = Path(os.environ.get("ETC_DATA_TEST_IMAGES", ROOT / ".." / "shared" / "data"))

on_posix = pytest.mark.skipif(os.name == "nt", reason="names and links of POSIX file systems")
as_user = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may list every folder"
)


def plant(root: Path, *names: str) -> Path:
    """Makes files that hold their own names; a name with "/" at its end is a folder."""
    for name in names:
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(name.encode())
    return root


def listed(source: ImageFolder, split: str = "train") -> list[tuple[str, int]]:
    return [(item.id, item.label) for item in source.items(split)]


def strays(source: ImageFolder) -> dict[str, str]:
    return {stray.id: stray.reason for stray in source.strays}


# --- layouts ----------------------------------------------------------------------------------


def test_class_folders_give_labels_by_sorted_name(tmp_path):
    source = ImageFolder(plant(tmp_path, "dog/1.jpg", "cat/2.png", "cat/1.JPEG", "Ant/x.webp"))
    assert source.splits == ("train",)
    assert source.class_names == ("Ant", "cat", "dog")
    assert listed(source) == [("Ant/x.webp", 0), ("cat/1.JPEG", 1), ("cat/2.png", 1), ("dog/1.jpg", 2)]
    assert source.strays == ()


def test_split_folders_share_one_list_of_classes(tmp_path):
    source = ImageFolder(
        plant(tmp_path, "val/b/1.jpg", "train/a/1.jpg", "train/c/1.jpg", "test/c/2.jpg")
    )
    assert source.splits == ("train", "val", "test")
    assert source.class_names == ("a", "b", "c")
    assert listed(source, "train") == [("train/a/1.jpg", 0), ("train/c/1.jpg", 2)]
    assert listed(source, "val") == [("val/b/1.jpg", 1)]
    assert listed(source, "test") == [("test/c/2.jpg", 2)]


def test_splits_come_in_their_usual_order_under_lower_case_names(tmp_path):
    names = ("Test", "VALIDATION", "valid", "Val", "train")
    source = ImageFolder(plant(tmp_path, *(f"{name}/a/1.jpg" for name in names)))
    assert source.splits == ("train", "val", "valid", "validation", "test")
    assert listed(source, "test") == [("Test/a/1.jpg", 0)]


def test_one_other_folder_makes_all_of_them_classes(tmp_path):
    source = ImageFolder(plant(tmp_path, "train/1.jpg", "plane/1.jpg", "truck/1.jpg"))
    assert source.splits == ("train",)
    assert source.class_names == ("plane", "train", "truck")


def test_other_folder_beside_several_splits_is_refused(tmp_path):
    with pytest.raises(SourceError, match="train, val look like splits, but 'holdout' does not"):
        ImageFolder(plant(tmp_path, "train/a/1.jpg", "val/a/1.jpg", "holdout/a/1.jpg"))


def test_hidden_folders_do_not_hide_the_splits(tmp_path):
    source = ImageFolder(plant(tmp_path, "train/a/1.jpg", "val/a/1.jpg", ".git/x/1.jpg"))
    assert source.splits == ("train", "val")
    assert source.strays == ()


def test_flat_folder_has_no_labels(tmp_path):
    source = ImageFolder(plant(tmp_path, "b.jpg", "a.png"))
    assert source.splits == ("train",)
    assert source.class_names == ()
    assert listed(source) == [("a.png", -1), ("b.jpg", -1)]


def test_flat_test_split_has_no_labels_beside_a_labeled_train_split(tmp_path):
    source = ImageFolder(plant(tmp_path, "train/a/1.jpg", "test/1.jpg"))
    assert source.class_names == ("a",)
    assert listed(source, "train") == [("train/a/1.jpg", 0)]
    assert listed(source, "test") == [("test/1.jpg", -1)]


def test_nested_folders_belong_to_their_class(tmp_path):
    source = ImageFolder(plant(tmp_path, "a/2020/05/1.jpg", "a/z.jpg", "b/train/1.jpg"))
    assert source.class_names == ("a", "b")
    assert listed(source) == [("a/2020/05/1.jpg", 0), ("a/z.jpg", 0), ("b/train/1.jpg", 1)]


def test_folder_named_like_a_picture_is_a_folder(tmp_path):
    source = ImageFolder(plant(tmp_path, "a.jpg/1.jpg", "b.png/c.gif/2.jpg"))
    assert listed(source) == [("a.jpg/1.jpg", 0), ("b.png/c.gif/2.jpg", 1)]


# --- strays -----------------------------------------------------------------------------------


def test_clutter_is_skipped_silently(tmp_path):
    clutter = (".DS_Store", "a/.DS_Store", "a/._1.jpg", "a/Thumbs.db", "desktop.ini", ".x/1.jpg")
    source = ImageFolder(plant(tmp_path, "a/1.jpg", *clutter, "__MACOSX/a/2.jpg"))
    assert listed(source) == [("a/1.jpg", 0)]
    assert source.strays == ()


def test_what_is_not_taken_is_listed_with_its_reason(tmp_path):
    names = ("a/1.jpg", "b/1.jpg", "loose.jpg", "labels.csv", "a/notes", "a/paper.pdf", "empty/")
    source = ImageFolder(plant(tmp_path, *names, "docs/read me.txt"))
    assert source.class_names == ("a", "b")
    assert strays(source) == {
        "a/notes": "has no extension of a picture",
        "a/paper.pdf": "has no extension of a picture",
        "docs": "holds no image",
        "docs/read me.txt": "has no extension of a picture",
        "empty": "holds no image",
        "labels.csv": "has no extension of a picture",
        "loose.jpg": "lies beside the class folders",
    }
    assert [stray.id for stray in source.strays] == sorted(strays(source))


def test_images_beside_splits_and_their_classes_are_strays(tmp_path):
    names = ("train/a/1.jpg", "val/b/1.jpg", "train/a.jpg", "top.jpg", "test/", "train/b/")
    source = ImageFolder(plant(tmp_path, *names))
    assert source.splits == ("train", "val")
    assert strays(source) == {
        "test": "holds no image",
        "top.jpg": "lies beside the split folders",
        "train/a.jpg": "lies beside the class folders",
    }


def test_folder_without_an_image_does_not_make_a_flat_folder_one_of_classes(tmp_path):
    source = ImageFolder(plant(tmp_path, "1.jpg", "tables/labels.csv"))
    assert listed(source) == [("1.jpg", -1)]
    assert strays(source)["tables"] == "holds no image"


# --- links and special files ------------------------------------------------------------------


@on_posix
def test_links_to_files_and_folders_are_followed(tmp_path):
    plant(tmp_path, "store/1.jpg", "store/2.jpg", "data/a/")
    (tmp_path / "data/a/one.jpg").symlink_to(tmp_path / "store/1.jpg")
    (tmp_path / "data/b").symlink_to("../store", target_is_directory=True)
    source = ImageFolder(tmp_path / "data")
    assert listed(source) == [("a/one.jpg", 0), ("b/1.jpg", 1), ("b/2.jpg", 1)]
    assert source.items("train")[0].read() == b"store/1.jpg"


@on_posix
def test_links_in_a_circle_end_as_strays(tmp_path):
    plant(tmp_path, "a/1.jpg", "b/c/2.jpg")
    (tmp_path / "a/up").symlink_to("..", target_is_directory=True)
    (tmp_path / "b/c/here").symlink_to(".", target_is_directory=True)
    (tmp_path / "b/self.jpg").symlink_to("self.jpg")
    source = ImageFolder(tmp_path)
    assert listed(source) == [("a/1.jpg", 0), ("b/c/2.jpg", 1)]
    found = strays(source)
    assert found["a/up"] == found["b/c/here"] == "is a link to a parent folder"
    assert found["b/self.jpg"].startswith("cannot be examined")


@on_posix
def test_broken_links_and_pipes_are_strays(tmp_path):
    plant(tmp_path, "a/1.jpg")
    (tmp_path / "a/gone.jpg").symlink_to("nowhere.jpg")
    os.mkfifo(tmp_path / "a/pipe.jpg")
    assert strays(ImageFolder(tmp_path)) == {
        "a/gone.jpg": "is a link that leads nowhere",
        "a/pipe.jpg": "is a special file",
    }


# --- names ------------------------------------------------------------------------------------


def test_spaces_and_other_scripts_stay_as_they_are(tmp_path):
    names = ["größe 1/äpfel.jpg", "写真/猫 2.png", "emoji 🙂/a.b.c.jpg", "#?%/1.jpg"]
    source = ImageFolder(plant(tmp_path, *names))
    assert [item.id for item in source.items("train")] == sorted(names)
    assert [item.read().decode() for item in source.items("train")] == sorted(names)


@on_posix
@pytest.mark.skipif(sys.platform == "darwin", reason="macOS refuses names that are not UTF-8")
def test_names_that_are_no_text_get_printable_ids_and_still_open(tmp_path):
    names = [b"caf\xe9/1.jpg", b"caf\xe9/two\nlines.jpg", b"back\\slash/\x07.jpg", b"a\\xe9/1.jpg"]
    for name in names:
        path = os.path.join(os.fsencode(tmp_path), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(name)
    source = ImageFolder(tmp_path)
    items = source.items("train")
    assert {item.id: item.read() for item in items} == {
        r"caf\xe9/1.jpg": names[0],
        r"caf\xe9/two\u000alines.jpg": names[1],
        r"back\\slash/\u0007.jpg": names[2],
        r"a\\xe9/1.jpg": names[3],
    }
    assert source.class_names == (r"a\\xe9", r"back\\slash", r"caf\xe9")
    text = json.dumps([[item.id for item in items], source.class_names], ensure_ascii=False)
    text.encode()
    assert text.isprintable()


@given(st.text(st.characters(codec=None)), st.text(st.characters(codec=None)))
def test_printable_names_are_encodable_and_differ_where_names_differ(one, other):
    for name in (one, other):
        printable(name).encode()
        assert not set(printable(name)) & set("\n\r\t\0\x7f\u2028\u202e")
    assert (printable(one) == printable(other)) == (one == other)


# --- order ------------------------------------------------------------------------------------


def test_order_does_not_depend_on_the_file_system(tmp_path, monkeypatch):
    names = [f"{c}/{i:02d}.jpg" for c in ("b", "a", "a b", "é") for i in range(20)]
    plant(tmp_path, *names, "x.csv", "y.csv")
    expected = ImageFolder(tmp_path)
    own = os.scandir

    class Shuffled:
        def __init__(self, path):
            with own(path) as entries:
                self.entries = list(entries)
            random.shuffle(self.entries)

        def __enter__(self):
            return iter(self.entries)

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(os, "scandir", Shuffled)
    for _ in range(5):
        source = ImageFolder(tmp_path)
        assert list(source.items("train")) == list(expected.items("train"))
        assert source.strays == expected.strays
    ids = [item.id for item in expected.items("train")]
    assert ids == sorted(ids)


# --- items ------------------------------------------------------------------------------------


def test_items_are_a_sequence_made_on_demand(tmp_path):
    items = ImageFolder(plant(tmp_path, "a/1.jpg", "a/2.jpg", "b/3.jpg")).items("train")
    assert len(items) == 3
    assert items[-1].id == "b/3.jpg"
    assert [item.id for item in items[1:]] == ["a/2.jpg", "b/3.jpg"]
    assert items[1:][0] == items[1]
    assert [item.label for item in reversed(items)] == [1, 0, 0]
    with pytest.raises(IndexError):
        items[3]


def test_items_read_lazily_and_survive_pickling_and_a_change_of_folder(tmp_path, monkeypatch):
    plant(tmp_path, "data/a/1.jpg")
    monkeypatch.chdir(tmp_path)
    source = ImageFolder("data")
    monkeypatch.chdir("/")
    for copy in (source, pickle.loads(pickle.dumps(source))):
        assert copy.items("train")[0].read() == b"data/a/1.jpg"
    item = source.items("train")[0]
    assert pickle.loads(pickle.dumps(item)) == item
    assert len(pickle.dumps(item)) < 500
    assert pickle.loads(pickle.dumps(source.items("train")[:1]))[0].read() == b"data/a/1.jpg"


def test_item_shows_no_more_than_its_id_and_label(tmp_path):
    item = ImageFolder(plant(tmp_path, "a/1.jpg")).items("train")[0]
    assert repr(item) == "Item(id='a/1.jpg', label=0)"


def test_file_that_has_gone_raises_without_its_path(tmp_path):
    item = ImageFolder(plant(tmp_path, "a/patient.jpg")).items("train")[0]
    (tmp_path / "a/patient.jpg").unlink()
    with pytest.raises(UnreadableImageError, match="cannot be read") as caught:
        item.read()
    assert "patient" not in str(caught.value)


def test_image_folder_is_a_source(tmp_path):
    source: Source = ImageFolder(plant(tmp_path, "a/1.jpg", "b.txt"))
    assert isinstance(source.items("train")[0], Item)
    assert source.strays == (Stray("b.txt", "has no extension of a picture"),)


# --- errors -----------------------------------------------------------------------------------


def test_root_that_is_missing_or_a_file_raises(tmp_path):
    with pytest.raises(SourceError, match="No such file"):
        ImageFolder(tmp_path / "missing")
    plant(tmp_path, "file.jpg")
    with pytest.raises(SourceError, match="Not a directory"):
        ImageFolder(tmp_path / "file.jpg")


@pytest.mark.parametrize("names", [(), ("a/", "b/"), ("a/x.csv", "y.txt"), ("train/", "val/")])
def test_folder_without_an_image_raises(tmp_path, names):
    with pytest.raises(SourceError, match="holds no image"):
        ImageFolder(plant(tmp_path, *names))


def test_unknown_split_raises_and_tells_the_known_ones(tmp_path):
    source = ImageFolder(plant(tmp_path, "train/a/1.jpg", "val/a/1.jpg"))
    with pytest.raises(SourceError, match="'test' does not exist; there are train, val"):
        source.items("test")


@pytest.mark.skipif(sys.platform != "linux", reason="needs names that differ in case only")
def test_two_folders_for_one_split_raise(tmp_path):
    with pytest.raises(SourceError, match="name the same split"):
        ImageFolder(plant(tmp_path, "train/a/1.jpg", "Train/a/1.jpg"))


@as_user
def test_folder_that_may_not_be_listed_raises(tmp_path):
    plant(tmp_path, "a/1.jpg", "b/1.jpg")
    (tmp_path / "b").chmod(0)
    try:
        with pytest.raises(SourceError, match="cannot be listed"):
            ImageFolder(tmp_path)
    finally:
        (tmp_path / "b").chmod(0o700)


# --- real folders -----------------------------------------------------------------------------


@pytest.mark.skipif(not (PICTURES / "imagenette224").is_dir(), reason="no folder of test images")
def test_real_folders_are_listed_and_read():
    source = ImageFolder(PICTURES / "imagenette224")
    assert source.splits == ("train", "val")
    assert len(source.class_names) == 10
    assert (len(source.items("train")), len(source.items("val"))) == (1000, 200)
    assert strays(source) == {"labels.csv": "has no extension of a picture"}
    item = source.items("val")[-1]
    assert item.label == 9
    assert load_rgb(item.read()).size == (224, 224)


def test_labels_are_those_of_torchvision(tmp_path):
    importlib.import_module("etc_data.torchvision_cpu")  # before torchvision
    from torchvision.datasets import ImageFolder as TorchvisionFolder

    for name in ("B/1.png", "a/2.png", "Z z/deep/3.png", "é/4.png", "_/5.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), "red").save(path)
    source, other = ImageFolder(tmp_path), TorchvisionFolder(str(tmp_path), loader=load_rgb)
    assert source.class_names == tuple(other.classes)
    theirs = {Path(path).relative_to(tmp_path).as_posix(): label for path, label in other.samples}
    assert dict(listed(source)) == theirs
    picture, _ = other[0]
    assert picture.getpixel((0, 0)) == (255, 0, 0)


def test_items_can_be_read_by_many_threads(tmp_path):
    names = [f"a/{i}.jpg" for i in range(50)]
    items = ImageFolder(plant(tmp_path, *names)).items("train")
    results: dict[str, bytes] = {}
    threads = [
        threading.Thread(target=lambda item=item: results.update({item.id: item.read()}))
        for item in items
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {name: name.encode() for name in names}
