from math import factorial, log2

import pytest

from etc_data.audit.key_space import key_space
from etc_data.schemes import Scheme


@pytest.mark.parametrize(
    ("scheme", "keys", "blocks", "above"),
    [  # lin2024 Table 1: 224 px, N = 196, N_s = 4
        ("com-16", 96, 1, False),
        ("ind-16", 96, 196, True),
        ("com-16/8", 96**4 * factorial(4), 1, False),
        ("ind-16/8", 96**4 * factorial(4), 196, True),
    ],
)
def test_table_1_of_lin2024(scheme, keys, blocks, above):
    space = key_space(Scheme.preset(scheme), 224, 224)
    assert space.bits == pytest.approx(blocks * log2(keys))
    assert space.above_line is above


def test_search_time_follows_the_rate():
    space = key_space(Scheme.preset("com-16"), 224, 224)
    assert space.search_years(96) * 365.25 * 24 * 3600 == pytest.approx(1)
    assert key_space(Scheme.preset("ind-16/8"), 224, 224).search_years(1e12) == float("inf")
