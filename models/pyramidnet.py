"""PyramidNet with ShakeDrop, the classifier that the papers call "ShakeDrop", for images of 32 px.

PyramidNet: Han et al. 2017; ShakeDrop: Yamada et al. 2019.  ``etc_pyramidnet110_a270`` has 28,485,493
parameters (28.48 M in maungmaung2022 Table II, 28.49 M in qi2022-convmixer Table I).  The count holds
with a bias in the first convolution, as in the code that the adaptation networks were built upon.
"""

from typing import Any

import etc_data.torchvision_cpu  # noqa: F401

# isort: split
import torch.nn.functional as F
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn

from etc_data.models.network_cfg import network_cfg
from etc_data.models.shake_drop import ShakeDrop

_STEM_WIDTH = 16
_STAGES = 3
_LAST_SURVIVAL_PROBABILITY = 0.5


class PyramidNet(nn.Module):
    """A residual network of basic blocks, each a little wider than the one before.

    Block k of K has 16 + ⌊αk/K⌋ channels and survives ShakeDrop with probability 1 − k/(2K).

    Args:
        depth: 6n + 2; each of the three stages has n blocks.
        alpha: channels that the last block has beyond the first layer's 16.
        num_classes: of the classifier.
        in_chans: components of the input.
    """

    def __init__(
        self, depth: int = 110, alpha: int = 270, num_classes: int = 10, in_chans: int = 3
    ) -> None:
        super().__init__()
        blocks_per_stage = (depth - 2) // (2 * _STAGES)
        count = _STAGES * blocks_per_stage
        self.num_features = self.head_hidden_size = _STEM_WIDTH + alpha
        self.stem = nn.Sequential(
            nn.Conv2d(in_chans, _STEM_WIDTH, kernel_size=3, padding=1), nn.BatchNorm2d(_STEM_WIDTH)
        )
        blocks, width = [], _STEM_WIDTH
        for k in range(1, count + 1):
            stride = 2 if k > 1 and (k - 1) % blocks_per_stage == 0 else 1
            next_width = _STEM_WIDTH + alpha * k // count
            survival_probability = 1 - k / count * (1 - _LAST_SURVIVAL_PROBABILITY)
            blocks.append(_Block(width, next_width, stride, survival_probability))
            width = next_width
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(self.num_features)
        self.reset_classifier(num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def get_classifier(self) -> nn.Module:
        """Returns the last layer."""
        return self.head

    def reset_classifier(self, num_classes: int) -> None:
        """Puts a fresh last layer for `num_classes` in place; 0 leaves the features as they are."""
        self.num_classes = num_classes
        self.head = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()

    def forward_features(self, image: Tensor) -> Tensor:
        """Returns features [B, 16 + α, H/4, W/4] of images [B, C, H, W]."""
        return F.relu(self.norm(self.blocks(self.stem(image))))

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Returns logits [B, num_classes], or their input [B, 16 + α]."""
        pooled = features.mean((2, 3))
        logits: Tensor = pooled if pre_logits else self.head(pooled)
        return logits

    def forward(self, image: Tensor) -> Tensor:
        """Returns logits [B, num_classes] of images [B, C, H, W]."""
        return self.forward_head(self.forward_features(image))


class _Block(nn.Module):
    """BatchNorm, convolution, BatchNorm, ReLU, convolution, BatchNorm; a shortcut without weights."""

    def __init__(self, width: int, next_width: int, stride: int, survival_probability: float) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.BatchNorm2d(width),
            nn.Conv2d(width, next_width, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(next_width),
            nn.ReLU(inplace=True),
            nn.Conv2d(next_width, next_width, 3, padding=1, bias=False),
            nn.BatchNorm2d(next_width),
            ShakeDrop(survival_probability),
        )
        self.shortcut = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.new_channels = next_width - width

    def forward(self, x: Tensor) -> Tensor:
        shortcut = F.pad(self.shortcut(x), (0, 0, 0, 0, 0, self.new_channels))
        added: Tensor = self.branch(x) + shortcut
        return added


def small_image_cfg(**changes: Any) -> dict[str, Any]:
    """Returns timm's description of a network for 32 px whose input is in [0, 1], not normalized."""
    in_range = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "first_conv": "stem.0"}
    return network_cfg(32, **(in_range | changes))


default_cfgs = generate_default_cfgs({"etc_pyramidnet110_a270": small_image_cfg()})


@register_model
def etc_pyramidnet110_a270(pretrained: bool = False, **changes: Any) -> PyramidNet:
    """PyramidNet-110, α = 270, with ShakeDrop."""
    model: PyramidNet = build_model_with_cfg(
        PyramidNet, "etc_pyramidnet110_a270", pretrained, **changes
    )
    return model
