"""ViT-Ti, -S and -B with patches of 16, registered with timm as ``etc_vit_{size}_patch16_224``.

The class is timm's; ViT-B/16 is the network of maungmaung2022 and qi2022-vision-transformer, whose
CIFAR-10 images are resized to 224 px.  Images are normalized with mean and standard deviation 0.5.

Unlike timm's own entries these resample nothing when weights are loaded.  A patch kernel or position
embedding of another size is refused, for resampling an encrypted one mixes values that do not belong
together.

The papers start from ImageNet-21k weights.  From the hub, or from a file of theirs:

    timm.create_model(
        "etc_vit_base_patch16_224", num_classes=10, pretrained=True,
        pretrained_cfg_overlay={
            "hf_hub_id": "timm/vit_base_patch16_224.augreg_in21k", "num_classes": 21843,
        },
    )

`convmixer` tells why the overlay names the number of classes.
"""

from typing import Any

import etc_data.torchvision_cpu  # noqa: F401

# isort: split
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.vision_transformer import VisionTransformer

from etc_data.models.network_cfg import network_cfg

_CFG = network_cfg(224, fixed_input_size=True, first_conv="patch_embed.proj")

default_cfgs = generate_default_cfgs(
    {
        "etc_vit_tiny_patch16_224": _CFG,
        "etc_vit_small_patch16_224": _CFG,
        "etc_vit_base_patch16_224": _CFG,
    }
)


def _create(variant: str, pretrained: bool, changes: dict[str, Any], **sizes: Any) -> VisionTransformer:
    return build_model_with_cfg(
        VisionTransformer,
        variant,
        pretrained,
        feature_cfg={"out_indices": 3, "feature_cls": "getter"},
        **({"patch_size": 16, "depth": 12} | sizes | changes),
    )


@register_model
def etc_vit_tiny_patch16_224(pretrained: bool = False, **changes: Any) -> VisionTransformer:
    """ViT-Ti/16."""
    return _create("etc_vit_tiny_patch16_224", pretrained, changes, embed_dim=192, num_heads=3)


@register_model
def etc_vit_small_patch16_224(pretrained: bool = False, **changes: Any) -> VisionTransformer:
    """ViT-S/16."""
    return _create("etc_vit_small_patch16_224", pretrained, changes, embed_dim=384, num_heads=6)


@register_model
def etc_vit_base_patch16_224(pretrained: bool = False, **changes: Any) -> VisionTransformer:
    """ViT-B/16 (maungmaung2022 Table II, qi2022-vision-transformer §IV)."""
    return _create("etc_vit_base_patch16_224", pretrained, changes, embed_dim=768, num_heads=12)
