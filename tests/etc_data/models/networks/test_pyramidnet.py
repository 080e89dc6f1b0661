"""PyramidNet's blocks widen evenly and drop out more and more."""

import pytest
import torch

from etc_data.models.pyramidnet import PyramidNet
from etc_data.models.shake_drop import ShakeDrop


@pytest.fixture(scope="module")
def network():
    with torch.device("meta"):
        return PyramidNet()


def test_110_layers_lie_on_the_long_way(network):
    convolutions = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)]
    assert len(convolutions) + 1 == 110


def test_every_block_is_five_channels_wider(network):
    widths = [block.branch[1].out_channels for block in network.blocks]
    assert widths == list(range(21, 287, 5))


def test_survival_falls_evenly_to_one_half(network):
    drops = [module for module in network.modules() if isinstance(module, ShakeDrop)]
    expected = [1 - 0.5 * k / 54 for k in range(1, 55)]
    assert [drop.survival_probability for drop in drops] == pytest.approx(expected)


def test_the_second_and_third_stage_halve_the_image(network):
    strided = [
        number for number, block in enumerate(network.blocks) if block.branch[1].stride == (2, 2)
    ]
    assert strided == [18, 36]
    assert network.forward_features(torch.rand(2, 3, 32, 32, device="meta")).shape == (2, 286, 8, 8)


def test_a_block_without_its_branch_is_the_padded_shortcut():
    block = PyramidNet(depth=20, alpha=18).blocks[3].eval()
    torch.nn.init.zeros_(block.branch[5].weight)
    x = torch.randn(2, 22, 8, 8)
    y = block(x)
    torch.testing.assert_close(y[:, :22], torch.nn.functional.avg_pool2d(x, 2))
    assert not y[:, 22:].any()
    assert y.shape == (2, 24, 4, 4)


def test_without_classes_it_gives_features():
    assert PyramidNet(depth=8, alpha=6, num_classes=0)(torch.rand(2, 3, 32, 32)).shape == (2, 22)
