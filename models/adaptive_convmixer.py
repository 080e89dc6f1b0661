"""ConvMixer with an adaptive permutation matrix (qi2022-convmixer §III-B, Fig. 1).

The stem becomes convolution, GELU, BatchNorm, `PermutationMatrix`; the rest is timm's ConvMixer.  Train
with ``cross_entropy + penalty(model)`` (eq. 1; see `penalties`), λ = 0.0001.

The matrix belongs to one image size.  For another give ``img_size=`` to ``timm.create_model``.
"""

from typing import Any

import etc_data.torchvision_cpu  # noqa: F401

# isort: split
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.convmixer import ConvMixer

from etc_data.errors import GeometryError
from etc_data.models.convmixer import convmixer_cfg
from etc_data.models.permutation_matrix import PermutationMatrix


class AdaptiveConvMixer(ConvMixer):
    """timm's ConvMixer, whose stem ends in a trainable permutation matrix.

    Args:
        dim: width h.
        depth: number of ConvMixer layers.
        patch_size: pixels a side; the matrix has one row for each patch.
        img_size: pixels a side, or (height, width).
        penalty_weight: λ.
        options: further arguments of timm's ConvMixer.

    Raises:
        GeometryError: `patch_size` does not divide `img_size`.
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        patch_size: int,
        img_size: int | tuple[int, int] = 224,
        penalty_weight: float = 1e-4,
        **options: Any,
    ) -> None:
        super().__init__(dim, depth, patch_size=patch_size, **options)
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        if height % patch_size or width % patch_size:
            raise GeometryError(
                f"image size {height}×{width} is not a multiple of patch size {patch_size}"
            )
        positions = (height // patch_size) * (width // patch_size)
        self.stem.append(PermutationMatrix(positions, penalty_weight))


default_cfgs = generate_default_cfgs(
    {
        "etc_convmixer_256_8_p4_adaptive": convmixer_cfg(32, fixed_input_size=True),
        "etc_convmixer_512_16_p16_adaptive": convmixer_cfg(224, fixed_input_size=True),
    }
)


def _create(variant: str, pretrained: bool, changes: dict[str, Any], **sizes: Any) -> AdaptiveConvMixer:
    features = {"out_indices": 3, "feature_cls": "getter"}
    model: AdaptiveConvMixer = build_model_with_cfg(
        AdaptiveConvMixer, variant, pretrained, feature_cfg=features, **(sizes | changes)
    )
    return model


@register_model
def etc_convmixer_256_8_p4_adaptive(pretrained: bool = False, **changes: Any) -> AdaptiveConvMixer:
    """ConvMixer-256/8 with patches of 4 and a matrix, for 32 px."""
    sizes = {"dim": 256, "depth": 8, "kernel_size": 9, "patch_size": 4}
    return _create("etc_convmixer_256_8_p4_adaptive", pretrained, changes, **sizes)


@register_model
def etc_convmixer_512_16_p16_adaptive(pretrained: bool = False, **changes: Any) -> AdaptiveConvMixer:
    """ConvMixer-512/16 with patches of 16 and a matrix, for 224 px (qi2022-convmixer Table I, †)."""
    sizes = {"dim": 512, "depth": 16, "kernel_size": 9, "patch_size": 16}
    return _create("etc_convmixer_512_16_p16_adaptive", pretrained, changes, **sizes)
