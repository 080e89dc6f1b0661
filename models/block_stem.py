"""A stem that embeds every block of an image by itself, in place of a ViT's patch embedding.

Three convolutions, none of which crosses the border of a block: to 8×8 positions, to 4×4, to one.  They
run over a group of block states, and what they found is pooled over the group; see `state_convolution`.
"""

from typing import Any, Literal

import torch
from torch import nn

from etc_data.errors import GeometryError, ImageError, ModelError
from etc_data.models.block_states import StateGroup
from etc_data.models.color_planes import ODD_PLANES, color_planes
from etc_data.models.state_convolution import LiftingConv, StateConv, StateNorm
from etc_data.states import COLORS

States = Literal["invariant", "learned"]

# Positions a side after the first convolution and after the second.
_FINE, _COARSE = 8, 4


class BlockStem(nn.Module):
    """Embeds blocks of B × B pixels: [B, 3, H, W] → [B, N, D], block by block in raster order.

    Images must be centered at 0, normalized with mean 0.5 and standard deviation 0.5: negation is then
    a change of sign.

    Args:
        img_size: that the model is described with, pixels; images of other sizes are taken as well.
        patch_size: B, pixels, a multiple of 8.
        in_chans: 3.
        embed_dim: D.
        widths: channels after each of the three convolutions, multiples of 16.
        states: ``"invariant"``: all 96 EtC states of a block give the same embedding.  ``"learned"``:
            an ordinary stem of the same cost, which must learn that from images in all states.
        bias: of the last projection.
        dynamic_img_pad: must be False; padding would make blocks that no one encrypted.
        device: as in torch; likewise `dtype`.
        dtype: see `device`.

    Raises:
        GeometryError: `img_size` is no multiple of B, or B none of 8.
        ImageError: `in_chans` is not 3.
        ModelError: the padding is asked for.
    """

    def __init__(
        self,
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        in_chans: int = COLORS,
        embed_dim: int = 192,
        *,
        widths: tuple[int, int, int] = (64, 128, 512),
        states: States = "invariant",
        bias: bool = True,
        dynamic_img_pad: bool = False,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if patch_size % _FINE:
            raise GeometryError(f"blocks of {patch_size} pixels; the stem takes multiples of {_FINE}")
        if in_chans != COLORS:
            raise ImageError(f"images of {in_chans} channels; EtC blocks have {COLORS}")
        if dynamic_img_pad:
            raise ModelError("an order-free model cannot pad: padding makes blocks that are not EtC's")
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        self.patch_size = patch_size
        self.grid_size = self.dynamic_feat_size((height, width))
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        self.invariant = states == "invariant"
        group = StateGroup() if self.invariant else StateGroup(orientations=1, polarities=1)
        fine, coarse, whole = (width // len(group) for width in widths)
        # Windows of stride + 2 with a margin of 1 lie symmetrically in the block for every stride.
        stride = patch_size // _FINE
        odd_planes = ODD_PLANES if self.invariant else (True,) * COLORS
        self.layers = nn.Sequential(
            LiftingConv(group, odd_planes, fine, stride + 2, stride=stride, padding=1),
            StateNorm(fine),
            StateConv(group, fine, coarse, 2, stride=2),
            StateNorm(coarse),
            StateConv(group, coarse, whole, _COARSE),
            StateNorm(whole),
        )
        self.features = whole
        self.proj = nn.Linear(2 * whole if self.invariant else whole, embed_dim, bias=bias)
        self.to(device=device, dtype=dtype)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Returns the embeddings [B, N, D] of the blocks of images [B, 3, H, W].

        Raises:
            GeometryError: H or W is no multiple of the block size.
        """
        rows, columns = self.dynamic_feat_size((image.shape[-2], image.shape[-1]))
        size = self.patch_size
        blocks = image.reshape(-1, COLORS, rows, size, columns, size).permute(0, 2, 4, 1, 3, 5)
        blocks = blocks.reshape(-1, COLORS, size, size)
        found = self.layers(color_planes(blocks) if self.invariant else blocks)
        orbit = found.reshape(-1, self.features, found.shape[1] // self.features)
        pooled = torch.cat([orbit.mean(2), orbit.amax(2)], 1) if self.invariant else orbit[..., 0]
        embedded: torch.Tensor = self.proj(pooled)
        return embedded.reshape(-1, rows * columns, embedded.shape[-1])

    def feat_ratio(self, as_scalar: bool = True) -> Any:
        """Returns how many pixels a side one embedding stands for, as timm asks."""
        return self.patch_size if as_scalar else (self.patch_size, self.patch_size)

    def dynamic_feat_size(self, img_size: tuple[int, int]) -> tuple[int, int]:
        """Returns (rows, columns) of blocks in an image of (height, width) pixels, as timm asks.

        Raises:
            GeometryError: the blocks do not divide the image.
        """
        height, width = img_size
        if height % self.patch_size or width % self.patch_size:
            raise GeometryError(
                f"image of {height}×{width} pixels; height and width must be multiples of the block "
                f"size {self.patch_size}, on the grid that it was encrypted with"
            )
        return height // self.patch_size, width // self.patch_size
