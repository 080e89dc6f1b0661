import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from etc_data.recipes.resizing import resize_batch
from etc_data.sources.images import resize_to


def by_pillow(images, side):
    resized = [
        np.asarray(resize_to(Image.fromarray(image.transpose(1, 2, 0)), side, side)) for image in images
    ]
    return np.stack(resized).transpose(0, 3, 1, 2)


@given(arrays.arrays(np.uint8, (2, 3, 8, 8)), st.integers(1, 20))
def test_values_are_pillows(images, side):
    resized = resize_batch(torch.from_numpy(images), side).numpy()
    assert np.abs(resized.astype(int) - by_pillow(images, side)).max() <= 2


@pytest.mark.parametrize("side", [16, 64, 96])
def test_on_photos_hardly_any_value_differs(side, pictures):
    photos = [
        Image.open(path).convert("RGB") for path in sorted((pictures / "kodak24").glob("*.png"))[:8]
    ]
    pixels = np.stack([np.asarray(resize_to(photo, 32, 32)).transpose(2, 0, 1) for photo in photos])
    different = resize_batch(torch.from_numpy(pixels), side).numpy() != by_pillow(pixels, side)
    assert different.mean() < 0.01


def test_images_that_have_the_size_are_not_copied():
    images = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    assert resize_batch(images, 8) is images
