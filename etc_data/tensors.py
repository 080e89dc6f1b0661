"""Plans applied to torch tensors, on the device where the tensor lies."""

from typing import TYPE_CHECKING

import torch

from etc_data.errors import ImageError
from etc_data.states import COLORS

if TYPE_CHECKING:
    from etc_data.plans import Layout, Plan


def apply_to_tensor(plan: "Plan", image: torch.Tensor) -> torch.Tensor:
    """Returns the image with its values moved and negated, a new tensor on the same device.

    Args:
        plan: of the image's size.
        image: uint8 or floating point [..., 3, H, W].  A channels-last memory layout is kept.

    Raises:
        ImageError: the type, dtype, shape or values do not fit.
    """
    if not isinstance(image, torch.Tensor):
        raise ImageError(f"cannot encrypt a {type(image).__name__}; give a NumPy array or a tensor")
    if image.shape[-3:] != (COLORS, plan.height, plan.width):
        raise ImageError(
            f"tensor of shape {tuple(image.shape)} does not fit a plan for images of shape "
            f"[..., {COLORS}, {plan.height}, {plan.width}]"
        )
    if image.dtype != torch.uint8 and not image.dtype.is_floating_point:
        raise ImageError(f"tensor of dtype {image.dtype}; images are uint8 or floating point")
    if plan.halves and image.dtype != torch.uint8:
        octets = _bytes_of_floats(image)
        return (apply_to_tensor(plan, octets).double() / 255).to(image.dtype)
    if not image.is_contiguous():
        channels_last = image.movedim(-3, -1)
        if channels_last.is_contiguous():
            return _apply(plan, channels_last, "hwc").movedim(-1, -3)
    return _apply(plan, image, "chw")


def _apply(plan: "Plan", image: torch.Tensor, layout: "Layout") -> torch.Tensor:
    index, mask = _index_on(plan, layout, image.device)
    values = plan.height * plan.width * COLORS
    flat = image.reshape(-1, values)
    if plan.halves:
        mixed = _take(torch.cat([flat & 15, flat >> 4], dim=1), index)
        if mask is not None:
            mixed ^= mask >> 4
        return (mixed[:, :values] | mixed[:, values:] << 4).reshape(image.shape)
    out = _take(flat, index)
    if mask is not None and image.dtype == torch.uint8:
        out ^= mask
    elif mask is not None:
        out = torch.where(mask.bool(), 1 - out, out)
    return out.reshape(image.shape)


def _take(flat: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Returns ``flat[:, index]`` by the quickest kernel; index_select is slow over rows of bytes."""
    if len(flat) == 1:
        return flat[0].index_select(0, index)[None]
    if flat.dtype == torch.uint8:
        return flat.gather(1, index.expand(len(flat), -1))
    return flat.index_select(1, index)


def _index_on(
    plan: "Plan", layout: "Layout", device: torch.device
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Returns the plan's index, and its negations as a mask of 0 and 255, on a device."""
    cache: dict[tuple[str, torch.device], tuple[torch.Tensor, torch.Tensor | None]]
    cache = plan.__dict__.setdefault("_on_device", {})
    if (layout, device) not in cache:
        index, mask = plan.byte_mask(layout)
        # Tensors made in inference mode could never take part in a later backward pass.
        with torch.inference_mode(False):
            cache[layout, device] = (
                torch.from_numpy(index).to(device),
                None if mask is None else torch.from_numpy(mask).to(device),
            )
    return cache[layout, device]


def _bytes_of_floats(image: torch.Tensor) -> torch.Tensor:
    scaled = image.double() * 255
    rounded = scaled.round()
    if image.numel() and not bool((scaled - rounded).abs().max() <= 255e-4):
        worst = float((scaled - rounded).abs().max()) / 255
        raise ImageError(
            f"a scheme over 4-bit halves takes floats only where they are k/255; met one {worst:.2g} "
            "away from that"
        )
    return rounded.to(torch.uint8)
