import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from etc_data.audit import orientations, tones
from etc_data.audit.orientations import ORIENTATIONS, SIDE_BACKWARD, SIDE_SOURCE, SIDES, orient
from etc_data.audit.tones import ORDERS, SIGNS, TONES
from etc_data.states import (
    color_states,
    invert_rows,
    join_rows,
    join_shared,
    orientation_states,
    polarity_states,
)

tone = st.integers(0, TONES - 1)
orientation = st.integers(0, ORIENTATIONS - 1)
PIXELS = np.random.default_rng(0).integers(0, 256, (5, 3)) - 127.5


def put(pixels, code):
    return SIGNS[code] * pixels[:, ORDERS[code]]


@given(first=tone, second=tone)
def test_tones_join_as_they_act_on_pixels(first, second):
    assert np.array_equal(put(put(PIXELS, first), second), put(PIXELS, tones.JOINED[second, first]))


@given(code=tone)
def test_the_inverse_tone_undoes_a_tone(code):
    assert np.array_equal(put(put(PIXELS, code), tones.INVERSE[code]), PIXELS)


@given(first=st.tuples(tone, orientation), second=st.tuples(tone, orientation))
def test_the_96_states_join_and_invert_as_the_plans_states_do(first, second):
    """Tables of the attacks against the signed permutations that the cipher itself uses."""
    rows = join_shared(
        color_states(4), join_shared(polarity_states(4), orientation_states(4))
    ).rows.reshape(TONES, ORIENTATIONS, -1)
    joined = join_rows(rows[second][None], rows[first][None])[0]
    code = tones.JOINED[second[0], first[0]], orientations.JOINED[second[1], first[1]]
    assert np.array_equal(joined, rows[code])
    inverse = tones.INVERSE[first[0]], orientations.INVERSE[first[1]]
    assert np.array_equal(invert_rows(rows[first][None])[0], rows[inverse])


@given(code=orientation, side=st.integers(0, SIDES - 1))
def test_sides_come_from_where_the_table_says(code, side):
    square = np.arange(16).reshape(4, 4)
    lines = square[0], square[-1], square[:, 0], square[:, -1]
    turned = orient(square, code)
    shown = (turned[0], turned[-1], turned[:, 0], turned[:, -1])[side]
    source = lines[SIDE_SOURCE[code, side]]
    assert np.array_equal(shown, source[::-1] if SIDE_BACKWARD[code, side] else source)
