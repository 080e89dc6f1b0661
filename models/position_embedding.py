"""The position embedding of a transformer that takes its patches in any order.

A scheme that scrambles blocks moves whole patches.  A vision transformer adds an absolute position
to each patch and from then on treats patches as a set, so that permuting the rows of its position
embedding undoes the move (maungmaung2022 eq. 4).  Networks that mix neighboring patches
(ConvMixer), weight patches by their place (MLP-Mixer, ResMLP) or attend by distance cannot.
"""

from typing import Any

import etc_data.torchvision_cpu  # noqa: F401

# isort: split
import torch
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from etc_data.errors import ModelError
from etc_data.keystream import IntArray
from etc_data.models.patch_embedding import PatchEmbedding

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def permute_positions(model: Any, patch_order: IntArray, embedding: PatchEmbedding) -> str | None:
    """Gives the patch rows of a transformer's position embedding a new order, in place.

    Rows of class, register and distillation tokens stay.

    Args:
        model: changed in place.
        patch_order: intp [N]; row n becomes what row ``patch_order[n]`` was.
        embedding: of the model; its layer is the one convolution the model may have.

    Returns:
        the name of the parameter, or None where the model has no position embedding and so is
        indifferent to the order.

    Raises:
        ModelError: the model's answer depends on the order of its patches in another way.
    """
    _check_takes_any_order(model, embedding)
    positions = model.pos_embed
    if positions is None:
        return None
    assert isinstance(positions, nn.Parameter)
    prefix = positions.shape[1] - len(patch_order)
    if prefix not in (0, model.num_prefix_tokens):
        raise ModelError(
            f"the position embedding has {positions.shape[1]} rows for {len(patch_order)} patches and "
            f"{model.num_prefix_tokens} other tokens"
        )
    with torch.no_grad():
        positions[:, prefix:] = positions[:, prefix + torch.from_numpy(patch_order)]
    return "pos_embed"


def _check_takes_any_order(model: Any, embedding: PatchEmbedding) -> None:
    name = type(model).__name__
    size = embedding.fitting_block
    hint = (
        f"use a scheme that leaves blocks in place, such as ind-{size} (--scheme ind-{size}), or a "
        "vision transformer with an absolute position embedding"
    )
    moves = "the scheme moves whole patches to other places, and"
    # Subclasses add windows, relative positions or token convolutions.
    if type(model) not in (VisionTransformer, VisionTransformerDistilled):
        raise ModelError(f"{moves} a {name} is not known to take its patches in any order", hint)
    foreign = [
        type(block).__name__
        for block in model.blocks
        if type(block).__module__ != VisionTransformer.__module__
    ]
    foreign += [
        type(module).__name__
        for module in model.modules()
        if isinstance(module, _CONVOLUTIONS) and module is not embedding.layer
    ]
    if foreign:
        raise ModelError(f"{moves} this {name} has a {foreign[0]}, which may mix neighbors", hint)
    if model.global_pool == "":
        raise ModelError(
            f"{moves} this {name} gives out all its tokens, so that its answer would be scrambled",
            "encrypt the model with its head: global_pool other than ''",
        )
    if model.dynamic_img_size or not model.patch_embed.strict_img_size:
        raise ModelError(
            f"{moves} this {name} resamples its position embedding to the size of the image",
            "create it with dynamic_img_size=False and strict_img_size=True",
        )
