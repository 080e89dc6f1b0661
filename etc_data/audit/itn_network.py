"""The networks of the ITN attack: from encrypted images to plain ones, for keys never met.

For blocks it is the network of Ito, Kinoshita & Kiya (2020/21): one and the same chain of layers sees
every block.  Theirs for pixels is a chain of 1 × 1 layers (64–128–256–3).  We found that it learns next
to nothing where every image has its own key, since one pixel's values may have come from any polarity;
ours looks at the neighborhood.  Outputs are linear: squashing them twice, as a published version does,
understates the attack.
"""

import torch
from torch import nn
from torch.nn import functional as F

from etc_data.states import COLORS

_VALUES_OF_PIXEL = 32  # before the last layer; 512 in a block of 4
_WIDTH = 48
_DILATIONS = (1, 2, 4, 2, 1, 1)


def inverse_network(block_size: int) -> nn.Module:
    """Returns a network, float [B, 3, H, W] in [−1, 1] to the same shape, with fresh weights.

    Args:
        block_size: pixels per side; 1 for pixel-wise encryption.
    """
    return PixelNetwork() if block_size == 1 else block_network(block_size)


def block_network(block_size: int) -> nn.Sequential:
    """Returns the network for blocks.

    For blocks of 4: convolution 3 → 48 with stride = kernel = 4, 1 × 1 to 48, 1 × 1 to 512,
    PixelShuffle, 1 × 1 to 3.
    """
    values = COLORS * block_size**2
    return nn.Sequential(
        _layer(COLORS, values, block_size),
        _layer(values, values),
        _layer(values, _VALUES_OF_PIXEL * block_size**2),
        nn.PixelShuffle(block_size),
        nn.Conv2d(_VALUES_OF_PIXEL, COLORS, 1),
    )


def _layer(inputs: int, outputs: int, side: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, side, side, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class PixelNetwork(nn.Module):
    """The network for pixels that stay in place, each negated and recolored by draws of its own.

    It first folds values and sorts those of a pixel, which takes away just what the key decides.  Then
    convolutions with a receptive field of 50 pixels tell polarity and color from what lies around.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(4 * COLORS, _WIDTH, 3, padding=1, bias=False),
            nn.BatchNorm2d(_WIDTH),
            nn.ReLU(),
            *(_Residual(dilation) for dilation in _DILATIONS),
            nn.Conv2d(_WIDTH, 4 * COLORS, 1),
            nn.PixelShuffle(2),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Returns plain images as it guesses them."""
        height, width = images.shape[2:]
        folded = 1 - 2 * images.abs().sort(dim=1).values
        even = F.pad(folded, (0, width % 2, 0, height % 2), mode="replicate")
        found: torch.Tensor = self.layers(even)
        return found[..., :height, :width]


class _Residual(nn.Module):
    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(_WIDTH, _WIDTH, 3, padding=dilation, dilation=dilation, bias=False)
        self.norm = nn.BatchNorm2d(_WIDTH)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values + F.relu(self.norm(self.convolution(values)))
