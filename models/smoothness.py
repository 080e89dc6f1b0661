"""The penalty on rough adapted images (Madono et al. 2020): it draws neighboring blocks together."""

from typing import Any

import torch
from torch import Tensor, nn


class Smoothness(nn.Module):
    """Passes an image on unchanged and remembers how rough it was; in training only.

    L_s = 1/(B·C·(H−1)·W) · Σ [(x_{y+1,x} − x_{y,x})² + (x_{y,x+1} − x_{y,x})²], over images, channels
    and all places that have both neighbors.  Madono's code divides by all 16 channels, but sums over
    the first three alone, as for a color image; here the sum is over all.

    Args:
        weight: by which `penalty` multiplies L_s.
    """

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight
        self._latest: Tensor | None = None

    def forward(self, image: Tensor) -> Tensor:
        """Returns `image`, [B, C, H, W]."""
        self._latest = roughness(image) if self.training else None
        return image

    def penalty(self) -> Tensor:
        """Returns the weighted L_s of the latest forward pass, a float32 scalar; 0 in evaluation."""
        return torch.zeros(()) if self._latest is None else self.weight * self._latest

    def __getstate__(self) -> dict[str, Any]:
        # Copies and pickles of a model, such as its moving average, have no part in a running step.
        return self.__dict__ | {"_latest": None}

    def extra_repr(self) -> str:
        """Returns what `repr` shows."""
        return f"weight={self.weight}"


def roughness(image: Tensor) -> Tensor:
    """Returns L_s of `image` [B, C, H, W], a float32 scalar.

    >>> roughness(torch.ones(2, 16, 32, 32)).item()
    0.0
    """
    image = image.float()
    place = image[..., :-1, :-1]
    down, right = image[..., 1:, :-1] - place, image[..., :-1, 1:] - place
    return (down.square() + right.square()).sum() / image[..., 1:, :].numel()
