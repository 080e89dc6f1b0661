"""`etc-data preview`: one photo under every scheme, as a picture."""

import io

import numpy as np
import pytest
from PIL import Image

from etc_data import Cipher, SecretKey
from etc_data.presets import PRESET_NAMES


@pytest.fixture
def preview(etc, photo, key, tmp_path):
    """preview(options) writes tmp_path/"sheet.png" and returns the result."""

    def run(*options, source=photo, out=tmp_path / "sheet.png", runner=etc, stdin=b""):
        return runner("preview", source, "-o", out, "--key", key, *options, stdin=stdin)

    return run


def holds(sheet: Image.Image, part: np.ndarray) -> bool:
    """Tells whether a picture stands somewhere in a sheet, pixel for pixel."""
    pixels = np.asarray(sheet)
    height, width = part.shape[:2]
    corners = (pixels[: 1 - height or None, : 1 - width or None] == part[0, 0]).all(axis=2)
    return any(
        np.array_equal(pixels[y : y + height, x : x + width], part)
        for y, x in zip(*np.nonzero(corners), strict=True)
    )


def test_sheet_of_all_schemes_is_a_readable_picture(preview, tmp_path, key):
    result = preview()
    assert (result.code, result.out) == (0, "")
    identity = SecretKey.load(key).id
    count = len(PRESET_NAMES)
    assert result.err == (
        f"wrote {tmp_path}/sheet.png: the photo under {count} schemes, with key {identity}\n"
    )
    with Image.open(tmp_path / "sheet.png") as sheet:
        sheet.load()
        assert (sheet.format, sheet.mode) == ("PNG", "RGB")
        # Five columns of 224 pixels; for the plain photo and 14 schemes three rows of two pictures.
        assert 5 * 224 < sheet.width < 5 * (224 + 40)
        assert 6 * 224 < sheet.height < 6 * (224 + 80)


def test_sheet_shows_the_plain_the_encrypted_and_the_decrypted_photo(preview, tmp_path, photo, key):
    assert preview("--schemes", "vit-16/8", "--size", "64x96").code == 0
    sheet = Image.open(tmp_path / "sheet.png")
    plain = np.asarray(Image.open(photo))
    assert holds(sheet, plain)
    assert holds(sheet, Cipher("vit-16/8", SecretKey.load(key)).encrypt(plain))
    # vit-16/8 is coded without loss, so that the decrypted photo is the plain one once more.
    assert holds(sheet.crop((96 + 24, 0, *sheet.size)), plain)


def test_other_key_gives_another_sheet(preview, etc, tmp_path, photo, other_key):
    preview("--schemes", "etc-16", out=tmp_path / "a.png")
    preview("--schemes", "etc-16", out=tmp_path / "again.png")
    etc("preview", photo, "-o", tmp_path / "b.png", "--key", other_key, "--schemes", "etc-16")
    first, again, other = ((tmp_path / f"{name}.png").read_bytes() for name in ("a", "again", "b"))
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    ("names", "count"),
    [("etc-16", 1), ("etc-16,ind-16/8", 2), (" etc-8 , pe,", 2), ("flip-8,le-8,ele-8", 3)],
)
def test_schemes_are_named_with_commas(preview, names, count):
    result = preview("--schemes", names)
    assert result.code == 0
    assert f"the photo under {count} schemes" in result.err


@pytest.mark.parametrize("names", ["bogus", "etc-16,bogus", "etc-16;pe"])
def test_unknown_scheme_is_refused(preview, tmp_path, names):
    result = preview("--schemes", names)
    assert (result.code, result.out) == (1, "")
    assert result.error.startswith("there is no scheme '")
    assert result.hint == "etc-data schemes explains them"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("size", "quality"), [("100", "95"), ("48x80", "10"), ("1", "100")])
def test_any_size_and_quality_do(preview, tmp_path, size, quality):
    result = preview("--schemes", "etc-16,pe", "--size", size, "--quality", quality)
    assert result.code == 0, result.err
    Image.open(tmp_path / "sheet.png").load()


def test_sheet_goes_to_standard_output(preview, photo, tmp_path):
    result = preview("--schemes", "etc-16", source="-", out="-", stdin=photo.read_bytes())
    assert (result.code, result.err) == (0, "")
    Image.open(io.BytesIO(result.raw)).load()
    assert list(tmp_path.iterdir()) == []


def test_sheet_must_be_called_png(preview, tmp_path):
    result = preview(out=tmp_path / "sheet.jpg")
    assert (result.code, result.error) == (1, f"{tmp_path}/sheet.jpg must end with .png")
    assert list(tmp_path.iterdir()) == []


def test_existing_file_is_refused_unless_forced(preview, tmp_path):
    (tmp_path / "sheet.png").write_text("precious")
    result = preview("--schemes", "etc-16")
    assert (result.code, result.error) == (1, f"{tmp_path}/sheet.png exists already")
    assert (tmp_path / "sheet.png").read_text() == "precious"
    assert preview("--schemes", "etc-16", "--force").code == 0
    Image.open(tmp_path / "sheet.png").load()


def test_file_that_is_no_photo_is_refused_by_name(preview, tmp_path, key):
    result = preview(source=key)
    assert (result.code, result.out) == (1, "")
    assert result.error.startswith(f"{key}: cannot be read: ")
    assert list(tmp_path.iterdir()) == []


def test_folder_is_no_photo(preview, tmp_path, photos):
    result = preview(source=photos)
    assert (result.code, result.out) == (1, "")
    assert str(photos) in result.error
    assert list(tmp_path.iterdir()) == []
