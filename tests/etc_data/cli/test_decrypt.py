"""`etc-data decrypt`: folders of shards and single images, and a key that is not the right one."""

import io
import os

import numpy as np
import pytest
from PIL import Image

from etc_data import SecretKey
from etc_data.shards.ledger import Ledger

WRONG = "this was encrypted with key {}, but the key given is {}"


@pytest.fixture(scope="module")
def query(tmp_path_factory, etc, photo, key):
    """`photo` as one encrypted image."""
    path = tmp_path_factory.mktemp("query") / "query.png"
    assert etc("encrypt", photo, "-o", path, "--key", key).code == 0
    return path


def pixels(path) -> np.ndarray:
    return np.asarray(Image.open(path))


def wrong_key(key, other_key) -> str:
    return WRONG.format(SecretKey.load(key).id, SecretKey.load(other_key).id)


def test_folder_comes_back_with_the_names_of_its_sources(command, etc, photos, key, tmp_path):
    assert etc("encrypt", photos, tmp_path / "out", "--key", key, "--lossless").code == 0
    result = command("decrypt", tmp_path / "out", tmp_path / "plain", "--key", key)
    assert (result.code, result.out) == (0, "")
    assert result.err == (
        f"wrote 8 decrypted images to {tmp_path}/plain, named like their sources\n"  # nothing else
    )
    found = sorted((tmp_path / "plain").rglob("*.png"))
    assert len(found) == 8
    for path in found:
        source = photos / path.relative_to(tmp_path / "plain").with_suffix("")
        assert np.array_equal(pixels(path), pixels(source))


def test_jpeg_data_set_comes_back_nearly_exact(etc, written, photos, key, tmp_path):
    assert etc("decrypt", written, tmp_path / "plain", "--key", key).code == 0
    for path in (tmp_path / "plain").rglob("*.png"):
        source = Image.open(photos / path.relative_to(tmp_path / "plain").with_suffix(""))
        difference = pixels(path).astype(int) - np.asarray(source)[:, 16:80]
        assert np.abs(difference).mean() < 3


def test_without_the_ledger_names_come_from_the_samples(etc, data_set, key, tmp_path):
    result = etc("decrypt", data_set, tmp_path / "plain", "--key", key)
    assert result.err.endswith("named by their sample keys\n")
    names = [str(path.relative_to(tmp_path / "plain")) for path in (tmp_path / "plain").rglob("*.png")]
    assert len(names) == 8
    assert all(name.startswith(("train/0000/train-", "train/0001/train-")) for name in names)


def test_format_jpg_writes_jpeg(etc, written, key, tmp_path):
    assert etc("decrypt", written, tmp_path / "plain", "--key", key, "--format", "jpg").code == 0
    files = [path for path in (tmp_path / "plain").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".jpg"}
    assert all(path.read_bytes().startswith(b"\xff\xd8") for path in files)


def test_image_scope_data_set_comes_back(etc, photos, key, tmp_path):
    options = ["--key", key, "--lossless", "--key-scope", "image", "--context", "ward 7"]
    assert etc("encrypt", photos, tmp_path / "out", *options).code == 0
    assert etc("decrypt", tmp_path / "out", tmp_path / "plain", "--key", key).code == 0
    name = next(iter(Ledger.of(tmp_path / "out").read_items("train-000000.tar").values()))
    assert np.array_equal(pixels(tmp_path / "plain" / f"{name}.png"), pixels(photos / name))


def test_wrong_key_of_a_folder_is_refused_by_its_id(command, written, key, other_key, tmp_path):
    result = command("decrypt", written, tmp_path / "plain", "--key", other_key)
    assert (result.code, result.out) == (1, "")
    assert result.error == wrong_key(key, other_key)
    assert result.hint.startswith("pixels cannot tell a wrong key")
    assert list(tmp_path.iterdir()) == []


def test_wrong_key_of_an_image_is_refused_by_its_id(etc, query, key, other_key, tmp_path):
    result = etc("decrypt", query, "-o", tmp_path / "plain.png", "--key", other_key)
    assert (result.code, result.out) == (1, "")
    assert result.error == f"{query}: {wrong_key(key, other_key)}"
    assert list(tmp_path.iterdir()) == []


def test_wrong_key_writes_nothing_to_standard_output(etc, query, other_key):
    result = etc("decrypt", query, "-o", "-", "--key", other_key)
    assert (result.code, result.raw) == (1, b"")


def test_image_comes_back_exact(etc, query, photo, key, tmp_path):
    result = etc("decrypt", query, "-o", tmp_path / "plain.png", "--key", key)
    assert (result.code, result.out) == (0, "")
    assert result.err == f"wrote {tmp_path}/plain.png: 96×64 pixels\n"
    assert np.array_equal(pixels(tmp_path / "plain.png"), pixels(photo))


def test_image_goes_through_a_pipe(command, query, photo, key):
    result = command("decrypt", "-", "-o", "-", "--key", key, stdin=query.read_bytes())
    assert (result.code, result.err) == (0, "")
    assert np.array_equal(pixels(io.BytesIO(result.raw)), pixels(photo))


def test_image_is_written_as_jpeg_where_the_name_says_so(etc, query, key, tmp_path):
    assert etc("decrypt", query, "-o", tmp_path / "plain.jpg", "--key", key).code == 0
    assert (tmp_path / "plain.jpg").read_bytes().startswith(b"\xff\xd8")


def test_other_extensions_are_refused(etc, query, key, tmp_path):
    result = etc("decrypt", query, "-o", tmp_path / "plain.webp", "--key", key)
    assert (result.code, result.out) == (1, "")
    assert result.error == f"{tmp_path}/plain.webp must end with .png or .jpg, which tells the coding"
    assert list(tmp_path.iterdir()) == []


def test_existing_file_is_refused_unless_forced(etc, query, key, tmp_path, photo):
    path = tmp_path / "plain.png"
    path.write_text("precious")
    result = etc("decrypt", query, "-o", path, "--key", key)
    assert (result.code, result.error) == (1, f"{path} exists already")
    assert path.read_text() == "precious"
    assert etc("decrypt", query, "-o", path, "--key", key, "--force").code == 0
    assert np.array_equal(pixels(path), pixels(photo))


def test_folder_that_is_not_empty_is_refused(etc, written, key, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    result = etc("decrypt", written, tmp_path, "--key", key)
    assert (result.code, result.error) == (1, f"{tmp_path} is not an empty folder")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("parent", ["file", "/proc"])
def test_folder_that_cannot_be_made_is_named(etc, written, key, tmp_path, parent):
    if not os.path.isdir("/proc"):
        pytest.skip("no /proc here")
    (tmp_path / "file").write_text("precious")
    out = tmp_path / parent / "plain"
    result = etc("decrypt", written, out, "--key", key)
    assert (result.code, result.out) == (1, "")
    assert result.error.startswith(f"{out} cannot be written: ")


def test_folder_without_manifest_is_no_data_set(etc, photos, key, tmp_path):
    result = etc("decrypt", photos, tmp_path / "plain", "--key", key)
    assert (result.code, result.error) == (
        1,
        f"{photos} is no finished data set: it has no manifest.json",
    )
    assert list(tmp_path.iterdir()) == []


def test_image_without_note_is_refused_by_name(etc, photo, key, tmp_path):
    result = etc("decrypt", photo, "-o", tmp_path / "plain.png", "--key", key)
    assert (result.code, result.out) == (1, "")
    assert result.error.startswith(f"{photo}: this image carries no note of etc-data")
    assert "programs that re-save images drop it" in result.hint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("data", [b"", b"no photo", b"\x89PNG\r\n\x1a\n"])
def test_garbage_is_refused(etc, key, tmp_path, data):
    result = etc("decrypt", "-", "-o", tmp_path / "plain.png", "--key", key, stdin=data)
    assert (result.code, result.out) == (1, "")
    assert result.error.startswith("standard input: ")
    assert list(tmp_path.iterdir()) == []


def test_cut_image_is_refused(etc, query, key, tmp_path):
    data = query.read_bytes()
    result = etc("decrypt", "-", "-o", tmp_path / "plain.png", "--key", key, stdin=data[:-3000])
    assert (result.code, result.out) == (1, "")
    assert result.error.startswith("standard input: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("harm", ["flip", "cut", "remove", "forge"])
def test_damaged_data_set_is_refused(etc, data_set, key, tmp_path, harm):
    shard = data_set / "train-000000.tar"
    data = bytearray(shard.read_bytes())
    if harm == "flip":
        data[len(data) // 2] ^= 1
        shard.write_bytes(data)
    elif harm == "cut":
        shard.write_bytes(data[:-10_240])
    elif harm == "remove":
        shard.unlink()
    else:
        manifest = data_set / "manifest.json"
        manifest.write_text(manifest.read_text().replace('"quality": 95', '"quality": 94'))
    result = etc("decrypt", data_set, tmp_path / "plain", "--key", key)
    assert (result.code, result.out) == (1, "")
    assert ("the manifest was altered" if harm == "forge" else "shard train-000000.tar") in result.error
    assert not list(tmp_path.rglob("plain/**/*.png"))


def test_image_needs_a_file_and_a_folder_needs_a_folder(etc, written, query, key, tmp_path):
    for out in ([], [tmp_path / "x"], [tmp_path / "x", "-o", tmp_path / "y.png"]):
        result = etc("decrypt", query, *out, "--key", key)
        assert result.code == 2
        assert result.error == "for one image give the file to write: -o FILE (or -o -)"
    for out in ([], ["-o", tmp_path / "y.png"], [tmp_path / "x", "-o", "-"]):
        result = etc("decrypt", written, *out, "--key", key)
        assert result.code == 2
        assert result.error == "for shards give the folder to write: etc-data decrypt SOURCE DIR"
    assert list(tmp_path.iterdir()) == []


def test_option_without_effect_is_refused_instead_of_ignored(etc, written, query, key, tmp_path):
    result = etc("decrypt", query, "-o", tmp_path / "x.png", "--key", key, "--format", "jpg")
    assert result.code == 2
    assert result.error.startswith("--format is for folders")
    result = etc("decrypt", written, tmp_path / "x", "--key", key, "--force")
    assert result.code == 2
    assert result.error.startswith("--force is for one image")
    assert list(tmp_path.iterdir()) == []
