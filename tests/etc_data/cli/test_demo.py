"""`etc-data demo`: the whole way, once, and what it leaves behind."""

import re
import sys

import pytest
from PIL import Image

from etc_data import SecretKey
from etc_data.shards.verify import verify_shards

pytest.importorskip("skimage")
pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def demo(tmp_path_factory, command):
    """The folder and the result of one run."""
    folder = tmp_path_factory.mktemp("demo") / "demo"
    result = command("demo", folder)
    assert result.code == 0, result.err
    return folder, result


def test_table_goes_to_standard_output(demo):
    _, result = demo
    for text in ("scheme", "coding", "bytes of images", "decrypted PSNR", "plain", "exact"):
        assert text in result.out
    for scheme in ("etc-16, key per data set", "etc-16, key per image", "pe, key per image"):
        assert scheme in result.out


def test_what_was_done_and_where_it_lies_goes_to_standard_error(demo):
    folder, result = demo
    assert f"key       {folder}/demo.key, id {SecretKey.load(folder / 'demo.key').id}" in result.err
    assert (
        len(re.findall(r"^encrypted .*: (\d+) samples streamed back$", result.err, re.MULTILINE)) == 6
    )
    assert "\nwrong key refused: this was encrypted with key " in result.err
    assert f"\nlook at   {folder}/contact-sheet.png\n" in result.err
    assert re.search(r"^done in \d+ s$", result.err, re.MULTILINE)
    assert result.warnings == []
    assert "Traceback" not in result.err


def test_every_path_that_it_names_exists(demo):
    folder, result = demo
    words = {word.rstrip(",") for word in result.err.split() if word.startswith(str(folder))}
    assert len(words) >= 5
    for word in words:
        assert (folder / word).exists(), word


def test_sheet_is_a_readable_picture(demo):
    folder, _ = demo
    with Image.open(folder / "contact-sheet.png") as sheet:
        sheet.load()
        # Plain, six schemes, decrypted; five photos.
        assert 8 * 224 < sheet.width < 8 * 260
        assert 5 * 224 < sheet.height < 5 * 280


def test_data_sets_are_whole_and_sealed_with_the_key(demo):
    folder, _ = demo
    key = SecretKey.load(folder / "demo.key")
    sets = [path.parent for path in folder.glob("*/manifest.json")]
    assert len(sets) == 7
    counts = {verify_shards(path, key=key).samples for path in sets}
    assert counts == {len(list((folder / name).rglob("*.png"))) for name in ("photos", "digits")}


def test_secret_is_not_shown(demo):
    folder, result = demo
    secret = (folder / "demo.key").read_text().splitlines()[-1].rpartition("-")[2]
    assert secret[:20] not in result.out + result.err


def test_wrong_key_wrote_nothing(demo):
    folder, _ = demo
    assert not (folder / "never").exists()
    assert len(list((folder / "decrypted").rglob("*.png"))) > 0


def test_folder_that_is_not_empty_is_refused(etc, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    result = etc("demo", tmp_path)
    assert (result.code, result.out) == (1, "")
    assert result.error == f"{tmp_path} is not an empty folder"
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_file_is_no_folder(etc, tmp_path):
    (tmp_path / "file").write_text("precious")
    assert etc("demo", tmp_path / "file").code == 1
    assert (tmp_path / "file").read_text() == "precious"


def test_missing_photos_are_told_with_what_to_install(etc, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    result = etc("demo", tmp_path / "demo")
    assert (result.code, result.out) == (1, "")
    assert "scikit-learn" in result.error
    assert result.hint == "pip install 'etc-data[demo]'"
    assert list(tmp_path.iterdir()) == []
