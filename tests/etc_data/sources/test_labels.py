import numpy as np
import pytest

from etc_data.errors import SourceError
from etc_data.sources.labels import count_classes


def count(*labels: int) -> int:
    return count_classes(np.array(labels, np.int64), "train", "item {}".format)


def test_classes_are_counted_up_to_the_highest_label():
    assert count(1, 0, 5) == 6
    assert count(-1, -1) == 0
    assert count() == 0
    assert count(999_999) == 1_000_000


def test_gap_raises_and_names_the_first_item():
    with pytest.raises(SourceError, match=r"2 of 4 images of split 'train' have no label.*: item 1$"):
        count(0, -1, 3, -1)


@pytest.mark.parametrize("label", [-2, 1_000_000, 2**63 - 1, -(2**63)])
def test_label_that_is_no_class_number_raises(label):
    with pytest.raises(SourceError, match=rf"label {label} of item 1 is no class number"):
        count(3, label)
