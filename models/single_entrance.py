"""Whether a model sees the image through its patch embedding alone, once.

Only the patch embedding takes up the key.  A model that looks at the image in a second place as well,
such as an embedding of another scale, would meet encrypted values there and answer something else.
"""

from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from etc_data.errors import ModelError
from etc_data.models.foreign_errors import reason_of
from etc_data.models.patch_embedding import PatchEmbedding
from etc_data.states import COLORS


def check_single_entrance(model: nn.Module, embedding: PatchEmbedding) -> None:
    """Checks that nothing of the image reaches the answer but through the patch embedding.

    The model is run on two images.  The second time the patch embedding gives out what it gave the
    first time, so that the answers are the same unless the image has another way.

    Args:
        model: left as it was, in its mode.
        embedding: of the model.

    Raises:
        ModelError: it has, or the layer is used twice or shares its weights, or the model does not run.
    """
    _check_own_weights(model, embedding)
    given: list[torch.Tensor] = []

    def repeat_first(_: nn.Module, __: Any, output: torch.Tensor) -> torch.Tensor:
        given.append(output)
        return given[0]

    count = COLORS * embedding.image_size[0] * embedding.image_size[1]
    like = next(model.parameters())
    shades = torch.linspace(0, 1, count).reshape(1, COLORS, *embedding.image_size)
    images = (image.to(like.device, like.dtype) for image in (shades, torch.zeros_like(shades)))
    modes = {module: module.training for module in model.modules()}
    handle = embedding.layer.register_forward_hook(repeat_first)
    try:
        with torch.no_grad():
            first, second = (_tensors(model.eval()(image)) for image in images)
    except Exception as error:
        raise ModelError(
            f"the model does not run in {like.dtype} on {like.device}: {reason_of(error)}",
            "move it to where it runs, then encrypt it",
        ) from None
    finally:
        handle.remove()
        for module, training in modes.items():
            module.training = training
    if len(given) != 2:
        raise ModelError(
            f"the model uses its patch embedding {embedding.name!r} {len(given) // 2} times an image",
            "only a model that embeds every image once can be encrypted",
        )
    if not all(map(_same, first, second)):
        raise ModelError(
            f"the image reaches the answer of this {type(model).__name__} past its patch embedding "
            f"{embedding.name!r}, too",
            "only a model that sees the image through one patch embedding can be encrypted, as ViT, "
            "ConvMixer and MLP-Mixer do",
        )


def _check_own_weights(model: nn.Module, embedding: PatchEmbedding) -> None:
    own = {id(parameter) for parameter in embedding.layer.parameters()}
    names = [
        name
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if id(parameter) in own
    ]
    if len(names) > len(own):
        raise ModelError(
            f"the patch embedding {embedding.name!r} shares its weights with other parts of the model: "
            + ", ".join(names),
            "give those parts weights of their own",
        )


def _tensors(output: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(output) if isinstance(leaf, torch.Tensor)]


def _same(first: torch.Tensor, second: torch.Tensor) -> bool:
    return first.shape == second.shape and torch.allclose(first, second, equal_nan=True)
