"""A trainable matrix over the positions of patches, which may learn to undo block scrambling.

qi2022-convmixer §III-B takes it from the adaptation network of Madono et al. (2020) and puts it behind
the patch embedding of ConvMixer.
"""

import math

import torch
from torch import Tensor, nn

from etc_data.errors import GeometryError


class PermutationMatrix(nn.Module):
    """Mixes N positions: y_j = Σ_i x_i U_ij, the same for every image and channel.

    Nothing forces U to be a permutation but `penalty`; `report_permutation` tells how close it came.
    Where encrypted position i shows plain block ``order[i]``, the matrix with U[i, order[i]] = 1 and 0
    elsewhere restores the plain arrangement.

    Args:
        positions: N.
        penalty_weight: λ, by which `penalty` multiplies L_U.

    Attributes:
        matrix: U, [N, N].  It starts uniform within ±1/√N, as in Madono's code.
    """

    def __init__(self, positions: int, penalty_weight: float) -> None:
        super().__init__()
        self.penalty_weight = penalty_weight
        self.matrix = nn.Parameter(torch.empty(positions, positions))
        nn.init.kaiming_uniform_(self.matrix, a=math.sqrt(5))

    def forward(self, embedding: Tensor) -> Tensor:
        """Returns the mixed positions; both are [B, C, h, w] with h · w = N, in raster order.

        Raises:
            GeometryError: h · w is not N.
        """
        height, width = embedding.shape[-2:]
        if height * width != len(self.matrix):
            raise GeometryError(
                f"{height}×{width} patches meet a permutation matrix for {len(self.matrix)}",
                "give create_model the img_size you train at",
            )
        mixed: Tensor = embedding.flatten(2) @ self.matrix
        return mixed.view_as(embedding)

    def penalty(self) -> Tensor:
        """Returns λ L_U, a float32 scalar."""
        return self.penalty_weight * permutation_penalty(self.matrix)

    def extra_repr(self) -> str:
        """Returns what `repr` shows."""
        return f"positions={len(self.matrix)}, penalty_weight={self.penalty_weight}"


def permutation_penalty(matrix: Tensor) -> Tensor:
    """Returns L_U, a float32 scalar that is 0 where no row or column has two entries other than 0.

    L_U = 1/N² · [Σ_i (‖u_i·‖₁ − ‖u_i·‖₂) + Σ_j (‖u_·j‖₁ − ‖u_·j‖₂)] for `matrix` U [N, N] (Madono
    et al. 2020, after AutoShuffleNet).  Signs do not matter to it, and no sum is asked for: U = 0 costs
    nothing.

    >>> permutation_penalty(torch.eye(4)[[2, 0, 3, 1]]).item()
    0.0
    """
    matrix = matrix.float()
    excess = [matrix.norm(1, dim) - matrix.norm(2, dim) for dim in (0, 1)]
    return torch.cat(excess).sum() / matrix.numel()
