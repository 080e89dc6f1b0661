"""`PatchLayout`: how a layer cuts its input into patches.

A patch embedding is one matrix E that multiplies N patches of L values each (lin2024 eq. 1), whether
it is written as a convolution with stride = kernel or as a linear layer over unfolded patches.
"""

from dataclasses import dataclass
from math import prod

import numpy as np
import torch

from etc_data.keystream import IntArray


@dataclass(frozen=True)
class PatchLayout:
    """The N patches of L values in a layer's input.

    Attributes:
        input_shape: of one item: (C, H, W) for a convolution, (…, L) for a linear layer.
        kernel: (height, width) in pixels for a convolution, which is its stride too; else None.
    """

    input_shape: tuple[int, ...]
    kernel: tuple[int, int] | None

    @property
    def grid(self) -> tuple[int, ...]:
        """How the patches lie in the layer's output."""
        if self.kernel is None:
            return self.input_shape[:-1]
        _, height, width = self.input_shape
        return height // self.kernel[0], width // self.kernel[1]

    @property
    def patches(self) -> int:
        """N, how many patches one item has."""
        return prod(self.grid)

    @property
    def values(self) -> int:
        """L, how many values a patch has."""
        return prod(self.input_shape) // self.patches

    def slots(self) -> IntArray:
        """Returns where each value of each patch lies in one flattened item, intp [N, L].

        Values are numbered as in the flattened weight of one output: (channel, row, column) for a
        convolution.
        """
        numbers = np.arange(prod(self.input_shape))
        if self.kernel is None:
            return numbers.reshape(self.patches, self.values)
        (rows, columns), (height, width) = self.grid, self.kernel
        cut = numbers.reshape(-1, rows, height, columns, width)
        return cut.transpose(1, 3, 0, 2, 4).reshape(self.patches, self.values)

    def as_output(self, tokens: torch.Tensor) -> torch.Tensor:
        """Returns tokens [B, N, D] in the shape of the layer's output.

        That is [B, D, rows, columns] for a convolution, in channels-last memory, else [B, …, D].
        """
        if self.kernel is None:
            return tokens.reshape(tokens.shape[0], *self.grid, -1)
        return tokens.transpose(1, 2).reshape(tokens.shape[0], -1, *self.grid)
