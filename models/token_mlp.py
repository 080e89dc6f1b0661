"""What a transformer block is without its attention; it stands where timm asks for a block."""

from collections.abc import Callable
from typing import Any

import etc_data.torchvision_cpu  # noqa: F401

# isort: split
import torch
from timm.layers.drop import DropPath
from timm.layers.mlp import Mlp
from torch import nn


class TokenMlp(nn.Module):
    """Every embedding by itself: ``x + MLP(norm(x))``; of timm's `Block` all but the attention.

    Takes the arguments of `Block`, and passes over those that concern attention.
    """

    def __init__(
        self,
        dim: int,
        mlp_ratio: float,
        norm_layer: Callable[..., nn.Module],
        act_layer: type[nn.Module],
        proj_drop: float,
        drop_path: float,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        **of_attention: Any,
    ) -> None:
        super().__init__()
        self.norm = norm_layer(dim, device=device, dtype=dtype)
        hidden = int(dim * mlp_ratio)
        self.mlp = Mlp(dim, hidden, act_layer=act_layer, drop=proj_drop, device=device, dtype=dtype)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns embeddings of the shape of `x`, [B, N, D]."""
        residual: torch.Tensor = self.drop_path(self.mlp(self.norm(x)))
        return x + residual
