"""The weights of a patch embedding, plain and encrypted, carried from one layer to another.

All arithmetic is in float64; a layer gets the result rounded once to its own dtype.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from etc_data.errors import ModelError
from etc_data.models.encrypted_embedding import CompactPatchEmbedding, DensePatchEmbedding
from etc_data.models.folding import FloatArray, Fold
from etc_data.models.patch_keys import PatchKeys
from etc_data.models.patch_layout import PatchLayout

Matrix = tuple[FloatArray, FloatArray | None]
"""A matrix [D, L] and a bias [D], if there is one."""


def plain_matrix(layer: nn.Module) -> Matrix:
    """Returns the matrix E of a plain patch embedding.

    Raises:
        ModelError: a parametrization computes the weight.
    """
    weight = layer._parameters.get("weight")
    if weight is None:
        raise ModelError(
            "the weight of the patch embedding is computed by a parametrization",
            "torch.nn.utils.parametrize.remove_parametrizations makes it a plain weight",
        )
    return _read(weight), None if layer.bias is None else _float64(layer.bias)


def write_encrypted(layer: nn.Module, plain: Matrix, folds: Sequence[Fold], keys: PatchKeys) -> None:
    """Writes Ê_i = k_iᵀE (lin2024 eq. 10) into a layer, in place.

    Args:
        layer: of any form; a plain layer takes Ê_0, which serves all patches.
        plain: the matrix E and its bias.
        folds: of each patch.
        keys: of all patches.
    """
    weight, bias = plain

    def encrypted_bias(constant: FloatArray) -> FloatArray:
        return constant if bias is None else bias + constant

    if isinstance(layer, DensePatchEmbedding):
        for patch, fold in enumerate(folds):
            matrix, constant = fold.fold(weight)
            _write(layer.matrices.data[patch], matrix)
            if layer.biases is not None:
                _write(layer.biases.data[patch], encrypted_bias(constant))
        return
    matrix, constant = folds[0].fold(weight)
    if isinstance(layer, CompactPatchEmbedding):
        layer.set_keys(*keys.relative())
    _write(_shared_weight(layer), matrix)
    if layer.bias is not None:
        _write(layer.bias, encrypted_bias(constant))


def decrypted_matrix(layer: nn.Module, folds: Sequence[Fold]) -> Matrix:
    """Returns the matrix E of an encrypted patch embedding, the inverse of `write_encrypted`.

    Raises:
        ModelError: the matrices of a dense layer have grown apart.
    """
    if not isinstance(layer, DensePatchEmbedding):
        return _unfold(folds[0], _shared_weight(layer), layer.bias)
    biases = [None] * len(folds) if layer.biases is None else list(layer.biases)
    weight, bias = _unfold(folds[0], layer.matrices[0], biases[0])
    tolerance = 16 * torch.finfo(layer.matrices.dtype).eps * np.abs(weight).max()
    for fold, matrix in zip(folds[1:], layer.matrices[1:], strict=True):
        if np.abs(_unfold(fold, matrix, None)[0] - weight).max() > tolerance:
            raise ModelError(
                "the matrices of the patches are no longer one matrix under several keys: the dense "
                "model was trained after it was encrypted",
                "fine-tune the compact form, whose patches share their matrix",
            )
    return weight, bias


def plain_layer(layout: PatchLayout, plain: Matrix, like: nn.Parameter) -> nn.Module:
    """Returns a Conv2d or Linear with a matrix and bias, of the device and dtype of `like`."""
    weight, bias = plain
    options: dict[str, Any] = {"bias": bias is not None, "device": like.device, "dtype": like.dtype}
    layer: nn.Conv2d | nn.Linear
    if layout.kernel is None:
        layer = nn.Linear(layout.values, len(weight), **options)
    else:
        layer = nn.Conv2d(layout.input_shape[0], len(weight), layout.kernel, layout.kernel, **options)
    _write(layer.weight, weight)
    if bias is not None:
        _write(layer.bias, bias)
    return layer.requires_grad_(like.requires_grad)


def _shared_weight(layer: nn.Module) -> Any:
    return layer.matrix if isinstance(layer, CompactPatchEmbedding) else layer.weight


def _unfold(fold: Fold, weight: Any, bias: Any) -> Matrix:
    matrix, constant = fold.unfold(_read(weight))
    return matrix, None if bias is None else _float64(bias) - constant


def _read(weight: Any) -> FloatArray:
    return _float64(weight).reshape(len(weight), -1)


def _float64(tensor: Any) -> FloatArray:
    array: FloatArray = tensor.detach().double().cpu().numpy()
    return array


def _write(target: Any, array: FloatArray) -> None:
    with torch.no_grad():
        target.copy_(torch.from_numpy(array).reshape(target.shape))
