import numpy as np
import torch

from etc_data.augmentation import Augmentation
from etc_data.recipes.augmenting import change_batch, erase


def test_a_share_of_images_has_one_box_of_noise():
    images = torch.zeros(2000, 3, 24, 40, dtype=torch.uint8)
    changed = (erase(images, 0.25, np.random.default_rng(0)) > 0).any(dim=1)
    erased = changed.any(dim=(1, 2))
    assert 0.22 < erased.float().mean() < 0.28
    heights, widths = (changed[erased].any(dim=d).sum(dim=1) for d in (2, 1))
    spans = [changed[erased].any(dim=d).float().argmax(dim=1) for d in (2, 1)]  # where each box begins
    for image, top, left, height, width in zip(changed[erased], *spans, heights, widths, strict=True):
        assert image[top : top + height, left : left + width].all()
        assert image.sum() == height * width
    shares = heights * widths / (24 * 40)
    assert 0.01 < shares.min() < 0.05
    assert 0.25 < shares.max() < 0.37
    assert len(set(heights.tolist())) > 10


def test_nothing_is_erased_without_a_share():
    images = torch.arange(2 * 3 * 8 * 8, dtype=torch.uint8).reshape(2, 3, 8, 8)
    assert torch.equal(erase(images, 0.0, np.random.default_rng(0)), images)


def test_a_recipe_brings_images_to_size_and_each_has_its_own_seed():
    images = torch.arange(3 * 8 * 8, dtype=torch.uint8).reshape(1, 3, 8, 8).repeat(20, 1, 1, 1)
    turned = change_batch(images, Augmentation("flip"), 8, np.random.default_rng(0))
    same = [torch.equal(one, other) for one, other in zip(images, turned, strict=True)]
    flipped = [torch.equal(one.flip(-1), other) for one, other in zip(images, turned, strict=True)]
    assert all(a != b for a, b in zip(same, flipped, strict=True))
    assert 4 < sum(same) < 16
    large = change_batch(images, Augmentation("crop:0.2"), 16, np.random.default_rng(0))
    assert large.shape == (20, 3, 16, 16)
    assert len({image.numpy().tobytes() for image in large}) > 10
