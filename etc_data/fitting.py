"""Bringing an image to the grid of blocks: pad, crop or resize, for every type that `Cipher` takes."""

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from etc_data.errors import GeometryError, ImageError

if TYPE_CHECKING:
    import torch

Fit = Literal["pad", "crop", "resize"]


def fit_image(image: Any, block_size: int, how: Fit) -> Any:
    """Returns the image with height and width multiples of `block_size`, of the same type.

    Args:
        image: PIL image of mode RGB, NumPy [..., H, W, C] or torch [..., C, H, W].
        block_size: pixels per side.
        how: ``"pad"`` repeats the last row and column at the bottom and right, ``"crop"`` cuts around
            the center, ``"resize"`` goes to the nearest multiple, bicubic and antialiased.

    Raises:
        GeometryError: `how` is none of these, or cropping would leave nothing.
        ImageError: the image is of another type.
    """
    if how not in ("pad", "crop", "resize"):
        raise GeometryError(f'fit is {how!r}; it must be "pad", "crop" or "resize"')
    if type(image).__module__.startswith("PIL."):
        from etc_data.sources.images import fit_to_grid

        return fit_to_grid(image, block_size, how)
    if not hasattr(image, "shape") or image.ndim < 3:
        raise ImageError(f"cannot fit a {type(image).__name__}; give a PIL image, array or tensor")
    is_array = isinstance(image, np.ndarray)
    height, width = image.shape[-3:-1] if is_array else image.shape[-2:]
    if height % block_size == 0 and width % block_size == 0:
        return image
    import torch

    # Tensors and arrays share one path; torch's antialiased bicubic filter is Pillow's.
    tensor = torch.from_numpy(np.ascontiguousarray(image)).movedim(-1, -3) if is_array else image
    fitted = _fit_tensor(tensor, block_size, how)
    return np.ascontiguousarray(fitted.movedim(-3, -1).numpy()) if is_array else fitted


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
        top, left = (height - new_height) // 2, (width - new_width) // 2
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
        batch if batch.is_floating_point() or batch.dtype == torch.uint8 else batch.float(),
        size=(new_height, new_width),
        mode="bicubic",
        antialias=True,
    )
    if resized.is_floating_point():
        # The bicubic filter overshoots at edges.
        resized = resized.clamp(0, 1)
    return resized.reshape(*image.shape[:-2], new_height, new_width)
