"""Finds a model's patch embedding, and which image value each of its weights multiplies.

The model is run on images that number their own values, up to the layer that is met first.  What
arrives there tells whether the layer sees the untouched image, and in which order, without knowing
anything of the model's code.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import gcd
from typing import Any

import numpy as np
import torch
from torch import nn

from etc_data.errors import GeometryError, ModelError
from etc_data.keystream import IntArray
from etc_data.models.encrypted_embedding import EncryptedPatchEmbedding
from etc_data.models.foreign_errors import reason_of
from etc_data.models.patch_layout import PatchLayout
from etc_data.states import COLORS

# Whole numbers below 128 are exact in every floating-point type, bfloat16 included.
_DIGIT = 128


@dataclass(frozen=True)
class PatchEmbedding:
    """The layer of a model that embeds the patches of an image.

    Attributes:
        name: of the layer in the model, as in ``model.get_submodule(name)``.
        layer: a Conv2d, a Linear, or an encrypted patch embedding.
        layout: how the layer cuts its input.
        image_size: (height, width) of the image in pixels.
        source: intp [N, L]; the number of the image value that stands at each slot of each patch,
            where value (c, y, x) is number (c·H + y)·W + x.
        colors: intp [L]; the color component of each slot.
    """

    name: str
    layer: nn.Module
    layout: PatchLayout
    image_size: tuple[int, int]
    source: IntArray
    colors: IntArray

    @property
    def patch_size(self) -> tuple[int, int]:
        """(height, width) of the first patch in pixels."""
        width = self.image_size[1]
        rows, columns = self.source[0] // width % self.image_size[0], self.source[0] % width
        return int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1

    @property
    def fitting_block(self) -> int:
        """Pixels per side of the largest square blocks that divide the patches."""
        return gcd(*self.patch_size)


class _ReachedError(Exception):
    """Ends the forward pass at the layer that was looked for."""


def find_patch_embedding(
    model: nn.Module, image_size: tuple[int, int], name: str | None = None
) -> PatchEmbedding:
    """Returns the patch embedding of a model: the first layer with weights that the image meets.

    Args:
        model: takes images [B, 3, H, W]; nothing in it is changed.
        image_size: (height, width) in pixels.
        name: of the layer; by default the first one that is called.

    Raises:
        ModelError: there is no such layer, it is no patch embedding with stride = kernel, or the
            image is changed before it.
        GeometryError: the model does not take images of this size, or its patches do not divide it.
    """
    if not any(True for _ in model.parameters()):
        raise ModelError("the model has no weights, and so no patch embedding")
    if _is_layer(model):
        raise ModelError("the model is one single layer", "put it into a torch.nn.Sequential")
    if name is not None and name not in dict(model.named_modules()):
        raise ModelError(f"the model has no layer {name!r} to be its patch embedding")
    name, met = _first_input(model, image_size, name)
    layer = model.get_submodule(name)
    layout = _layout(name, layer, tuple(met.shape[1:]), image_size)
    numbers = _numbers_seen(met, 3 * image_size[0] * image_size[1])
    if numbers is None:
        raise ModelError(
            f"the image is changed before it reaches {name!r}, the first layer with weights",
            "leave normalization and augmentation outside the model and pass mean= and std=",
        )
    source = numbers[layout.slots()]
    colors = source // (image_size[0] * image_size[1])
    if np.any(colors != colors[0]):
        raise ModelError(
            f"the patches of layer {name!r} do not hold their color components in the same slots",
            "cut the image into patches of all three components",
        )
    return PatchEmbedding(name, layer, layout, image_size, source, colors[0])


def _first_input(
    model: nn.Module, image_size: tuple[int, int], name: str | None
) -> tuple[str, torch.Tensor]:
    """Returns the name of the first layer that is called, and what it is called with."""
    reached: list[tuple[str, torch.Tensor]] = []

    def stop_at(layer_name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(_: nn.Module, arguments: tuple[Any, ...]) -> None:
            reached.append((layer_name, arguments[0]))
            raise _ReachedError

        return hook

    layers = [
        (layer_name, layer)
        for layer_name, layer in model.named_modules()
        if layer_name == name or (name is None and _is_layer(layer))
    ]
    handles = [layer.register_forward_pre_hook(stop_at(layer_name)) for layer_name, layer in layers]
    try:
        with torch.no_grad():
            model(_numbered_images(model, image_size))
    except _ReachedError:
        return reached[0]
    except Exception as error:
        raise GeometryError(
            "the model does not take an image of {}×{} pixels: {}".format(
                *image_size, reason_of(error)
            ),
            "pass the image_size that the model was made for",
        ) from None
    finally:
        for handle in handles:
            handle.remove()
    what = "a layer with weights" if name is None else f"layer {name!r}"
    raise ModelError(f"the image never reaches {what}")


def _is_layer(module: nn.Module) -> bool:
    has_weights = any(True for _ in module.parameters(recurse=False))
    has_children = any(True for _ in module.children())
    return has_weights and not has_children


def _numbered_images(model: nn.Module, image_size: tuple[int, int]) -> torch.Tensor:
    """Returns images whose values, as the digits of one number each, are their own numbers."""
    like = next(model.parameters())
    numbers = np.arange(COLORS * image_size[0] * image_size[1])
    digits: list[torch.Tensor] = []
    while not digits or numbers.any():
        digits.append(torch.from_numpy(numbers % _DIGIT).reshape(COLORS, *image_size))
        numbers = numbers // _DIGIT
    return torch.stack(digits).to(like.device, like.dtype)


def _numbers_seen(met: torch.Tensor, count: int) -> IntArray | None:
    """Returns the numbers of the values that arrived, or None where some are missing or changed."""
    if met[0].numel() != count:
        return None
    digits = met.detach().double().cpu().reshape(len(met), count).numpy()
    numbers = np.rint(_DIGIT ** np.arange(len(met)) @ digits)
    exact = bool(((digits >= 0) & (digits < _DIGIT) & (digits % 1 == 0)).all())
    if not exact or np.any(np.sort(numbers) != np.arange(count)):
        return None
    order: IntArray = numbers.astype(np.intp)
    return order


def _layout(
    name: str, layer: nn.Module, input_shape: tuple[int, ...], image_size: tuple[int, int]
) -> PatchLayout:
    """Returns how a layer cuts its input, once it is clear that it is a patch embedding."""
    if isinstance(layer, EncryptedPatchEmbedding):
        return layer.layout
    if type(layer) is nn.Linear:
        return PatchLayout(input_shape, None)
    # A subclass may standardize its weights or pad its input, and so is something else.
    if type(layer) is not nn.Conv2d:
        raise ModelError(
            f"the first layer with weights, {name!r}, is a {type(layer).__name__}; a patch embedding "
            "is a Conv2d with stride = kernel or a Linear",
            "name the layer with patch_embedding= if it is another one",
        )
    height, width = layer.kernel_size
    if (
        layer.stride != layer.kernel_size
        or layer.padding not in ((0, 0), "valid")
        or layer.dilation != (1, 1)
        or layer.groups != 1
        or input_shape[0] != COLORS
    ):
        raise ModelError(
            f"layer {name!r} is no patch embedding of a color image: kernel {height}×{width}, stride "
            f"{layer.stride[0]}×{layer.stride[1]}, padding {layer.padding}, "
            f"{layer.in_channels} channels",
            "stride = kernel and no padding are needed, as ViT, ConvMixer and MLP-Mixer have",
        )
    if image_size[0] % height or image_size[1] % width:
        raise GeometryError(
            f"patches of {height}×{width} pixels do not divide an image of "
            f"{image_size[0]}×{image_size[1]}"
        )
    return PatchLayout(input_shape, (height, width))
