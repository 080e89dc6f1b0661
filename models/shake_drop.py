"""ShakeDrop regularization (Yamada et al. 2019)."""

from typing import Any

import torch
from torch import Tensor, nn


class ShakeDrop(nn.Module):
    """Scales a residual branch F at random, by different factors on the way forward and back.

    Training: (b + α − bα) F(x) forward, (b + β − bβ) times the gradient backward, with b ~
    Bernoulli(p), α ~ U(−1, 1), β ~ U(0, 1), all independent.  One b is drawn for the batch, one α and
    one β for each of its images, as in the code that the adaptation networks were trained with.
    Evaluation: E[b + α − bα] F(x) = p F(x).

    Args:
        survival_probability: p.
    """

    def __init__(self, survival_probability: float) -> None:
        super().__init__()
        self.survival_probability = survival_probability

    def forward(self, branch: Tensor) -> Tensor:
        """Returns the scaled branch; both are [B, ...], of any floating dtype."""
        if not self.training:
            return self.survival_probability * branch
        gate = torch.rand((), device=branch.device) < self.survival_probability
        shape = (len(branch),) + (1,) * (branch.ndim - 1)
        alpha = 2 * torch.rand(shape, device=branch.device) - 1
        beta = torch.rand(shape, device=branch.device)
        scales = (torch.where(gate, 1, scale).to(branch.dtype) for scale in (alpha, beta))
        scaled: Tensor = _ScaleApart.apply(branch, *scales)  # type: ignore[no-untyped-call]
        return scaled

    def extra_repr(self) -> str:
        """Returns what `repr` shows."""
        return f"survival_probability={self.survival_probability:.4g}"


class _ScaleApart(torch.autograd.Function):
    """Multiplies by one factor forward and by another backward."""

    @staticmethod
    def forward(branch: Tensor, forward_scale: Tensor, backward_scale: Tensor) -> Tensor:
        return branch * forward_scale

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[2])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (scale,) = ctx.saved_tensors
        return gradients[0] * scale, None, None
