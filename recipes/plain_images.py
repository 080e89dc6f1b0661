"""Plain images read into memory, a whole split at once."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from etc_data.errors import SettingsError, SourceError
from etc_data.recipes.settings import DataSettings
from etc_data.sources.images import load_rgb, resize_to
from etc_data.sources.item import Item
from etc_data.sources.selection import Selection
from etc_data.sources.spec import open_source


def load_images(data: DataSettings, *, training: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Reads a split of plain images into memory, with their labels.

    They are brought to `DataSettings.size`, unless all are squares of one smaller size: these stay as
    they are, for `TensorBatches` to enlarge on its device.

    Raises:
        SettingsError: the source has no such split.
        SourceError: the source cannot be read, or has no labels.
    """
    split, limit = (data.train, data.limit) if training else (data.val, data.val_limit)
    source = open_source(data.source)
    if split not in source.splits:
        name = "train" if training else "val"
        raise SettingsError(
            f"data.{name} is {split}, but {data.source} has no such split: it has "
            + ", ".join(source.splits),
            f"data.{name}={source.splits[0 if training else -1]}",
        )
    items = Selection(source, splits=[split], limit=limit).items(split)
    labels = np.array([item.label for item in items], np.int64)
    if not len(items) or labels.min() < 0:
        raise SourceError(f"split {split} of {data.source} has images without a label")
    width, height = load_rgb(items[0].read()).size
    images = _read(items, width) if width == height < data.size else None
    if images is None:
        images = _read(items, data.size, resize=True)
    assert images is not None
    return torch.from_numpy(images), torch.from_numpy(labels)


def _read(items: Sequence[Item], side: int, *, resize: bool = False) -> "npt.NDArray[np.uint8] | None":
    """Returns uint8 [N, 3, side, side]; None if an image has another size and may not be resized."""
    images = np.empty((len(items), 3, side, side), np.uint8)
    for number, item in enumerate(items):
        image = load_rgb(item.read())
        if image.size != (side, side):
            if not resize:
                return None
            image = resize_to(image, side, side, mode="crop")
        images[number] = np.asarray(image).transpose(2, 0, 1)
    return images
