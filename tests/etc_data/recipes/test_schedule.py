import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etc_data.recipes.schedule import learning_rate_factor

schedules = st.sampled_from(["cosine", "triangular", "steps", "constant"])


@given(schedules, st.floats(0, 1), st.floats(0, 1))
def test_factors_are_between_nothing_and_all(schedule, progress, warmup):
    assert 0 <= learning_rate_factor(schedule, progress, warmup) <= 1


@given(
    schedules.filter(lambda schedule: schedule != "steps"), st.floats(0, 0.999), st.floats(0.05, 0.5)
)
def test_factors_have_no_jumps(schedule, progress, warmup):
    one, two = (learning_rate_factor(schedule, p, warmup) for p in (progress, progress + 0.001))
    assert abs(one - two) < 0.03


def test_cosine_warms_up_and_ends_at_nothing():
    factors = [learning_rate_factor("cosine", p, 0.2) for p in (0, 0.1, 0.2, 0.6, 1)]
    assert factors == pytest.approx([0, 0.5, 1, 0.5, 0])
    assert learning_rate_factor("cosine", 0.25, 0) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)


def test_steps_are_tenths_after_half_and_after_three_quarters():
    factors = [learning_rate_factor("steps", p, 0.2) for p in (0.1, 0.2, 0.499, 0.5, 0.749, 0.75, 1)]
    assert factors == [0.5, 1, 1, 0.1, 0.1, 0.01, 0.01]


def test_constant_stays_after_its_warmup():
    assert [learning_rate_factor("constant", p, 0.5) for p in (0.25, 0.5, 1)] == [0.5, 1, 1]
