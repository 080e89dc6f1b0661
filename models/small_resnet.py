"""ResNet-18 for images of 32 px: the network of PE (maungmaung2022 Table II, 11.17 M parameters)."""

from typing import Any

import etc_data.torchvision_cpu  # noqa: F401

# isort: split
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnet import BasicBlock, ResNet
from torch import nn

from etc_data.models.network_cfg import network_cfg


class SmallImageResNet(ResNet):
    """timm's ResNet with the first layer that is usual for CIFAR: 3×3, stride 1, no pooling.

    Args:
        in_chans: components of the input.
        options: further arguments of timm's ResNet.
    """

    def __init__(self, in_chans: int = 3, **options: Any) -> None:
        super().__init__(in_chans=in_chans, **options)
        first = nn.Conv2d(in_chans, 64, kernel_size=3, padding=1, bias=False)
        nn.init.kaiming_normal_(first.weight, mode="fan_out", nonlinearity="relu")
        self.add_module("conv1", first)
        self.add_module("maxpool", nn.Identity())
        for stage, reduction in zip(self.feature_info, (1, 1, 2, 4, 8), strict=True):
            stage["reduction"] = reduction


default_cfgs = generate_default_cfgs(
    {"etc_resnet18_32": network_cfg(32, first_conv="conv1", classifier="fc")}
)


@register_model
def etc_resnet18_32(pretrained: bool = False, **changes: Any) -> SmallImageResNet:
    """ResNet-18 for images of 32 px."""
    sizes: dict[str, Any] = {"block": BasicBlock, "layers": (2, 2, 2, 2)}
    model: SmallImageResNet = build_model_with_cfg(
        SmallImageResNet, "etc_resnet18_32", pretrained, **(sizes | changes)
    )
    return model
