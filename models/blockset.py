"""Order-free classifiers, registered with timm as ``etc_blockset_{kind}_b{block}_{image size}``.

With a key per image the arrangement and the states of the blocks tell a model nothing, so these read
an image as a *set* of blocks: a stem inside each block (see `block_stem`), a transformer over the
embedded blocks without position embedding, and the mean over all of them.  The class is timm's
VisionTransformer.  Hao et al. (2025, Human-imperceptible, machine-recognizable images) do so for
shuffled plain patches.

| kind | what it is |
| --- | --- |
| ``tiny``, ``small`` | as wide and deep as ViT-Ti and ViT-S; the same logits for every EtC key |
| ``learned_tiny``, ``learned_small`` | an ordinary stem, which must learn from images in all states |
| ``bag`` | ``tiny`` without attention: the mean of the blocks' own logits, as in BagNet |

Blocks of 8 and 16 pixels; 32, 64, 128 and 224 px.  The image size in a name is the one of its timm
configuration; the weights do not depend on it, and a model takes images of every size that its blocks
divide.  Images are normalized with mean 0.5 and standard deviation 0.5, so that negation is a change of
sign; with other constants the logits do depend on the key.

Example:
    >>> import timm, torch
    >>> model = timm.create_model("etc_blockset_bag_b16_32").eval()
    >>> model(torch.zeros(1, 3, 32, 48)).shape
    torch.Size([1, 10])
"""

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import etc_data.torchvision_cpu  # noqa: F401

# isort: split
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.vision_transformer import VisionTransformer

from etc_data.models.block_stem import BlockStem, States
from etc_data.models.network_cfg import network_cfg
from etc_data.models.token_mlp import TokenMlp

BLOCK_SIZES = (8, 16)
IMAGE_SIZES = (32, 64, 128, 224)

_WIDTHS = {"tiny": (64, 128, 512), "small": (128, 256, 1024)}
_SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"embed_dim": 192, "depth": 12, "num_heads": 3},
    "small": {"embed_dim": 384, "depth": 12, "num_heads": 6},
}


def _kind(size: str, states: States = "invariant", **changes: Any) -> dict[str, Any]:
    stem = partial(BlockStem, widths=_WIDTHS[size], states=states)
    return {"class_token": False, "global_pool": "avg", "embed_layer": stem, **_SIZES[size], **changes}


_KINDS = {
    "tiny": _kind("tiny"),
    "small": _kind("small"),
    "learned_tiny": _kind("tiny", "learned"),
    "learned_small": _kind("small", "learned"),
    # The norm stands before the mean, so that the logits are the mean of the blocks' own.
    "bag": _kind("tiny", block_fn=TokenMlp, fc_norm=False),
}


def _name(kind: str, block_size: int, image_size: int) -> str:
    return f"etc_blockset_{kind}_b{block_size}_{image_size}"


def _entrypoint(kind: str, block_size: int, image_size: int) -> Callable[..., VisionTransformer]:
    name = _name(kind, block_size, image_size)

    def create(pretrained: bool = False, **changes: Any) -> VisionTransformer:
        # Given here, a position embedding or another block size in `changes` is refused by Python.
        return build_model_with_cfg(
            VisionTransformer,
            name,
            pretrained,
            patch_size=block_size,
            pos_embed="none",
            feature_cfg={"out_indices": 3, "feature_cls": "getter"},
            **(_KINDS[kind] | changes),
        )

    create.__name__ = create.__qualname__ = name
    create.__doc__ = f"The {kind} order-free model for blocks of {block_size} pixels."
    return create


_MODELS = list(product(_KINDS, BLOCK_SIZES, IMAGE_SIZES))
default_cfgs = generate_default_cfgs({_name(*model): network_cfg(model[-1]) for model in _MODELS})
for _model in _MODELS:
    register_model(_entrypoint(*_model))
