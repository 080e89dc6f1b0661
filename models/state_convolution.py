"""Convolutions that commute with a group of block states.

They are those of Cohen & Welling (2016, Group equivariant convolutional networks), for a group that
negates besides turning.  A feature map over the group holds G channels for every feature, one per
element: [B, F·G, H, W], channel ``f·G + g``.  A block in state u has a map that is turned and moved,
y(g) → y(u⁻¹g), so that what is pooled over g and over the whole map does not change.  At equal numbers
of channels these layers do the work of ordinary convolutions with G times fewer weights; for the group
of one element they *are* ordinary convolutions.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from etc_data.models.block_states import StateGroup


class LiftingConv(nn.Module):
    """From image planes to features over the group: ``y(g) = Σ_c (g·w_c) ⋆ x_c``; no bias.

    A stride commutes with turning where the windows lie symmetrically: where it divides
    ``H + 2·padding − kernel_size``.

    Args:
        group: G elements.
        odd_planes: for every input plane whether negating the block negates it; else it stays.
        features: F, how many.
        kernel_size: K, in pixels; likewise `stride` and `padding`.
        stride: see `kernel_size`.
        padding: see `kernel_size`.
    """

    signs: torch.Tensor
    rows: torch.Tensor

    def __init__(
        self,
        group: StateGroup,
        odd_planes: tuple[bool, ...],
        features: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.weight = nn.Parameter(torch.empty(features, len(odd_planes), kernel_size**2))
        odd = torch.tensor(odd_planes)[:, None, None]
        signs = torch.from_numpy(group.signs)[:, None]
        self.register_buffer("signs", torch.where(odd, signs, 1.0), persistent=False)
        self.register_buffer("rows", torch.from_numpy(group.kernel_rows(kernel_size)), persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the weights anew (He et al. 2015)."""
        nn.init.normal_(self.weight, std=math.sqrt(2 / self.weight[0].numel()))

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        """Returns [B, F·G, H', W'] from planes [B, C, H, W]."""
        weight = self.weight[:, :, self.rows] * self.signs  # [F, C, G, K²]
        weight = weight.transpose(1, 2).flatten(0, 1).unflatten(2, (self.kernel_size, -1))
        return F.conv2d(planes, weight, stride=self.stride, padding=self.padding)


class StateConv(nn.Module):
    """From features over the group to such features: ``z(g) = Σ_h (g·w(g⁻¹h)) ⋆ y(h)``; no bias.

    Args:
        group: G elements.
        in_features: how many.
        features: F, how many come out.
        kernel_size: K, in pixels; likewise `stride`.
        stride: see `kernel_size`.
    """

    index: torch.Tensor

    def __init__(
        self,
        group: StateGroup,
        in_features: int,
        features: int,
        kernel_size: int,
        *,
        stride: int = 1,
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, stride
        self.weight = nn.Parameter(torch.empty(features, in_features, len(group) * kernel_size**2))
        relative = torch.from_numpy(group.relative())[:, :, None]
        rows = torch.from_numpy(group.kernel_rows(kernel_size))[:, None]
        self.register_buffer("index", relative * kernel_size**2 + rows, persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the weights anew (He et al. 2015)."""
        nn.init.normal_(self.weight, std=math.sqrt(2 / self.weight[0].numel()))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Returns [B, F·G, H', W'] from features [B, F_in·G, H, W]."""
        weight = self.weight[:, :, self.index].transpose(1, 2)  # [F, G, F_in, G, K²]
        weight = weight.flatten(2, 3).flatten(0, 1).unflatten(2, (self.kernel_size, -1))
        return F.conv2d(maps, weight, stride=self.stride)


class StateNorm(nn.Module):
    """Batch normalization and GELU of features over the group, whose G channels share statistics.

    Args:
        features: F, how many.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(features)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Returns [B, F·G, H, W], as it came."""
        by_feature = maps.unflatten(1, (self.norm.num_features, -1)).flatten(2, 3)
        return F.gelu(self.norm(by_feature)).view(maps.shape)
