"""Planes that do not depend on the order of color components."""

from itertools import permutations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from etc_data.models.color_planes import ODD_PLANES, color_planes

SIGNS = torch.where(torch.tensor(ODD_PLANES), -1.0, 1.0)[:, None, None]


def blocks_of(seed, levels):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, levels, (3, 3, 8, 8), generator=generator) / 127.5 - 1


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([2, 8, 256]))
def test_color_orders_change_nothing_and_negation_changes_signs(seed, levels):
    blocks = blocks_of(seed, levels)
    planes = color_planes(blocks)
    for order in permutations(range(3)):
        assert torch.equal(color_planes(blocks[:, order]), planes)
        torch.testing.assert_close(color_planes(-blocks[:, order]), SIGNS * planes)


def test_components_of_equal_mean_and_of_equal_values_are_told_apart():
    blocks = torch.full((1, 3, 8, 8), -0.25)
    blocks[0, 0, :4, :4] = blocks[0, 1, 2:6, 2:6] = 0.75
    blocks[0, 2] = 0
    assert blocks.mean((2, 3)).unique().numel() == 1
    planes = color_planes(blocks)
    for order in permutations(range(3)):
        assert torch.equal(color_planes(blocks[:, order]), planes)


def test_nothing_is_lost_but_the_order():
    blocks = blocks_of(7, 256)
    mean, middle, spread = color_planes(blocks).unbind(1)
    back = torch.stack([mean - spread / 2, middle, mean + spread / 2], 1)
    for block, restored in zip(blocks, back, strict=True):
        assert min((block[list(o)] - restored).abs().max() for o in permutations(range(3))) < 1e-6
