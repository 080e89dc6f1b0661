"""The color transform agrees with JFIF's own words, and comes back within 1."""

import numpy as np
from PIL import Image

from etc_data.compression.ycbcr import to_rgb, to_ycbcr


def every_color(step: int) -> np.ndarray:
    """The RGB cube in steps, with both ends of every axis."""
    values = np.unique([*range(0, 256, step), 255]).astype(np.uint8)
    return np.stack(np.meshgrid(values, values, values, indexing="ij"), axis=-1)


def test_every_color_comes_back_within_1():
    colors = every_color(3)
    difference = np.abs(to_rgb(to_ycbcr(colors)).astype(int) - colors)
    assert difference.max() == 1


def test_gray_stays_as_it_is():
    gray = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    planes = to_ycbcr(gray)
    assert np.array_equal(planes[:, 0], gray[:, 0])
    assert (planes[:, 1:] == 128).all()
    assert np.array_equal(to_rgb(planes), gray)


def test_values_are_those_of_the_standard():
    # JFIF 1.02, page 3, with its own decimals.
    for red, green, blue in every_color(51).reshape(-1, 3).tolist():
        wanted = (
            0.299 * red + 0.587 * green + 0.114 * blue,
            -0.1687 * red - 0.3313 * green + 0.5 * blue + 128,
            0.5 * red - 0.4187 * green - 0.0813 * blue + 128,
        )
        met = to_ycbcr(np.array([red, green, blue], np.uint8))
        assert all(abs(a - b) <= 0.52 for a, b in zip(met.tolist(), wanted, strict=True))


def test_pillow_agrees_within_its_own_rounding():
    colors = every_color(5).reshape(1, -1, 3)
    theirs = np.asarray(Image.fromarray(colors).convert("YCbCr")).astype(int)
    assert np.abs(theirs - to_ycbcr(colors)).max() <= 1
