"""`encrypt_model`: rewrites a trained plain model so that it takes encrypted images.

The weights of the patch embedding absorb the key (lin2024 §3.5; iijima §3.3; maungmaung2022 eq. 5) and,
where a scheme scrambles blocks, so does the order of the position embedding (maungmaung2022 eq. 4,
resting on property 1 of qi2022-vision-transformer §III-B).  The encrypted model gives to an encrypted
image the plain model's answer to the plain one; its images are normalized as the plain model's are.
"""

import copy
import json
from typing import Any, Literal, NoReturn

import numpy as np
import torch
from torch import nn

from etc_data.cipher import Cipher
from etc_data.errors import GeometryError, ModelError
from etc_data.models.embedding_weights import (
    decrypted_matrix,
    plain_layer,
    plain_matrix,
    write_encrypted,
)
from etc_data.models.encrypted_embedding import CompactPatchEmbedding, DensePatchEmbedding
from etc_data.models.folding import Fold, Normalization
from etc_data.models.key_acceptance import accepted_keys, serves_every_size
from etc_data.models.named_networks import NOT_OF_THE_NETWORK
from etc_data.models.patch_embedding import PatchEmbedding, find_patch_embedding
from etc_data.models.patch_keys import PatchKeys
from etc_data.models.position_embedding import permute_positions
from etc_data.models.public_facts import ModelInfo, attach_info, is_encrypted, model_info
from etc_data.models.single_entrance import check_single_entrance

_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, torch.jit.ScriptModule)


def encrypt_model(
    model: nn.Module,
    cipher: Cipher,
    *,
    image_size: int | tuple[int, int],
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
    form: Literal["compact", "dense"] = "compact",
    patch_embedding: str | None = None,
) -> nn.Module:
    """Returns a copy of a model that takes images encrypted with the cipher; the original is untouched.

    Ê_i = k_iᵀE (lin2024 eq. 10), so that x̂_i Ê_i = x_i E for every patch (eq. 11), and all that
    follows is as it was.  Where all patches have one key (com, flip), the layer stays what it is, with
    new weights.  Where each has its own (ind), it becomes a `CompactPatchEmbedding` or a
    `DensePatchEmbedding`.

    Example:
        >>> from etc_data import Cipher, SecretKey
        >>> plain = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.Flatten(), nn.Linear(512, 10))
        >>> cipher = Cipher("ind-4", SecretKey(bytes(32)))
        >>> half = (0.5, 0.5, 0.5)
        >>> encrypted = encrypt_model(plain, cipher, image_size=32, mean=half, std=half)
        >>> image = torch.rand(1, 3, 32, 32)
        >>> torch.allclose(encrypted(2 * cipher.encrypt(image) - 1), plain(2 * image - 1), atol=1e-5)
        True

    Args:
        model: any network whose first layer is a patch embedding: a Conv2d with stride = kernel or a
            Linear over unfolded patches.
        cipher: with key scope ``"dataset"``.
        image_size: pixels per side, or (height, width).
        mean: of the model's input normalization, for pixels in [0, 1]; by default that of timm's
            ``model.pretrained_cfg``.
        std: likewise.
        form: of the embedding where patches have keys of their own.  ``"compact"`` keeps one matrix and
            the patches' relative keys, ``"dense"`` N matrices as in the paper: the same function.
        patch_embedding: name of the layer; by default the first layer that the image meets.

    Returns:
        a new module on the model's device, in its dtype and mode.  It holds no key, but anyone who has
        it can read the patches' relative keys from its weights: docs/models-encryption.md.

    Raises:
        ModelError: the scheme or the model does not allow it; the message tells what would.
        GeometryError: the image size does not fit the scheme or the model.
    """
    size = _size(image_size)
    _check_model(model)
    if form not in ("compact", "dense"):
        raise ModelError(f'form is {form!r}; it must be "compact" or "dense"')
    normalization = _normalization(model, mean, std)
    encrypted = copy.deepcopy(model)
    embedding = find_patch_embedding(encrypted, size, patch_embedding)
    keys = accepted_keys(cipher, embedding)
    positions = None
    if not keys.in_place:
        positions = permute_positions(encrypted, keys.patch_order, embedding)
    check_single_entrance(encrypted, embedding)
    any_size = keys.common and keys.in_place and serves_every_size(cipher)
    plain = plain_matrix(embedding.layer)
    folds = _folds(keys, embedding, normalization)
    info = ModelInfo(
        scheme=cipher.scheme,
        key_id=cipher.key_id,
        context=cipher.context,
        image_size=size,
        patch_size=embedding.patch_size,
        normalization=normalization,
        # The plain layer checks no size: it must suit every one, or a transformer that checks.
        form="common" if any_size or (keys.common and not keys.in_place) else form,
        any_size=any_size,
        patch_embedding=embedding.name,
        position_embedding=positions,
        added_bias=plain[1] is None and any(bool(fold.offset.any()) for fold in folds),
        **_architecture(model),
    )
    write_encrypted(prepare_layers(encrypted, embedding, info), plain, folds, keys)
    return encrypted


def decrypt_model(model: nn.Module, cipher: Cipher) -> nn.Module:
    """Returns the plain model of an encrypted one; the given one is untouched.

    Weights that were only moved and negated come back bit by bit.  Those that were scaled between
    colors of different std, and a bias that took constants up, come back within the rounding of
    their dtype.

    Args:
        model: from `encrypt_model` or `load_encrypted_model`.
        cipher: what it was encrypted with.

    Raises:
        WrongKeyError: the model was encrypted with another key.
        ModelError: it is not encrypted, or with another scheme or context, or the matrices of its
            patches were trained apart since.
    """
    info = model_info(model)
    info.check_cipher(cipher)
    plain = copy.deepcopy(model)
    embedding = find_patch_embedding(plain, info.image_size, info.patch_embedding)
    keys = accepted_keys(cipher, embedding)
    folds = _folds(keys, embedding, info.normalization)
    if info.position_embedding is not None:
        permute_positions(plain, np.argsort(keys.patch_order), embedding)
    weight, bias = decrypted_matrix(embedding.layer, folds)
    matrix = weight, None if info.added_bias else bias
    layer = plain_layer(embedding.layout, matrix, next(embedding.layer.parameters()))
    plain.set_submodule(info.patch_embedding, layer.train(embedding.layer.training))
    for module in plain.modules():
        module.__dict__.pop("set_input_size", None)
    attach_info(plain, None)
    return plain


def prepare_layers(model: nn.Module, embedding: PatchEmbedding, info: ModelInfo) -> nn.Module:
    """Returns the layer for an encrypted model's weights, and puts it into a plain model in place.

    Args:
        model: a plain model.
        embedding: of the model.
        info: what the encrypted model is.
    """
    layer = embedding.layer
    weight = next(layer.parameters())
    like: dict[str, Any] = {"device": weight.device, "dtype": weight.dtype}
    has_bias = layer.bias is not None or info.added_bias
    encrypted: nn.Module = layer
    if info.form == "compact":
        encrypted = CompactPatchEmbedding(
            embedding.layout,
            len(weight),
            colors=embedding.colors,
            normalization=info.normalization,
            bias=has_bias,
            **like,
        )
    elif info.form == "dense":
        encrypted = DensePatchEmbedding(embedding.layout, len(weight), bias=has_bias, **like)
    elif info.added_bias:
        layer.bias = nn.Parameter(torch.zeros(len(weight), **like))
    encrypted.requires_grad_(weight.requires_grad).train(layer.training)
    model.set_submodule(info.patch_embedding, encrypted)
    _forbid_resizing(model)
    attach_info(model, info)
    return encrypted


def _folds(keys: PatchKeys, embedding: PatchEmbedding, normalization: Normalization) -> list[Fold]:
    return [
        Fold.of(order, negated, embedding.colors, normalization)
        for order, negated in zip(keys.order, keys.negated, strict=True)
    ]


# -- the model that is given --------------------------------------------------------------------


def _size(image_size: Any) -> tuple[int, int]:
    sides = image_size if isinstance(image_size, tuple | list) else (image_size, image_size)
    if len(sides) != 2 or any(not isinstance(side, int) or side < 1 for side in sides):
        raise GeometryError(
            f"image_size is {image_size!r}; it must be pixels per side, or (height, width)"
        )
    return sides[0], sides[1]


def _check_model(model: nn.Module) -> None:
    for module in model.modules():
        if is_encrypted(module):
            raise ModelError(
                f"the model is encrypted already, with key {model_info(module).key_id}",
                "decrypt_model gives the plain model back",
            )
        if isinstance(module, _WRAPPERS) or hasattr(module, "_orig_mod"):
            raise ModelError(
                f"the model is wrapped in a {type(module).__name__}",
                "encrypt the model itself, then compile it or make it parallel",
            )
    if any(getattr(module, "dynamic_img_pad", False) for module in model.modules()):
        raise ModelError(
            "the model pads images of other sizes, and padding is not encrypted",
            "create it with dynamic_img_pad=False",
        )


def _normalization(model: nn.Module, mean: Any, std: Any) -> Normalization:
    config = getattr(model, "pretrained_cfg", None) or {}
    mean = config.get("mean") if mean is None else mean
    std = config.get("std") if std is None else std
    if mean is None or std is None:
        raise ModelError(
            f"this {type(model).__name__} does not say how its input is normalized",
            "pass mean= and std=, such as (0.5, 0.5, 0.5); (0, 0, 0) and (1, 1, 1) if it is not",
        )
    return Normalization.of(mean, std)


def _architecture(model: nn.Module) -> dict[str, Any]:
    """Returns what `timm.create_model` needs to make such a model, if a file can hold it."""
    name = (getattr(model, "pretrained_cfg", None) or {}).get("architecture")
    given = getattr(model, "_model_args", None)  # noted by create_model from timm 1.0.31 on
    if name is None or given is None:
        return {}
    arguments = dict(given, num_classes=getattr(model, "num_classes", None))
    arguments["img_size"] = getattr(getattr(model, "patch_embed", None), "img_size", None)
    of_the_network = {
        key: value
        for key, value in arguments.items()
        if value is not None and key not in NOT_OF_THE_NETWORK
    }
    try:
        return {"architecture": name, "model_args": json.loads(json.dumps(of_the_network))}
    except TypeError:  # a class or function: without it, the name would make another network
        return {}


# -- no hidden resampling -----------------------------------------------------------------------


def _forbid_resizing(model: nn.Module) -> None:
    """Makes timm's `set_input_size` refuse: it would resample kernels and positions as if plain."""
    for module in model.modules():
        if hasattr(module, "set_input_size"):
            module.__dict__["set_input_size"] = _refuse_resizing


def _refuse_resizing(*_: Any, **__: Any) -> NoReturn:
    raise ModelError(
        "an encrypted model cannot be resized: its kernels and positions lie in encrypted order",
        "resize the plain model, then encrypt it again",
    )
