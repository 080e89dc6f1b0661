"""The order of an epoch, against a plain second implementation that lists it whole."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etc_data.shards.order import Order

counts_of_shards = st.lists(st.integers(0, 12), min_size=1, max_size=12).map(tuple)
seeds = st.integers(0, 2**40)


def listed(order, epoch, positions):
    return [(number, int(i)) for number, chosen in order.pieces(epoch, positions) for i in chosen]


def whole(counts, seed, epoch):
    """A shuffled epoch, as the documentation tells it: shards, then the samples of each."""
    random = np.random.default_rng((seed, epoch))
    shards = random.permutation(len(counts))
    inner_seeds = random.integers(2**63, size=len(counts))
    return [
        (shard, sample)
        for shard, inner_seed in zip(shards.tolist(), inner_seeds, strict=True)
        for sample in np.random.default_rng(inner_seed).permutation(counts[shard]).tolist()
    ]


@given(counts_of_shards, seeds, st.integers(0, 2**40), st.data())
def test_any_range_is_that_of_the_whole_order(counts, seed, epoch, data):
    order = Order(counts, True, seed)
    expected = whole(counts, seed, epoch)
    assert len(expected) == order.samples == sum(counts)
    first = data.draw(st.integers(0, 3 * order.samples))
    length = data.draw(st.integers(0, 2 * order.samples))
    assert listed(order, epoch, range(first, first + length)) == [
        expected[position % len(expected)] for position in range(first, first + length)
    ]


@given(counts_of_shards, seeds, st.integers(0, 9))
def test_an_epoch_holds_every_sample_once(counts, seed, epoch):
    samples = [(shard, i) for shard, count in enumerate(counts) for i in range(count)]
    for shuffle in (False, True):
        order = Order(counts, shuffle, seed)
        given = listed(order, epoch, range(order.samples))
        assert (sorted(given) if shuffle else given) == samples


def test_orders_are_those_that_checkpoints_rely_on():
    """They must never change: a state says only how many samples were given."""
    order = Order((3, 2, 4), True, 7)
    expected = [(1, 1), (1, 0), (0, 2), (0, 1), (0, 0), (2, 3), (2, 0), (2, 1), (2, 2)]
    assert listed(order, 5, range(9)) == expected


def test_negative_seed_is_refused():
    with pytest.raises(ValueError, match="seed is -1; it must be at least 0"):
        Order((1,), True, -1)


def test_large_data_sets_are_not_listed():
    order = Order((1000,) * 100_000, False, 0)
    assert listed(order, 0, range(10**8 - 1, 10**8 + 1)) == [(99_999, 999), (0, 0)]
