"""The plain images of a study, all brought to one size."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from etc_data.errors import EtcError, ImageError, SourceError
from etc_data.fitting import prepare_image
from etc_data.sources.folder import printable
from etc_data.sources.images import load_rgb
from etc_data.sources.item import Source
from etc_data.sources.selection import spread


@dataclass(frozen=True)
class Photos:
    """Images of one size.

    Attributes:
        images: uint8 [n, H, W, 3], RGB.
        enlarged: how many were smaller than that size and had to be enlarged.
    """

    images: npt.NDArray[np.uint8]
    enlarged: int


def load_photos(
    source: Source, size: tuple[int, int], limit: int, step: Callable[[], Any] = lambda: None
) -> Photos:
    """Returns images of a source, evenly spread over all of its splits.

    Args:
        source: where they are.
        size: (height, width) in pixels that each is scaled to cover and then cropped to.
        limit: the most to take.
        step: called after each image.

    Raises:
        SourceError: there is no image.
        EtcError: an image cannot be read; the message names it.
    """
    lists = [source.items(split) for split in source.splits]
    ends = list(accumulate(len(items) for items in lists))
    count = ends[-1] if ends else 0
    if not count:
        raise SourceError("there is no image to study")
    images, enlarged = [], 0
    for number in spread(count, min(limit, count)):
        part = int(np.searchsorted(ends, number, side="right"))
        item = lists[part][number - ends[part]]  # counted from the end of its own list
        try:
            photo = load_rgb(item.read())
            pixels = np.asarray(prepare_image(photo, 1, size=size))
        except EtcError as error:
            raise ImageError(f"{printable(item.id)}: {error}", error.hint) from error
        enlarged += photo.height < size[0] or photo.width < size[1]
        images.append(pixels)
        step()
    return Photos(np.stack(images), enlarged)
