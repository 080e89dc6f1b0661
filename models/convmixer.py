"""ConvMixer in the papers' sizes, registered with timm as ``etc_convmixer_{width}_{depth}_p{patch}``.

The class is timm's.  A name fixes width, depth, patch size P, kernel size and activation; what a paper
leaves open is the ConvMixer paper's (Trockman & Kolter 2022).  Number of parameters: qi2022-convmixer
eq. (3), see `parameter_counts`.

| name | paper |
| --- | --- |
| ``etc_convmixer_256_8_p1`` | maungmaung2022 Table II, CIFAR-10 at 32 px |
| ``etc_convmixer_256_8_p4`` | iijima §4.1, CIFAR-10 at 32 px |
| ``etc_convmixer_384_8_p4`` | maungmaung2022 Table II, Imagenette at 224 px |
| ``etc_convmixer_512_16_p16`` | qi2022-convmixer §IV, CIFAR-10 at 224 px |
| ``etc_convmixer_768_32_p16`` | timm's ConvMixer-768/32 (kernel 7, ReLU), patches of 16: see below |
| ``…_p8``, ``…_p16`` | patches that match the 8- and 16-pixel blocks of JPEG-friendly schemes |

lin2024 §4.1 fine-tunes a pretrained ConvMixer of unstated size with patches of 16.  Published ones have
patches of 7 or 14, so a model for lin2024 takes all of timm's 768/32 but the stem, or is 512/16.

Images are normalized with mean 0.5 and standard deviation 0.5, so that negation is a change of sign
(maungmaung2022 eq. 7).  ConvMixer takes every image size that its patches divide.

The default number of classes is 10.  To load a local file of n classes, say so on both sides:

    timm.create_model(
        "etc_convmixer_256_8_p4", num_classes=n, pretrained=True,
        pretrained_cfg_overlay={"file": "model.safetensors", "num_classes": n},
    )

Where the two differ, timm starts with a fresh classifier.  ``checkpoint_path=`` loads all or nothing.
"""

from typing import Any

import etc_data.torchvision_cpu  # noqa: F401

# isort: split
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.convmixer import ConvMixer
from torch import nn

from etc_data.models.network_cfg import network_cfg


def convmixer_cfg(image_size: int, **changes: Any) -> dict[str, Any]:
    """Returns timm's description of a ConvMixer for images of `image_size` pixels a side."""
    return network_cfg(image_size, first_conv="stem.0", **changes)


default_cfgs = generate_default_cfgs(
    {
        "etc_convmixer_256_8_p1": convmixer_cfg(32),
        "etc_convmixer_256_8_p4": convmixer_cfg(32),
        "etc_convmixer_256_8_p8": convmixer_cfg(224),
        "etc_convmixer_256_8_p16": convmixer_cfg(224),
        "etc_convmixer_384_8_p4": convmixer_cfg(224),
        "etc_convmixer_384_8_p8": convmixer_cfg(224),
        "etc_convmixer_384_8_p16": convmixer_cfg(224),
        "etc_convmixer_512_16_p8": convmixer_cfg(224),
        "etc_convmixer_512_16_p16": convmixer_cfg(224),
        "etc_convmixer_768_32_p16": convmixer_cfg(224),
    }
)


def _create(variant: str, pretrained: bool, changes: dict[str, Any], **sizes: Any) -> ConvMixer:
    features = {"out_indices": 3, "feature_cls": "getter"}
    return build_model_with_cfg(
        ConvMixer, variant, pretrained, feature_cfg=features, **(sizes | changes)
    )


@register_model
def etc_convmixer_256_8_p1(pretrained: bool = False, **changes: Any) -> ConvMixer:
    """ConvMixer-256/8 on single pixels (maungmaung2022 Table II)."""
    sizes = {"dim": 256, "depth": 8, "kernel_size": 9, "patch_size": 1}
    return _create("etc_convmixer_256_8_p1", pretrained, changes, **sizes)


@register_model
def etc_convmixer_256_8_p4(pretrained: bool = False, **changes: Any) -> ConvMixer:
    """ConvMixer-256/8 with patches of 4 (iijima §4.1)."""
    sizes = {"dim": 256, "depth": 8, "kernel_size": 9, "patch_size": 4}
    return _create("etc_convmixer_256_8_p4", pretrained, changes, **sizes)


@register_model
def etc_convmixer_256_8_p8(pretrained: bool = False, **changes: Any) -> ConvMixer:
    """ConvMixer-256/8 with patches of 8."""
    sizes = {"dim": 256, "depth": 8, "kernel_size": 9, "patch_size": 8}
    return _create("etc_convmixer_256_8_p8", pretrained, changes, **sizes)


@register_model
def etc_convmixer_256_8_p16(pretrained: bool = False, **changes: Any) -> ConvMixer:
    """ConvMixer-256/8 with patches of 16."""
    sizes = {"dim": 256, "depth": 8, "kernel_size": 9, "patch_size": 16}
    return _create("etc_convmixer_256_8_p16", pretrained, changes, **sizes)


@register_model
def etc_convmixer_384_8_p4(pretrained: bool = False, **changes: Any) -> ConvMixer:
    """ConvMixer-384/8 with patches of 4 (maungmaung2022 Table II)."""
    sizes = {"dim": 384, "depth": 8, "kernel_size": 9, "patch_size": 4}
    return _create("etc_convmixer_384_8_p4", pretrained, changes, **sizes)


@register_model
def etc_convmixer_384_8_p8(pretrained: bool = False, **changes: Any) -> ConvMixer:
    """ConvMixer-384/8 with patches of 8."""
    sizes = {"dim": 384, "depth": 8, "kernel_size": 9, "patch_size": 8}
    return _create("etc_convmixer_384_8_p8", pretrained, changes, **sizes)


@register_model
def etc_convmixer_384_8_p16(pretrained: bool = False, **changes: Any) -> ConvMixer:
    """ConvMixer-384/8 with patches of 16."""
    sizes = {"dim": 384, "depth": 8, "kernel_size": 9, "patch_size": 16}
    return _create("etc_convmixer_384_8_p16", pretrained, changes, **sizes)


@register_model
def etc_convmixer_512_16_p8(pretrained: bool = False, **changes: Any) -> ConvMixer:
    """ConvMixer-512/16 with patches of 8."""
    sizes = {"dim": 512, "depth": 16, "kernel_size": 9, "patch_size": 8}
    return _create("etc_convmixer_512_16_p8", pretrained, changes, **sizes)


@register_model
def etc_convmixer_512_16_p16(pretrained: bool = False, **changes: Any) -> ConvMixer:
    """ConvMixer-512/16 with patches of 16 (qi2022-convmixer §IV)."""
    sizes = {"dim": 512, "depth": 16, "kernel_size": 9, "patch_size": 16}
    return _create("etc_convmixer_512_16_p16", pretrained, changes, **sizes)


@register_model
def etc_convmixer_768_32_p16(pretrained: bool = False, **changes: Any) -> ConvMixer:
    """ConvMixer-768/32 with patches of 16; all but the stem fits timm's ``convmixer_768_32``."""
    sizes = {"dim": 768, "depth": 32, "kernel_size": 7, "patch_size": 16, "act_layer": nn.ReLU}
    return _create("etc_convmixer_768_32_p16", pretrained, changes, **sizes)
