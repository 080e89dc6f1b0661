"""Convolutions over groups of block states."""

import pytest
import torch
import torch.nn.functional as F

from etc_data.models.block_states import StateGroup
from etc_data.models.state_convolution import LiftingConv, StateConv, StateNorm

GROUPS = [StateGroup(), StateGroup(polarities=1), StateGroup(orientations=1), StateGroup(1, 1)]
TRIVIAL = StateGroup(1, 1)
ODD = (True, True, False)


def put_into(state, group, planes):
    """Returns planes [B, 3, S, S] of a block that was put into that state of the group."""
    rows = torch.from_numpy(group.kernel_rows(planes.shape[-1]))[state]
    turned = planes.flatten(2)[..., rows].view(planes.shape)
    signs = torch.where(torch.tensor(ODD), float(group.signs[state]), 1.0)
    return turned * signs[:, None, None]


def moved(state, group, maps):
    """Returns the maps as they must be for a block in that state: turned, and y(g) → y(u⁻¹g)."""
    rows = torch.from_numpy(group.kernel_rows(maps.shape[-1]))[state]
    by_element = maps.unflatten(1, (-1, len(group)))[:, :, group.relative()[state]]
    return by_element.flatten(1, 2).flatten(2)[..., rows].view(maps.shape)


@pytest.fixture
def layers():
    def make(group):
        torch.manual_seed(1)
        return (
            LiftingConv(group, ODD, 3, 4, stride=2, padding=1).double(),
            StateNorm(3).double().train(),
            StateConv(group, 3, 2, 2, stride=2).double(),
            StateConv(group, 2, 2, 3).double(),
        )

    return make


@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_every_layer_moves_with_the_state_of_the_block(group, layers):
    block = torch.randn(2, 3, 16, 16, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    for state in range(len(group)):
        maps, changed = block, put_into(state, group, block)
        for layer in layers(group):
            maps, changed = layer(maps), layer(changed)
            torch.testing.assert_close(changed, moved(state, group, maps))
            assert maps.std() > 0.1


def test_orbit_of_kernels_on_a_block_is_a_kernel_on_the_orbit_of_blocks():
    group = StateGroup()
    lifting = LiftingConv(group, (True,), 1, 8).double()
    block = torch.randn(8, 8, dtype=torch.double)
    turned = [torch.rot90(side, k) for side in (block, block.flip(0)) for k in range(4)]
    kernel = lifting.weight.view(8, 8)
    expected = torch.stack([sign * (kernel * turn).sum() for turn in turned for sign in (1, -1)])
    found = lifting(block[None, None]).flatten()
    torch.testing.assert_close(found.sort().values, expected.sort().values)


def test_group_of_one_gives_ordinary_convolutions():
    block = torch.randn(2, 3, 8, 8)
    lifting = LiftingConv(TRIVIAL, ODD, 5, 4, stride=2, padding=1)
    weight = lifting.weight.view(5, 3, 4, 4)
    torch.testing.assert_close(lifting(block), F.conv2d(block, weight, stride=2, padding=1))
    second = StateConv(TRIVIAL, 3, 4, 2, stride=2)
    weight = second.weight.view(4, 3, 2, 2)
    torch.testing.assert_close(second(block), F.conv2d(block, weight, stride=2))
