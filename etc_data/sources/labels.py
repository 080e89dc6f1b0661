"""What is asked of the labels of a split, wherever they come from."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from etc_data.errors import SourceError

Labels: TypeAlias = npt.NDArray[np.int64]

_MOST_CLASSES = 10**6


def count_classes(labels: Labels, split: str, item_id: Callable[[int], str]) -> int:
    """Returns how many classes the labels of a split number: the highest plus one, 0 without labels.

    Args:
        labels: int64 [items]; -1 stands for none.
        split: what errors call the split.
        item_id: returns the id of the item at an index.

    Raises:
        SourceError: some items have a label and some have none, or a label is no class number.

    Examples:
        >>> count_classes(np.array([2, 0, 1]), "train", str), count_classes(np.array([-1]), "test", str)
        (3, 0)
    """
    if not len(labels):
        return 0
    for extreme in (int(labels.argmin()), int(labels.argmax())):
        if not -1 <= labels[extreme] < _MOST_CLASSES:
            raise SourceError(
                f"label {labels[extreme]} of {item_id(extreme)} is no class number; "
                f"classes are numbered from 0, below {_MOST_CLASSES}"
            )
    missing = int(np.count_nonzero(labels < 0))
    if 0 < missing < len(labels):
        raise SourceError(
            f"{missing} of {len(labels)} images of split {split!r} have no label; the first: "
            f"{item_id(int((labels < 0).argmax()))}",
            "give a label to every image of a split, or to none",
        )
    return int(labels.max()) + 1
