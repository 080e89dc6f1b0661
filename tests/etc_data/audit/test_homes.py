import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from etc_data.audit.homes import Homes
from etc_data.audit.orientations import INVERSE, turn_positions

ROWS, COLUMNS = 6, 8


def shuffled_inside_blocks(span, seed):
    """Returns tiles [n] and the (row, column) of each, moved at random but inside its block."""
    random = np.random.default_rng(seed)
    cells = np.stack(np.divmod(np.arange(ROWS * COLUMNS), COLUMNS), axis=1)
    block = cells // span
    places = cells.copy()
    for corner in np.unique(block, axis=0):
        inside = np.flatnonzero((block == corner).all(axis=1))
        places[inside] = cells[random.permutation(inside)]
    members = random.permutation(len(cells))[: random.integers(1, 20)]
    return members, places[members]


@given(span=st.sampled_from([1, 2]), turn=st.integers(0, 7), seed=st.integers(0, 10**6))
def test_a_true_group_is_let_in_however_it_is_turned(span, turn, seed):
    members, places = shuffled_inside_blocks(span, seed)
    found = dict(Homes.of(ROWS, COLUMNS, span).offsets(members, turn_positions(places, turn)))
    assert int(INVERSE[turn]) in found
    assert (found[int(INVERSE[turn])] <= 0).all()


@given(span=st.sampled_from([1, 2]), seed=st.integers(0, 10**6))
def test_what_is_let_in_has_every_tile_at_home(span, seed):
    members, places = shuffled_inside_blocks(span, seed)
    homes = Homes.of(ROWS, COLUMNS, span)
    for turn, offset in homes.offsets(members, places):
        cells = turn_positions(places, turn) + offset
        assert np.array_equal(cells // span, homes.block[members])


def test_a_tile_out_of_its_block_is_not_let_in():
    homes = Homes.of(ROWS, COLUMNS, 2)
    members = np.array([0, 7, 40])
    places = np.stack(np.divmod(members, COLUMNS), axis=1)
    assert homes.offsets(members, places)
    places[2] -= (4, 0)
    assert not homes.offsets(members, places)


def test_only_neighbor_blocks_touch():
    touching = Homes.of(4, 4, 2).touching()
    assert touching[0, 2]
    assert touching[0, 13]
    assert not touching[0, 10]
