"""Planes of a block that do not depend on the order of its color components.

Every block is a set of three component planes.  They are put into an order that the planes themselves
tell: by a mean of x + x³.  That is odd, so that negating the block reverses the order, and its weights
are the same for every turn of the block.  Cube and weights break ties: of 8-bit means, and of
components with the same values at different places.  Where two components change places under a slight
change of the block, their planes are mostly almost the same (gray), and nothing jumps.
"""

import torch

# Whether each of the three planes changes its sign where the block is negated.
ODD_PLANES = (True, True, False)


def color_planes(blocks: torch.Tensor) -> torch.Tensor:
    """Returns the mean of outer components, the middle one, and the spread of the outer ones.

    Args:
        blocks: floating point [N, 3, B, B], centered at 0, where negation is a change of sign.

    Returns:
        [N, 3, B, B]: (low + high) / 2, middle, high − low, of the components in order.  No color order
        changes them; negation changes the sign of the first two and leaves the third.
    """
    values = blocks.float()
    statistic = ((values + values**3) * _weights(blocks.shape[-1], blocks.device)).mean((2, 3))
    order = statistic.argsort(1)[:, :, None, None].expand_as(blocks)
    low, middle, high = blocks.gather(1, order).unbind(1)
    return torch.stack([(low + high) / 2, middle, high - low], 1)


def _weights(size: int, device: torch.device) -> torch.Tensor:
    """Returns weights [B, B], different wherever no rotation or flip joins two places."""
    from_center = 1 + torch.linspace(-1, 1, size, device=device).square()
    return from_center.sqrt() + from_center.sqrt()[:, None]
