"""The adaptation network of LE (Tanaka 2018) before PyramidNet-110 with ShakeDrop.

LE treats every block alike, so one convolution serves all: block → 16B² channels → B × B pixels of 16
channels.  With its 12,800 parameters the whole network has 28,500,165.  maungmaung2022 Table II prints
62.97 M for LE, ELE and EtC alike; see `ele_adaptation`.
"""

from typing import Any

import etc_data.torchvision_cpu  # noqa: F401

# isort: split
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn

from etc_data.models.adaptation import AdaptedClassifier
from etc_data.models.pyramidnet import PyramidNet, small_image_cfg


class LEAdaptation(nn.Module):
    """Convolution of each block, BatchNorm, LeakyReLU(0.1), PixelShuffle.

    BatchNorm sees all blocks of a batch together.  (Madono's code gives it one block position after the
    other, and then evaluates with statistics of all.)

    Args:
        block_size: B, pixels a side.
        channels: of the adapted image.
    """

    def __init__(self, block_size: int = 4, channels: int = 16) -> None:
        super().__init__()
        width = channels * block_size**2
        self.embed = nn.Conv2d(3, width, block_size, stride=block_size, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.act = nn.LeakyReLU(0.1)
        self.spread = nn.PixelShuffle(block_size)

    def forward(self, image: Tensor) -> Tensor:
        """Returns adapted images [B, channels, H, W] of encrypted images [B, 3, H, W]."""
        adapted: Tensor = self.spread(self.act(self.norm(self.embed(image))))
        return adapted


def _build(block_size: int = 4, channels: int = 16, **options: Any) -> AdaptedClassifier:
    return AdaptedClassifier(
        LEAdaptation(block_size, channels), PyramidNet(**(options | {"in_chans": channels}))
    )


default_cfgs = generate_default_cfgs(
    {
        "etc_pyramidnet110_a270_le": small_image_cfg(
            first_conv="adaptation.embed", classifier="classifier.head"
        )
    }
)


@register_model
def etc_pyramidnet110_a270_le(pretrained: bool = False, **changes: Any) -> AdaptedClassifier:
    """LE adaptation network and PyramidNet-110, α = 270, with ShakeDrop; blocks of 4."""
    model: AdaptedClassifier = build_model_with_cfg(
        _build, "etc_pyramidnet110_a270_le", pretrained, **changes
    )
    return model
