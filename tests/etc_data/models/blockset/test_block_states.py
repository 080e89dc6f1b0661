"""The groups of block states."""

from itertools import product

import numpy as np
import pytest

from etc_data.models.block_states import StateGroup

GROUPS = [StateGroup(*sizes) for sizes in product((1, 8), (1, 2))]


def acted(group, element, kernel):
    """Returns the flat kernel in one of the group's states."""
    return group.signs[element] * kernel[group.kernel_rows(int(kernel.size**0.5))[element]]


@pytest.mark.parametrize("group", GROUPS, ids=str)
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_elements_are_all_turns_and_signs_that_numpy_knows(group, size):
    kernel = np.arange(1.0, size * size + 1)
    square = kernel.reshape(size, size)
    turns = [square] if group.orientations == 1 else []
    if not turns:
        turns = [np.rot90(side, k) for side in (square, square[::-1]) for k in range(4)]
    signs = [1, -1][: group.polarities]
    expected = {(sign * turn).tobytes() for turn in turns for sign in signs}
    assert {acted(group, g, kernel).tobytes() for g in range(len(group))} == expected
    assert len(group) == len(turns) * len(signs)


@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_element_after_relative_element_is_the_other(group):
    kernel = np.random.default_rng(0).normal(size=16)
    relative = group.relative()
    for g, h in np.ndindex(relative.shape):
        joined = acted(group, g, acted(group, relative[g, h], kernel))
        np.testing.assert_array_equal(joined, acted(group, h, kernel))
