"""Bringing an image to the grid of blocks: pad, crop or resize, for every type that `Cipher` takes."""

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from etc_data.errors import GeometryError, ImageError

if TYPE_CHECKING:
    import torch
    from PIL import Image

Fit = Literal["pad", "crop", "resize"]
Resize = Literal["crop", "exact"]


def prepare_image(
    image: "Image.Image",
    block_size: int,
    *,
    size: tuple[int, int] | None = None,
    resize: Resize = "crop",
    fit: Fit | None = None,
) -> "Image.Image":
    """Returns a PIL image (RGB) at the size that is encrypted: resized, then fitted to the grid.

    Args:
        image: upright, of mode RGB.
        block_size: pixels per side.
        size: (height, width) in pixels; None keeps the image's own.
        resize: ``"crop"`` covers `size` and cuts around the center, ``"exact"`` stretches; the filter
            is bicubic and antialiased.
        fit: as in `fit_image`; None leaves the image as it is.
    """
    from etc_data.sources.images import fit_to_grid, resize_to

    if size is not None:
        image = resize_to(image, *size, mode=resize)
    return image if fit is None else fit_to_grid(image, block_size, fit)


def fit_image(image: Any, block_size: int, how: Fit) -> Any:
    """Returns the image with height and width multiples of `block_size`, of the same type.

    Args:
        image: PIL image of mode RGB, NumPy [..., H, W, C] or torch [..., C, H, W]; uint8, or floating
            point in [0, 1].
        block_size: pixels per side.
        how: ``"pad"`` repeats the last row and column at the bottom and right, ``"crop"`` cuts around
            the center, ``"resize"`` goes to the nearest multiple, bicubic and antialiased.

    Raises:
        GeometryError: `how` is none of these, or cropping would leave nothing.
        ImageError: the image is of another type.
    """
    if how not in ("pad", "crop", "resize"):
        raise GeometryError(f'fit is {how!r}; it must be "pad", "crop" or "resize"')
    if is_pil(image):
        from etc_data.sources.images import fit_to_grid

        return fit_to_grid(image, block_size, how)
    if not hasattr(image, "shape") or image.ndim < 3:
        raise ImageError(f"cannot fit a {type(image).__name__}; give a PIL image, array or tensor")
    is_array = isinstance(image, np.ndarray)
    height, width = image.shape[-3:-1] if is_array else image.shape[-2:]
    if height % block_size == 0 and width % block_size == 0:
        return image
    import torch

    # Tensors and arrays share one path; torch's antialiased bicubic filter is Pillow's.  Its passes may
    # come in another order, so that bytes differ beside hard edges, where a pass is cut off.
    # torch warns of arrays that are read-only, so such a one is copied.
    tensor = (
        torch.from_numpy(np.require(image, requirements=("C", "W"))).movedim(-1, -3)
        if is_array
        else image
    )
    fitted = _fit_tensor(tensor, block_size, how)
    return np.ascontiguousarray(fitted.movedim(-3, -1).numpy()) if is_array else fitted


def is_pil(image: Any) -> bool:
    """Returns whether an image is a PIL image, without importing PIL; plugins subclass its classes."""
    return any(base.__module__.startswith("PIL.") for base in type(image).__mro__)


def _fit_tensor(image: "torch.Tensor", block_size: int, how: Fit) -> "torch.Tensor":
    import torch

    height, width = image.shape[-2:]
    if how == "crop":
        new_height, new_width = (length // block_size * block_size for length in (height, width))
        if not new_height or not new_width:
            raise GeometryError(
                f"image of {height}×{width} pixels is smaller than one block of {block_size}; "
                "pad or resize it"
            )
        # round() goes to the even number at a half, as torchvision's CenterCrop does.
        top, left = round((height - new_height) / 2), round((width - new_width) / 2)
        return image[..., top : top + new_height, left : left + new_width]
    if how == "pad":
        rows = torch.arange(-(-height // block_size) * block_size).clamp(max=height - 1)
        columns = torch.arange(-(-width // block_size) * block_size).clamp(max=width - 1)
        return image[..., rows[:, None].to(image.device), columns.to(image.device)]
    new_height, new_width = (
        max(1, (2 * length + block_size) // (2 * block_size)) * block_size for length in (height, width)
    )
    batch = image.reshape(-1, *image.shape[-3:])
    resized = torch.nn.functional.interpolate(
        # The filter is not made for 16-bit floats on every device.
        batch.float() if batch.dtype in (torch.float16, torch.bfloat16) else batch,
        size=(new_height, new_width),
        mode="bicubic",
        antialias=True,
    )
    if resized.is_floating_point():
        # The bicubic filter overshoots at edges.
        resized = resized.clamp(0, 1)
    return resized.to(image.dtype).reshape(*image.shape[:-2], new_height, new_width)
