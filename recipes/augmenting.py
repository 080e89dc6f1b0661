"""What is done at random to plain images, before they are encrypted."""

import math

import numpy as np
import torch
from PIL import Image

from etc_data.augmentation import Augmentation
from etc_data.recipes.settings import AugmentSettings
from etc_data.sources.images import resize_to

_ERASED_SHARE = 0.02, 1 / 3  # of an image's area
_ERASED_SHAPE = 0.3, 1 / 0.3  # height by width


def augment_batch(
    images: torch.Tensor, augment: AugmentSettings, generator: np.random.Generator
) -> torch.Tensor:
    """Returns images shifted, flipped and erased, each at random and as the settings ask for.

    Args:
        images: uint8 [N, 3, H, W], on any device.
        augment: of the run.
        generator: of all random numbers.

    Returns:
        uint8 [N, 3, H, W] on the same device.
    """
    if augment.shift:
        images = shift(images, augment.shift, generator)
    if augment.flip:
        turned = _to(images, generator.integers(2, size=len(images)).astype(bool))
        images = torch.where(turned[:, None, None, None], images.flip(-1), images)
    if augment.erase:
        images = erase(images, augment.erase, generator)
    return images


def shift(images: torch.Tensor, most: int, generator: np.random.Generator) -> torch.Tensor:
    """Returns images moved by up to `most` pixels each way, over black borders."""
    count, _, height, width = images.shape
    padded = torch.nn.functional.pad(images, (most, most, most, most))
    top, left = _to(images, generator.integers(2 * most + 1, size=(2, count)))
    rows = top[:, None] + torch.arange(height, device=images.device)
    columns = left[:, None] + torch.arange(width, device=images.device)
    numbers = torch.arange(count, device=images.device)[:, None, None, None]
    planes = torch.arange(3, device=images.device)[:, None, None]
    return padded[numbers, planes, rows[:, None, :, None], columns[:, None, None, :]]


def erase(images: torch.Tensor, share: float, generator: np.random.Generator) -> torch.Tensor:
    """Returns images of which a share has a box of noise (Zhong et al., Random erasing, 2020)."""
    count, _, height, width = images.shape
    area = generator.uniform(*_ERASED_SHARE, count) * height * width
    shape = np.exp(generator.uniform(math.log(_ERASED_SHAPE[0]), math.log(_ERASED_SHAPE[1]), count))
    sides = np.sqrt(np.stack([area * shape, area / shape])).round()
    limits = np.array([[height], [width]])
    sides = np.minimum(sides, limits).astype(np.int64) * (generator.random(count) < share)
    first = (generator.random((2, count)) * (limits - sides + 1)).astype(np.int64)
    rows, columns = (
        (place[:, None] <= np.arange(limit)) & (np.arange(limit) < (place + side)[:, None])
        for place, side, limit in zip(first, sides, (height, width), strict=True)
    )
    box = _to(images, rows[:, None, :, None] & columns[:, None, None, :])
    noise = _to(images, generator.integers(256, size=tuple(images.shape), dtype=np.uint8))
    return torch.where(box, noise, images)


def change_batch(
    images: torch.Tensor, augmentation: Augmentation, side: int, generator: np.random.Generator
) -> torch.Tensor:
    """Returns images changed by a recipe and brought to size, one after the other on the processor.

    Args:
        images: uint8 [N, 3, H, W], on any device.
        augmentation: the recipe.
        side: of the result, in pixels.
        generator: of all random numbers.

    Returns:
        uint8 [N, 3, side, side] on the same device.
    """
    pixels = images.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    seeds = generator.integers(2**63, size=len(pixels))
    changed = [
        augmentation(
            Image.fromarray(image), lambda whole: resize_to(whole, side, side), (side, side), seed
        )
        for image, seed in zip(pixels, seeds.tolist(), strict=True)
    ]
    return _to(images, np.stack([np.asarray(image) for image in changed])).permute(0, 3, 1, 2)


def _to(
    images: torch.Tensor, values: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]"
) -> torch.Tensor:
    return torch.from_numpy(values).to(images.device)
