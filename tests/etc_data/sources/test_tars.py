import io
import json
import os
import random
import tarfile
from pathlib import Path

import pytest
import webdataset

from etc_data.cipher import Cipher
from etc_data.errors import SourceError, UnreadableImageError
from etc_data.keys import SecretKey
from etc_data.shards import write_shards
from etc_data.sources import Source, TarShards, load_rgb


def write(path: Path, *samples: dict[str, object]) -> Path:
    """Writes samples with webdataset's own writer, which codes values by their extension."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with webdataset.TarWriter(str(path), encoder=True) as tar:
        for sample in samples:
            tar.write(sample)
    return path


def pack(path: Path, *members: tuple[str, bytes], form: int = tarfile.PAX_FORMAT) -> Path:
    """Writes members as they are, for what webdataset's writer refuses."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def labeled(count: int, picture, start: int = 0) -> list[dict[str, object]]:
    return [
        {"__key__": f"{number:06d}", "jpg": picture(number), "cls": number % 3}
        for number in range(start, start + count)
    ]


def listed(source: TarShards, split: str = "train") -> list[tuple[str, int]]:
    return [(item.id, item.label) for item in source.items(split)]


def strays(source: TarShards) -> dict[str, str]:
    return {stray.id: stray.reason for stray in source.strays}


# --- samples ----------------------------------------------------------------------------------


def test_samples_of_webdatasets_writer_are_read_by_seek(tmp_path, picture, contents):
    write(tmp_path / "a-000001.tar", *labeled(2, picture, 4))
    write(tmp_path / "a-000000.tar", *labeled(4, picture))
    source: Source = TarShards(tmp_path)
    assert source.splits == ("train",)
    assert source.class_names == ("0", "1", "2")
    assert source.strays == ()
    assert contents(source) == [
        (f"a-00000{number // 4}.tar/{number:06d}", number % 3, picture(number)) for number in range(6)
    ]


def test_items_are_what_webdataset_reads(tmp_path, picture):
    tar = write(tmp_path / "a.tar", *labeled(5, picture))
    samples = list(webdataset.WebDataset(str(tar), shardshuffle=False))
    items = TarShards(tar).items("train")
    assert [(item.read(), b"%d" % item.label) for item in items] == [
        (sample["jpg"], sample["cls"]) for sample in samples
    ]


def test_integer_label_in_json_serves_where_there_is_no_cls(tmp_path, picture):
    one, two = picture(1, "PNG"), picture(2, "WEBP")
    write(
        tmp_path / "x.tar",
        {"__key__": "one", "png": one, "json": {"label": 4, "note": "x"}},
        {"__key__": "two", "webp": two, "json": {"label": 4}, "cls": 1},
    )
    source = TarShards(tmp_path / "x.tar")
    assert listed(source) == [("x.tar/one", 4), ("x.tar/two", 1)]
    assert len(source.class_names) == 5
    assert [item.read() for item in source.items("train")] == [one, two]


def test_json_that_is_none_holds_no_label(tmp_path, picture):
    for number, text in enumerate((b"{", b"[1]", b"[" * 100_000, b"\xff")):
        tar = pack(tmp_path / f"{number}.tar", ("a.jpg", picture(1)), ("a.json", text))
        assert listed(TarShards(tar)) == [(f"{number}.tar/a", -1)]


def test_samples_without_labels_have_none(tmp_path, picture):
    write(
        tmp_path / "x.tar",
        {"__key__": "a", "jpg": picture(1), "txt": "a caption"},
        {"__key__": "b", "jpg": picture(2), "json": {"size": 3}},
        {"__key__": "c", "jpg": picture(3), "cls": -1},
    )
    source = TarShards(tmp_path)
    assert listed(source) == [("x.tar/a", -1), ("x.tar/b", -1), ("x.tar/c", -1)]
    assert source.class_names == ()


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_form_of_tar_is_read(tmp_path, picture, form):
    folder = "/".join(["a long name of a folder"] * 5)
    names = [f"./{folder}/1.JPG", f"./{folder}/1.cls", "./grün/2.x.jpg", "./grün/2.jpg", "./grün/2.cls"]
    pack(tmp_path / "x.tar", *((n, b"1" if n[-1] == "s" else picture(1)) for n in names), form=form)
    assert listed(TarShards(tmp_path)) == [(f"x.tar/{folder}/1", 1), ("x.tar/grün/2", 1)]


def test_hidden_members_and_notes_of_webdataset_are_skipped_silently(tmp_path, picture):
    names = ("a.jpg", "._a.jpg", ".DS_Store", "x/.hidden/b.jpg", "__index__", "__notes__/c.jpg")
    source = TarShards(pack(tmp_path / "x.tar", *((name, picture(1)) for name in names)))
    assert listed(source) == [("x.tar/a", -1)]
    assert source.strays == ()


def test_unprintable_keys_get_printable_ids(tmp_path, picture):
    source = TarShards(pack(tmp_path / "x.tar", ("a\nb\\.jpg", picture(1))))
    assert listed(source) == [(r"x.tar/a\u000ab\\", -1)]


# --- strays -----------------------------------------------------------------------------------


def test_what_is_not_one_image_is_a_stray(tmp_path, picture):
    image = picture(1)
    tar = pack(
        tmp_path / "x.tar",
        ("good.jpg", image),
        ("good.cls", b" 2\n"),
        ("text.txt", b""),
        ("text.cls", b"0"),
        ("two.jpg", image),
        ("two.png", image),
        ("dots.v2.jpg", image),
        ("again.jpg", image),
        ("again.jpg", image),
        ("README", b"hello"),
        ("good.jpg", image),
    )
    source = TarShards(tar)
    assert listed(source) == [("x.tar/good", 2)]
    assert strays(source) == {
        "x.tar/README": "has no extension",
        "x.tar/again": "holds the member jpg twice",
        "x.tar/dots": "holds no image, only v2.jpg",
        "x.tar/good": "has the key of an earlier sample",
        "x.tar/text": "holds no image, only txt, cls",
        "x.tar/two": "holds several images: jpg, png",
    }


def test_links_are_strays_and_folders_are_nothing(tmp_path, picture):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name, kind in (("a", tarfile.DIRTYPE), ("a/l.jpg", tarfile.SYMTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "b.jpg"
            tar.addfile(info)
        info = tarfile.TarInfo("a/b.jpg")
        info.size = len(picture(1))
        tar.addfile(info, io.BytesIO(picture(1)))
    source = TarShards(tmp_path)
    assert listed(source) == [("x.tar/a/b", -1)]
    assert strays(source) == {"x.tar/a/l.jpg": "is a link or a special member of the tar"}


def test_other_files_and_folders_beside_the_tars_are_strays(tmp_path, picture):
    write(tmp_path / "a.tar", *labeled(1, picture))
    (tmp_path / "classes.txt").write_text("cat\n")
    (tmp_path / ".DS_Store").write_text("")
    (tmp_path / "notes").mkdir()
    assert strays(TarShards(tmp_path)) == {
        "classes.txt": "is no tar archive",
        "notes": "is no folder of a split",
    }


# --- files and splits -------------------------------------------------------------------------


def test_names_of_files_and_folders_tell_the_split(tmp_path, picture):
    for name in ("x-train-000000.tar", "VAL_1.tar", "test/0.tar", "train-00001-of-00002.tar"):
        write(tmp_path / name, *labeled(1, picture))
    source = TarShards(tmp_path)
    assert source.splits == ("train", "val", "test")
    assert [item.id for split in source.splits for item in source.items(split)] == [
        "train-00001-of-00002.tar/000000",
        "x-train-000000.tar/000000",
        "VAL_1.tar/000000",
        "test/0.tar/000000",
    ]
    with pytest.raises(SourceError, match="'valid' does not exist; there are train, val, test"):
        source.items("valid")


def test_names_that_tell_no_split_are_all_train(tmp_path, picture):
    for name in ("training-0.tar", "b.tar"):
        write(tmp_path / name, *labeled(1, picture))
    assert listed(TarShards(tmp_path)) == [("b.tar/000000", 0), ("training-0.tar/000000", 0)]


def test_name_without_a_split_beside_others_raises(tmp_path, picture):
    for name in ("train-0.tar", "extra-0.tar"):
        write(tmp_path / name, *labeled(1, picture))
    with pytest.raises(SourceError, match=r"'extra-0.tar' names no split, but 'train-0.tar' does"):
        TarShards(tmp_path)
    assert len(TarShards(tmp_path / "extra-0.tar").items("train")) == 1


def test_name_of_two_splits_raises(tmp_path, picture):
    write(tmp_path / "train-val.tar", *labeled(1, picture))
    with pytest.raises(SourceError, match="names the splits train and val"):
        TarShards(tmp_path)


def test_patterns_lists_and_folders_name_the_same_files(tmp_path, picture, monkeypatch):
    for number in range(12):
        write(tmp_path / f"train-{number:06d}.tar", *labeled(2, picture, number))
    expected = list(TarShards(tmp_path).items("train"))
    assert len(expected) == 24
    shuffled = sorted(tmp_path.iterdir(), key=lambda path: path.name[::-1])
    monkeypatch.chdir(tmp_path)
    for tars in (
        str(tmp_path / "train-{000000..000011}.tar"),
        tmp_path / "train-*.tar",
        "train-{000000..000008}.tar train-{000009,00001*}.tar".split(),
        shuffled,
        [*shuffled, shuffled[0]],
    ):
        source = TarShards(tars)
        assert list(source.items("train")) == expected
        assert source.root == str(tmp_path)


def test_files_of_the_same_name_in_two_folders_get_different_ids(tmp_path, picture):
    tars = [write(tmp_path / folder / "0.tar", *labeled(1, picture)) for folder in "ab"]
    assert listed(TarShards(tars)) == [("a/0.tar/000000", 0), ("b/0.tar/000000", 0)]


@pytest.mark.parametrize("pattern", ["missing.tar", "x-{000..003}.tar", "*.tar", "x-{000..003.tar", []])
def test_pattern_that_names_nothing_raises(tmp_path, pattern, picture, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "x-000.tar.d" / "y.tar", *labeled(1, picture))
    with pytest.raises(SourceError, match=r"exists|malformed|is given"):
        TarShards(pattern)


def test_what_cannot_be_opened_raises(tmp_path, monkeypatch):
    with pytest.raises(SourceError, match="cannot be read: Is a directory"):
        TarShards([tmp_path])

    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(SourceError, match="cannot be listed: Permission denied"):
        TarShards(tmp_path)


# --- labels -----------------------------------------------------------------------------------


def test_label_missing_in_some_samples_of_a_split_raises(tmp_path, picture):
    write(tmp_path / "train-0.tar", *labeled(3, picture))
    write(tmp_path / "train-1.tar", {"__key__": "a", "jpg": picture(1)})
    with pytest.raises(SourceError, match=r"1 of 4 images of split 'train'.*: train-1.tar/a$"):
        TarShards(tmp_path)


def test_split_without_labels_beside_a_labeled_one_is_taken(tmp_path, picture):
    write(tmp_path / "train-0.tar", *labeled(3, picture))
    write(tmp_path / "test-0.tar", {"__key__": "a", "jpg": picture(1)})
    source = TarShards(tmp_path)
    assert listed(source, "test") == [("test-0.tar/a", -1)]
    assert source.class_names == ("0", "1", "2")


@pytest.mark.parametrize(
    ("extension", "content"),
    [
        ("cls", b"cat"),
        ("cls", b"-2"),
        ("cls", b""),
        ("cls", "٣".encode()),
        ("json", b'{"label": "cat"}'),
        ("json", b'{"label": true}'),
        ("json", b'{"label": 1.0}'),
        ("json", b'{"label": [1]}'),
    ],
)
def test_label_that_is_no_integer_raises(tmp_path, picture, extension, content):
    tar = pack(tmp_path / "x.tar", ("a.jpg", picture(1)), (f"a.{extension}", content))
    with pytest.raises(SourceError, match=r"x.tar': the label of sample 'a' is no integer from 0"):
        TarShards(tar)


def test_label_beyond_all_classes_raises(tmp_path, picture):
    tar = pack(tmp_path / "x.tar", ("a.jpg", picture(1)), ("a.cls", b"999999999999"))
    with pytest.raises(SourceError, match=r"label 999999999999 of x.tar/a is no class number"):
        TarShards(tar)


def test_label_apart_from_its_image_raises_and_is_not_lost(tmp_path, picture):
    names = ("a.jpg", "b.jpg", "a.cls", "b.cls")
    members = [(name, b"1" if name.endswith("cls") else picture(1)) for name in names]
    for number, order in enumerate((members, members[::-1])):
        tar = pack(tmp_path / f"{number}.tar", *order)
        with pytest.raises(SourceError, match=r"the members of sample '[ab]' are not adjacent"):
            TarShards(tar)


# --- damage -----------------------------------------------------------------------------------


def test_tar_cut_at_any_place_raises_and_names_the_file(tmp_path, picture):
    data = write(tmp_path / "x.tar", *labeled(3, picture)).read_bytes()
    end = len(data.rstrip(b"\0")) // 512 * 512 + 512  # the two blocks of zeros begin here
    cuts = [*range(0, end + 512, 512), *random.Random(1).sample(range(1, end), 40), end + 511]
    for cut in cuts:
        (tmp_path / "x.tar").write_bytes(data[:cut])
        if cut == end + 512:
            continue
        with pytest.raises(SourceError, match=r"x\.tar' is damaged"):
            TarShards(tmp_path)


def test_damaged_header_raises(tmp_path, picture):
    tar = write(tmp_path / "x.tar", *labeled(3, picture))
    with tarfile.open(tar) as opened:
        offsets = [info.offset for info in opened]
    data = tar.read_bytes()
    for offset in offsets:
        tar.write_bytes(data[:offset] + b"\xff" + data[offset + 1 :])
        with pytest.raises(SourceError, match=r"x\.tar' is damaged"):
            TarShards(tmp_path)


def test_joined_archives_raise(tmp_path, picture):
    one = write(tmp_path / "1.tar", *labeled(1, picture)).read_bytes()
    (tmp_path / "1.tar").write_bytes(one + one)
    with pytest.raises(SourceError, match="goes on after its end"):
        TarShards(tmp_path)


def test_trailing_zeros_and_empty_archives_are_whole(tmp_path, picture):
    one = write(tmp_path / "1.tar", *labeled(1, picture))
    one.write_bytes(one.read_bytes() + bytes(10240))
    pack(tmp_path / "2.tar")
    assert len(TarShards(tmp_path).items("train")) == 1


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tgz", "x.TAR.BZ2", "x.tar.zst"])
def test_compressed_tar_raises_with_the_reason(tmp_path, picture, name):
    write(tmp_path / "a.tar", *labeled(1, picture))
    (tmp_path / name).write_bytes(b"\x1f\x8b")
    for tars in (tmp_path, tmp_path / name):
        with pytest.raises(SourceError, match="is compressed") as caught:
            TarShards(tars)
        assert "unpack it" in caught.value.hint


def test_compressed_tar_under_another_name_raises(tmp_path, picture):
    with tarfile.open(tmp_path / "x.tar", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("a.jpg"))
    with pytest.raises(SourceError, match=r"x\.tar' is damaged or no tar archive"):
        TarShards(tmp_path)


def test_tar_cut_short_after_it_was_listed_fails_on_reading(tmp_path, picture):
    tar = write(tmp_path / "patient.tar", *labeled(2, picture))
    items = TarShards(tar).items("train")
    os.truncate(tar, 700)
    with pytest.raises(UnreadableImageError, match="cut short") as caught:
        items[1].read()
    assert "patient" not in str(caught.value)
    tar.unlink()
    with pytest.raises(UnreadableImageError, match="cannot be read") as caught:
        items[1].read()
    assert "patient" not in str(caught.value)


def test_pipe_in_the_place_of_a_tar_is_named_and_not_waited_for(tmp_path, picture):
    path = write(tmp_path / "a.tar", *labeled(2, picture))
    item = TarShards(path).items("train")[1]
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(SourceError, match=r"a\.tar' cannot be read: it is no regular file$"):
        TarShards(path)
    with pytest.raises(UnreadableImageError, match="its tar archive cannot be read: it is no regular"):
        item.read()


def test_pipe_in_the_place_of_a_manifest_is_only_a_stray(tmp_path, picture):
    write(tmp_path / "a.tar", *labeled(2, picture))
    os.mkfifo(tmp_path / "manifest.json")
    assert strays(TarShards(tmp_path)) == {"manifest.json": "is no tar archive"}


def test_folder_without_an_image_raises(tmp_path):
    with pytest.raises(SourceError, match="holds no tar archive"):
        TarShards(tmp_path)
    pack(tmp_path / "x.tar", ("a.txt", b""))
    with pytest.raises(SourceError, match="holds no tar with images"):
        TarShards(tmp_path)


# --- what is encrypted already ----------------------------------------------------------------


def test_encrypted_shards_are_refused(tmp_path, picture):
    (tmp_path / "plain").mkdir()
    for number in range(3):
        (tmp_path / f"plain/{number}.jpg").write_bytes(picture(number, size=(64, 64)))
    out = tmp_path / "out"
    write_shards(tmp_path / "plain", out, Cipher("etc-16", SecretKey(bytes(32))), size=64)
    shard = out / "train-000000.tar"
    for tars in (out, shard, out / "*.tar"):
        with pytest.raises(SourceError, match="already encrypted"):
            TarShards(tars)
    (out / "manifest.json").unlink()  # as in a run that was killed
    with pytest.raises(SourceError, match=r"train-000000.tar' is already encrypted"):
        TarShards(shard)


def test_another_manifest_is_only_a_stray(tmp_path, picture):
    write(tmp_path / "a.tar", *labeled(1, picture))
    for text in (json.dumps({"format": "mine"}), "[1]", "{", "[" * 100_000):
        (tmp_path / "manifest.json").write_text(text)
        assert strays(TarShards(tmp_path)) == {"manifest.json": "is no tar archive"}


# --- real shards ------------------------------------------------------------------------------


def test_real_shards_are_listed_and_read(pictures, contents):
    folder = pictures / "imagenette128"
    source = TarShards(folder)
    assert source.splits == ("train", "val")
    assert (len(source.items("train")), len(source.items("val"))) == (9469, 3925)
    assert source.class_names == tuple("0123456789")
    assert source.strays == ()
    for _, _, data in contents(TarShards(folder / "val-000003.tar"), "val")[::100]:
        assert load_rgb(data).size == (128, 128)
