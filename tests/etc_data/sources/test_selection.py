import pickle
from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etc_data.errors import SourceError
from etc_data.sources import ImageFolder, Item, Selection, Source
from etc_data.sources.selection import spread


@dataclass
class Numbers:
    """A source whose items carry the labels given for each split."""

    labels: dict[str, list[int]]
    class_names = ("a", "b")
    strays = ()

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.labels)

    def items(self, split: str) -> list[Item]:
        return [Item(f"{split}/{i:09d}", label, bytes) for i, label in enumerate(self.labels[split])]


def test_selection_without_a_wish_is_the_source(tmp_path, picture):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/1.jpg").write_bytes(picture(1))
    (tmp_path / "notes.txt").write_text("")
    whole = ImageFolder(tmp_path)
    source: Source = Selection(whole)
    assert source.splits == whole.splits
    assert source.class_names == whole.class_names
    assert source.strays == whole.strays
    assert list(source.items("train")) == list(whole.items("train"))
    assert Selection(whole).root == whole.root


def test_splits_are_chosen_in_the_order_of_the_source():
    whole = Numbers({"train": [0], "val": [1], "test": [0]})
    source = Selection(whole, splits=["test", "train"])
    assert source.splits == ("train", "test")
    with pytest.raises(SourceError, match="'val' does not exist; there are train, test"):
        source.items("val")


def test_limit_holds_for_each_split_by_itself(contents, tmp_path, picture):
    for number in range(7):
        for name in (f"train/{'ab'[number % 2]}/{number}.jpg", f"val/a/{number}.jpg"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(picture(number))
    whole = ImageFolder(tmp_path)
    source = Selection(whole, limit=4)
    assert [len(source.items(split)) for split in source.splits] == [4, 4]
    found = contents(source)
    assert [name for name, _, _ in found] == sorted(name for name, _, _ in found)
    assert {label for _, label, _ in found} == {0, 1}
    assert list(Selection(whole, limit=7).items("train")) == list(whole.items("train"))


def test_classes_are_covered_whether_items_are_sorted_or_take_turns():
    in_order = [label for label in range(10) for _ in range(100)]
    for labels in (in_order, [i % 10 for i in range(1000)], [i % 7 for i in range(1000)]):
        for limit in (50, 100, 200):
            items = Selection(Numbers({"train": labels}), limit=limit).items("train")
            counts = Counter(item.label for item in items)
            expected = limit / len(set(labels))
            assert len(counts) == len(set(labels))
            assert max(abs(count - expected) for count in counts.values()) <= 0.4 * expected + 1


@given(st.integers(1, 3000), st.data())
def test_spread_takes_one_of_each_stretch(count, data):
    limit = data.draw(st.integers(1, count))
    numbers = spread(count, limit)
    assert len(numbers) == limit
    for index, number in enumerate(numbers):
        assert index * count // limit <= number < (index + 1) * count // limit


def test_selection_survives_pickling():
    source = Selection(Numbers({"train": [0, 1] * 50}), limit=3)
    copy = pickle.loads(pickle.dumps(source))
    assert list(copy.items("train")) == list(source.items("train"))


def test_unknown_split_and_useless_numbers_raise():
    whole = Numbers({"train": [0], "val": [0]})
    with pytest.raises(SourceError, match="'test' does not exist; there are train, val"):
        Selection(whole, splits=["train", "test"])
    with pytest.raises(ValueError, match="no split is named"):
        Selection(whole, splits=[])
    with pytest.raises(ValueError, match="limit is 0; it must be at least 1"):
        Selection(whole, limit=0)
