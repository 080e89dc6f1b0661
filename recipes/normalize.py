"""From the bytes of an image to what a network sees."""

from collections.abc import Sequence

import torch
from torch import nn


class Normalize(nn.Module):
    """uint8 [N, 3, H, W] → floats: in [0, 1] before the mean is subtracted and divided by std."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Takes one value for each color component, in units of [0, 1]."""
        super().__init__()
        self.register_buffer("mean", 255 * torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(std).view(-1, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Returns what the network sees."""
        return (images - self.mean) / self.std
