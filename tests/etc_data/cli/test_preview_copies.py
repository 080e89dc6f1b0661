"""`etc-data preview --augment`: augmented copies above their encryptions."""

import io

import numpy as np
import pytest
from PIL import Image

from etc_data import Cipher, SecretKey
from etc_data.codecs import PngCodec
from etc_data.shards import decrypt_shards, write_shards


@pytest.fixture
def preview(etc, photo, key, tmp_path):
    """preview(options) draws the photo with its copies and returns (result, sheet or None)."""

    def run(*options):
        out = tmp_path / "sheet.png"
        result = etc("preview", photo, "-o", out, "--key", key, "--size", 48, *options)
        return result, Image.open(io.BytesIO(out.read_bytes())) if out.exists() else None

    return run


def holds(sheet, part):
    """Tells whether a picture stands somewhere in a sheet, pixel for pixel."""
    pixels = np.asarray(sheet)
    height, width = part.shape[:2]
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (height, width, 3))[:, :, 0]
    corners = (pixels[: 1 - height, : 1 - width] == part[0, 0]).all(axis=2)
    return any(np.array_equal(windows[y, x], part) for y, x in zip(*np.nonzero(corners), strict=True))


def test_sheet_shows_the_copies_that_encrypt_writes(preview, tmp_path, photo, key):
    result, sheet = preview("--schemes", "vit-16/8", "--augment", "crop+flip+color", "--copies", 3)
    assert result.code == 0
    assert result.err.endswith(f"3 copies under 1 schemes, with key {SecretKey.load(key).id}\n")
    (tmp_path / "in" / "train").mkdir(parents=True)
    (tmp_path / "in" / "train" / photo.name).write_bytes(photo.read_bytes())
    cipher = Cipher("vit-16/8", SecretKey.load(key))
    options = {"size": 48, "codec": PngCodec(), "augment": "crop+flip+color", "copies": 3}
    write_shards(tmp_path / "in", tmp_path / "out", cipher, **options)
    decrypt_shards(tmp_path / "out", tmp_path / "plain", SecretKey.load(key))
    plain = [np.asarray(Image.open(path)) for path in (tmp_path / "plain").rglob("*.png")]
    assert len({pixels.tobytes() for pixels in plain}) == 3
    for pixels in plain:
        assert holds(sheet, pixels)
        assert holds(sheet, cipher.encrypt(pixels))


def test_sheet_has_a_row_for_each_scheme_and_a_column_for_each_copy(preview):
    _, sheet = preview("--schemes", "etc-16,ind-16,pe", "--augment", "shift:8")
    assert 4 * 48 < sheet.width < 4 * (48 + 40)
    assert 4 * 48 < sheet.height < 4 * (48 + 40)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--copies", 3], "--copies needs --augment RECIPE"),
        (["--augment", "mixup"], "augmentation 'mixup' is unknown; known are crop, shift, flip"),
        (["--augment", "flip", "--copies", 17], "17 is not in the range 1<=x<=16"),
    ],
)
def test_options_that_cannot_be_met_are_refused(preview, options, message):
    result, sheet = preview(*options)
    assert message in result.error
    assert sheet is None
