"""Resizing of whole batches on the device that trains, with the values that Pillow would give."""

import torch


def resize_batch(images: torch.Tensor, side: int) -> torch.Tensor:
    """Returns images resampled to squares with an antialiased bicubic filter.

    As in Pillow, rows come first, then columns, and values are rounded to bytes after either; the few
    that differ from Pillow's, differ by 1 or 2.

    Args:
        images: uint8 [N, C, H, W], on any device, squares themselves.
        side: of the result, in pixels.

    Returns:
        uint8 [N, C, side, side] on the same device; the same tensor if it has the size already.
    """
    if images.shape[-2:] == (side, side):
        return images
    values = images.float()
    for size in ((images.shape[-2], side), (side, side)):
        values = torch.nn.functional.interpolate(values, size=size, mode="bicubic", antialias=True)
        values = values.round_().clamp_(0, 255)
    return values.byte()
