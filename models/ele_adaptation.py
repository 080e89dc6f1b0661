"""The adaptation network of ELE (Madono et al. 2020) before PyramidNet-110 with ShakeDrop.

ELE scrambles the blocks and gives each its own key, so every block has its own sub-network, and a
trainable `PermutationMatrix` rearranges what they make.  The papers use it for EtC images, too.  Train
with ``cross_entropy + penalty(model)``: 0.001 L_U + 0.1 L_s (see `penalties`, `smoothness`).

``etc_pyramidnet110_a270_ele`` has 29,310,661 parameters: 823,296 of qi2022-convmixer eq. (2) and
28,487,365 of a PyramidNet whose first convolution takes 16 channels; qi2022-convmixer Table I prints
29.31 M.  maungmaung2022 Table II prints 62.97 M, which counts 33,661,825 more in layers that Madono's
code defines and never uses: two linear layers 4096 → 4096 (33,562,624), a self-attention over 256
channels (82,241), three linear layers 64 → 64 (12,480) with BatchNorm (384), and a vector of 4,096.
"""

from typing import Any

import etc_data.torchvision_cpu  # noqa: F401

# isort: split
import torch
import torch.nn.functional as F
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn

from etc_data.errors import GeometryError
from etc_data.models.adaptation import AdaptedClassifier
from etc_data.models.permutation_matrix import PermutationMatrix
from etc_data.models.pyramidnet import PyramidNet, small_image_cfg
from etc_data.models.smoothness import Smoothness

_FIRST_ITERATIONS = 15


class ELEAdaptation(nn.Module):
    """A sub-network for each of N blocks, a permutation matrix, PixelShuffle.

    A sub-network is a convolution that covers its block, with spectral normalization and without bias,
    then BatchNorm and LeakyReLU(0.2).  All N are computed at once; BatchNorm still knows each apart, so
    that it needs at least two images in training.

    Args:
        img_size: pixels a side, or (height, width).
        block_size: B, pixels a side.
        channels: of the adapted image; a sub-network has channels · B².
        penalty_weight: of L_U.
        smoothness_weight: of L_s.

    Raises:
        GeometryError: `block_size` does not divide `img_size`.
    """

    def __init__(
        self,
        img_size: int | tuple[int, int] = 32,
        block_size: int = 4,
        channels: int = 16,
        penalty_weight: float = 1e-3,
        smoothness_weight: float = 0.1,
    ) -> None:
        super().__init__()
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        if height % block_size or width % block_size:
            raise GeometryError(
                f"image size {height}×{width} is not a multiple of block size {block_size}"
            )
        self.block_size = block_size
        self.grid = (height // block_size, width // block_size)
        blocks, features = self.grid[0] * self.grid[1], channels * block_size**2
        self.weight = nn.Parameter(torch.empty(blocks, features, 3 * block_size**2))
        nn.init.normal_(self.weight)
        self.spectral_norm = _SpectralNorm(self.weight)
        self.norm = nn.BatchNorm1d(features * blocks)
        self.act = nn.LeakyReLU(0.2)
        self.permutation = PermutationMatrix(blocks, penalty_weight)
        self.spread = nn.PixelShuffle(block_size)
        self.smoothness = Smoothness(smoothness_weight)

    def forward(self, image: Tensor) -> Tensor:
        """Returns adapted images [B, channels, H, W] of encrypted images [B, 3, H, W].

        Raises:
            GeometryError: the images are not of `img_size`.
        """
        height, width = (count * self.block_size for count in self.grid)
        if image.shape[-2:] != (height, width):
            raise GeometryError(
                f"an image of {image.shape[-2]}×{image.shape[-1]} pixels meets an adaptation network "
                f"for {height}×{width}",
                "give create_model the img_size you train at",
            )
        values = F.unfold(image, self.block_size, stride=self.block_size)  # [B, 3B², N]
        matrices = self.spectral_norm(self.weight)
        features = (matrices @ values.permute(2, 1, 0)).permute(2, 1, 0)  # [B, 16B², N]
        features = self.act(self.norm(features.flatten(1))).view_as(features)
        adapted: Tensor = self.spread(self.permutation(features.unflatten(2, self.grid)))
        smooth: Tensor = self.smoothness(adapted)
        return smooth


class _SpectralNorm(nn.Module):
    """Divides each of N matrices [N, rows, columns] by its largest singular value (Miyato et al. 2018).

    One step of power iteration in each training pass, as torch's spectral norm does for one matrix.
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.right: Tensor
        self.register_buffer("right", F.normalize(torch.randn(weight.shape[0], weight.shape[2]), dim=1))
        self._iterate(weight, _FIRST_ITERATIONS)

    def forward(self, weight: Tensor) -> Tensor:
        if self.training:
            self._iterate(weight, 1)
        # The length of W v for the singular vector v; v itself is no variable of the loss.
        sizes = torch.linalg.vector_norm(weight @ self.right.clone()[..., None], dim=1, keepdim=True)
        normalized: Tensor = weight / sizes
        return normalized

    @torch.no_grad()
    def _iterate(self, weight: Tensor, count: int) -> None:
        right = self.right[..., None]
        for _ in range(count):
            right = F.normalize(weight.mT @ (weight @ right), dim=1)
        self.right.copy_(right[..., 0])


def _build(
    img_size: int | tuple[int, int] = 32,
    block_size: int = 4,
    channels: int = 16,
    penalty_weight: float = 1e-3,
    smoothness_weight: float = 0.1,
    **options: Any,
) -> AdaptedClassifier:
    adaptation = ELEAdaptation(img_size, block_size, channels, penalty_weight, smoothness_weight)
    return AdaptedClassifier(adaptation, PyramidNet(**(options | {"in_chans": channels})))


default_cfgs = generate_default_cfgs(
    {
        "etc_pyramidnet110_a270_ele": small_image_cfg(
            fixed_input_size=True, first_conv=None, classifier="classifier.head"
        )
    }
)


@register_model
def etc_pyramidnet110_a270_ele(pretrained: bool = False, **changes: Any) -> AdaptedClassifier:
    """ELE adaptation network and PyramidNet-110, α = 270, with ShakeDrop; blocks of 4."""
    model: AdaptedClassifier = build_model_with_cfg(
        _build, "etc_pyramidnet110_a270_ele", pretrained, **changes
    )
    return model
