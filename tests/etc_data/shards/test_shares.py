"""The arithmetic of shares, for all sizes; `turns` is the DataLoader's order of batches, told anew."""

from collections import Counter, deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etc_data.shards.shares import Shares, rank_share, worker_share

sizes = st.integers(0, 400)
few = st.integers(1, 17)


def shares_of(samples, world_size, policy):
    return [rank_share(samples, rank, world_size, policy) for rank in range(world_size)]


def positions(shares):
    return [position for share in shares for position in share]


@given(sizes, few)
def test_exact_shares_hold_every_sample_once_and_differ_by_one(samples, world_size):
    shares = shares_of(samples, world_size, "exact")
    assert positions(shares) == list(range(samples))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(st.integers(1, 400), few)
def test_padded_shares_are_equal_and_repeat_the_beginning(samples, world_size):
    shares = shares_of(samples, world_size, "pad")
    assert {len(share) for share in shares} == {-(-samples // world_size)}
    given = Counter(position % samples for position in positions(shares))
    assert given.keys() == set(range(samples))
    missing = -samples % world_size
    assert given == Counter(range(samples)) + Counter(i % samples for i in range(missing))


@given(sizes, few)
def test_dropped_shares_are_equal_and_leave_out_the_end(samples, world_size):
    if samples < world_size:
        with pytest.raises(ValueError, match=f"would drop everything: {samples} samples for"):
            rank_share(samples, 0, world_size, "drop")
        return
    shares = shares_of(samples, world_size, "drop")
    assert {len(share) for share in shares} == {samples // world_size}
    assert positions(shares) == list(range(samples - samples % world_size))


def test_an_empty_epoch_is_shared_by_all():
    assert shares_of(0, 3, "pad") == shares_of(0, 3, "exact") == [range(0)] * 3


def turns(batches_of_workers):
    """Takes a batch from each worker in turn, leaving out those that have none left."""
    waiting = deque(deque(batches) for batches in batches_of_workers)
    while waiting:
        worker = waiting.popleft()
        if worker:
            yield worker.popleft()
            waiting.append(worker)


@given(st.integers(0, 100), sizes, few, st.integers(1, 40), st.booleans())
def test_workers_give_whole_batches_and_the_short_one_last(
    start, length, workers, batch_size, drop_last
):
    share = range(start, start + length)
    parts = [worker_share(share, worker, workers, batch_size) for worker in range(workers)]
    assert sorted(positions(parts)) == list(share)
    assert all(part.step == 1 for part in parts)
    least = batch_size if drop_last else 1
    batches = [[part[i : i + batch_size] for i in range(0, len(part), batch_size)] for part in parts]
    counts = [len(each) for each in batches]
    assert max(counts) - min(counts) <= 1
    given = list(turns([[b for b in each if len(b) >= least] for each in batches]))
    assert len(given) == (length // batch_size if drop_last else -(-length // batch_size))
    assert all(len(batch) == batch_size for batch in given[:-1])
    if given:
        assert len(given[-1]) == (length - 1) % batch_size + 1 or drop_last


@given(
    st.integers(1, 400), few, st.integers(1, 5), st.integers(1, 20), st.sampled_from(["pad", "drop"])
)
def test_all_ranks_have_the_same_batches(samples, world_size, workers, batch_size, policy):
    if samples < world_size and policy == "drop":
        return
    layouts = {
        tuple(len(worker_share(share, worker, workers, batch_size)) for worker in range(workers))
        for share in shares_of(samples, world_size, policy)
    }
    assert len(layouts) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("equal", None, None, None), "ranks is 'equal'; it must be one of exact, pad, drop"),
        (("pad", 0, None, None), "batch_size is 0; it must be at least 1"),
        (("pad", -4, None, None), "batch_size is -4"),
        (("pad", 4, 1, None), "give both rank and world_size"),
        (("pad", 4, 2, 2), "rank 2 is not in 0 … 1"),
    ],
)
def test_unusable_shares_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Shares(*arguments)
