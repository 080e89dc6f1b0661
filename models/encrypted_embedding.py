"""Patch embeddings that take encrypted patches, each patch under a key of its own.

Two forms of the same function (lin2024 eq. 11).  *Dense*: N matrices Ê_i = k_iᵀE, as in the paper.
*Compact*: the one matrix Ê_0, and for each patch the signed permutation of its values that brings it
under the key of patch 0.  Both tell an observer the same: from N matrices that are signed row
permutations of each other the relative keys can be read off.
"""

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from etc_data.errors import GeometryError, ModelError
from etc_data.keystream import BoolArray, IntArray
from etc_data.models.folding import Normalization
from etc_data.models.patch_layout import PatchLayout


class EncryptedPatchEmbedding(nn.Module):
    """What the two forms share: they cut their input into patches and check its size."""

    slots: torch.Tensor

    def __init__(self, layout: PatchLayout, slots: IntArray, device: torch.device) -> None:
        super().__init__()
        self.layout = layout
        # Follows from the layout or the keys, so that no file holds it.
        self.register_buffer("slots", torch.from_numpy(slots.reshape(-1)).to(device), persistent=False)

    def _patches(self, image: torch.Tensor) -> torch.Tensor:
        """Returns the values at `slots`, [B, N, L]."""
        if tuple(image.shape[1:]) != self.layout.input_shape:
            raise GeometryError(
                f"input of shape {tuple(image.shape[1:])} for a model that was encrypted for "
                f"{self.layout.input_shape}: every patch has its own key, and so its own place",
                "encrypt the plain model again for the other size",
            )
        taken = image.flatten(1).index_select(1, self.slots)
        return taken.reshape(-1, self.layout.patches, self.layout.values)


class DensePatchEmbedding(EncryptedPatchEmbedding):
    """One matrix for each patch: token i is x̂_i Ê_i (lin2024 eq. 11).

    Attributes:
        matrices: [N, D, L].
        biases: [N, D], or None.
    """

    def __init__(
        self, layout: PatchLayout, outputs: int, *, bias: bool, device: torch.device, dtype: torch.dtype
    ) -> None:
        super().__init__(layout, layout.slots(), device)
        shape = layout.patches, outputs, layout.values
        self.matrices = nn.Parameter(torch.zeros(shape, device=device, dtype=dtype))
        self.biases = nn.Parameter(torch.zeros(shape[:2], device=device, dtype=dtype)) if bias else None

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Returns the tokens of encrypted images, in the shape of the plain layer's output."""
        tokens = torch.einsum("bnl,ndl->bnd", self._patches(image), self.matrices)
        return self.layout.as_output(tokens if self.biases is None else tokens + self.biases)


class CompactPatchEmbedding(EncryptedPatchEmbedding):
    """One matrix for all patches, whose values are first brought under the key of patch 0.

    A state dict holds the relative keys as `keys`, uint8 [N, ⌈L(w + 1)/8⌉], a row of bits for each
    patch, lowest bit first: for each value its slot in w = ⌈log₂ L⌉ bits and whether it is negated.
    That is 0.9 % of a ViT-Ti/16 in float32, 1.8 % in bfloat16.

    Attributes:
        matrix: Ê_0, [D, L].
        bias: [D], or None.
    """

    keys: torch.Tensor
    scale: torch.Tensor | None
    offset: torch.Tensor | None

    def __init__(
        self,
        layout: PatchLayout,
        outputs: int,
        *,
        colors: IntArray,
        normalization: Normalization,
        bias: bool,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        super().__init__(layout, layout.slots(), device)
        self._colors = colors
        self._normalization = normalization
        self.matrix = nn.Parameter(torch.zeros(outputs, layout.values, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(outputs, device=device, dtype=dtype)) if bias else None
        for name in ("scale", "offset"):
            self.register_buffer(name, None, persistent=False)
        order = np.tile(np.arange(layout.values), (layout.patches, 1))
        self.register_buffer("keys", torch.from_numpy(_pack(order, order < 0)).to(device))
        self.register_load_state_dict_post_hook(_expand_keys)  # type: ignore[no-untyped-call]

    def set_keys(self, order: IntArray, negated: BoolArray) -> None:
        """Takes the relative keys of the patches, both [N, L] (see `PatchKeys.relative`)."""
        self.keys.copy_(torch.from_numpy(_pack(order, negated)))
        self.expand_keys()

    def expand_keys(self) -> None:
        """Makes of the stored bits what the forward pass uses.

        Raises:
            ModelError: they are no permutations.
        """
        order, negated = _unpack(self.keys.cpu().numpy(), self.layout.values)
        if np.any(np.sort(order, axis=1) != np.arange(self.layout.values)):
            raise ModelError("the encrypted patch embedding is damaged: its order is no permutation")
        scale, offset = self._normalization.undoing(
            self._colors[order], np.broadcast_to(self._colors, order.shape), negated
        )
        slots = np.take_along_axis(self.layout.slots(), order, axis=1)
        self.slots = torch.from_numpy(slots.reshape(-1)).to(self.matrix.device)
        self.scale = self._like_matrix(scale) if np.any(scale != 1) else None
        self.offset = self._like_matrix(offset) if np.any(offset != 0) else None

    def _like_matrix(self, array: "np.ndarray[Any, Any]") -> torch.Tensor:
        return torch.from_numpy(array).to(self.matrix.device, self.matrix.dtype)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Returns the tokens of encrypted images, in the shape of the plain layer's output."""
        patches = self._patches(image)
        if self.scale is not None:
            patches = patches * self.scale
        if self.offset is not None:
            patches = patches + self.offset
        return self.layout.as_output(F.linear(patches, self.matrix, self.bias))


def _expand_keys(layer: nn.Module, _: Any) -> None:
    assert isinstance(layer, CompactPatchEmbedding)
    layer.expand_keys()


def _pack(order: IntArray, negated: BoolArray) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    width = (order.shape[1] - 1).bit_length()
    index = order[..., None] >> np.arange(width) & 1
    bits = np.concatenate([index, negated[..., None]], axis=2).astype(np.uint8)
    return np.packbits(bits.reshape(len(order), -1), axis=1, bitorder="little")


def _unpack(octets: "np.ndarray[Any, np.dtype[np.uint8]]", values: int) -> tuple[IntArray, BoolArray]:
    width = (values - 1).bit_length()
    row = np.unpackbits(octets, axis=1, count=values * (width + 1), bitorder="little")
    bits = row.reshape(len(octets), values, width + 1)
    return bits[..., :width] @ (1 << np.arange(width)), bits[..., width].astype(np.bool_)
