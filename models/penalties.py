"""What a network adds to the loss of its training."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn


@runtime_checkable
class Penalized(Protocol):
    """A module that knows its own part of the loss."""

    def penalty(self) -> Tensor:
        """Returns a float32 scalar, its weight included."""
        ...


def penalty(model: nn.Module) -> Tensor:
    """Returns the sum of the penalties of all parts of `model`, a float32 scalar; 0 if there are none.

    One line of a training loop serves all networks (qi2022-convmixer eq. 1):

        loss = cross_entropy(model(images), labels) + penalty(model)

    Call it after the forward pass whose loss it joins: some penalties are of what passed through.

    >>> penalty(nn.Linear(2, 2))
    tensor(0.)
    """
    total = torch.zeros(())
    for module in model.modules():
        if isinstance(module, Penalized):
            total = total + module.penalty()
    return total
