"""The images of a study: of one size, from all splits, and clear errors."""

import numpy as np
import pytest
from PIL import Image

from etc_data.compression.photos import load_photos
from etc_data.errors import ImageError
from etc_data.sources import open_source


@pytest.fixture
def folder(tmp_path, smooth_pixels):
    for split, shade in (("train", 40), ("val", 200)):
        for number in range(3):
            path = tmp_path / split / "cat" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.full((48, 64, 3), shade + number, np.uint8)
            Image.fromarray(pixels).save(path)
    return tmp_path


def shades(photos):
    return photos.images[:, 0, 0, 0].tolist()


def test_images_of_all_splits_come_in_order(folder):
    calls = []
    photos = load_photos(open_source(folder), (32, 32), 10, step=lambda: calls.append(1))
    assert photos.images.shape == (6, 32, 32, 3)
    assert shades(photos) == [40, 41, 42, 200, 201, 202]
    assert (photos.enlarged, len(calls)) == (0, 6)


def test_limit_spreads_over_the_splits(folder):
    met = shades(load_photos(open_source(folder), (32, 32), 2))
    assert len(met) == 2
    assert met[0] < 100 < met[1]


def test_small_images_are_counted(folder):
    assert load_photos(open_source(folder), (48, 80), 10).enlarged == 6
    assert load_photos(open_source(folder), (48, 64), 10).enlarged == 0


def test_unreadable_image_is_named(folder):
    (folder / "val" / "cat" / "1.png").write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"cat/1\.png: cannot be read"):
        load_photos(open_source(folder), (32, 32), 10)
