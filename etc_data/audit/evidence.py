"""What an attacker holds.  No type here has room for a key, a plan or a cipher.

All of it is what the threat model grants: the scheme is public, so is the key scope, and the files lie
in a bucket.  The owner's side, with the key, is in `judgment` alone.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from etc_data.errors import ImageError
from etc_data.schemes import KeyScope, Scheme
from etc_data.shards.data_set import Place

if TYPE_CHECKING:
    from torch import nn

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Ciphertexts:
    """Encrypted images of one data set, and what its manifest says of how they were made.

    Attributes:
        scheme: the public scheme.
        key_scope: ``"dataset"`` or ``"image"``.
        images: encrypted images, uint8 [H, W, 3] each; can be gone through again and again.
        codec: what the images were coded with, such as ``"jpeg 95 4:4:4"``; empty for exact pixels.
    """

    scheme: Scheme
    key_scope: KeyScope
    images: Iterable[Bytes] = field(repr=False)
    codec: str = ""

    @classmethod
    def from_shards(cls, folder: Place, *, split: str | None = None) -> "Ciphertexts":
        """Returns the images of a data set of shards, read anew each time and never held together.

        Raises:
            ManifestError: there is no such data set, or no such split.
        """
        from etc_data.shards import open_shards

        shards = open_shards(folder, split=split, form="numpy", rank=0, world_size=1)
        manifest = shards.manifest
        codec = " ".join(str(value) for value in manifest.codec.values())
        return cls(manifest.scheme, manifest.key_scope, _Pixels(shards), codec)

    def take(self, most: int) -> Bytes:
        """Returns up to `most` images of one size, uint8 [n, H, W, 3], in their order.

        Of the first `most` images the most frequent size is taken: plans differ between sizes.  Memory
        is bounded by `most`, however many images there are.

        Raises:
            ImageError: there are no images.
        """
        by_size: dict[tuple[int, ...], list[Bytes]] = {}
        for image in islice(self.images, most):
            by_size.setdefault(image.shape, []).append(image)
        if not by_size:
            raise ImageError("there are no encrypted images to attack")
        return np.stack(max(by_size.values(), key=len))


@dataclass(frozen=True)
class _Pixels:
    """The images of shards without their labels."""

    shards: Iterable[tuple[Bytes, int]]

    def __iter__(self) -> Iterator[Bytes]:
        return (image for image, _ in self.shards)


@dataclass(frozen=True)
class KnownPairs:
    """Plain images together with their encrypted form, all of one size and under one key.

    Attributes:
        scheme: the public scheme.
        key_scope: ``"dataset"`` or ``"image"``.
        plain: uint8 [n, H, W, 3].
        encrypted: uint8 [n, H, W, 3]; image i is the encryption of ``plain[i]``.
        others: further encrypted images that the attacker wants to read, uint8 [m, H, W, 3].
    """

    scheme: Scheme
    key_scope: KeyScope
    plain: Bytes = field(repr=False)
    encrypted: Bytes = field(repr=False)
    others: Bytes = field(repr=False)

    def __post_init__(self) -> None:
        if self.plain.shape != self.encrypted.shape or self.plain.shape[1:] != self.others.shape[1:]:
            raise ImageError(
                f"pairs of shapes {self.plain.shape} and {self.encrypted.shape} with others of "
                f"{self.others.shape}: all images must have one size"
            )


@dataclass(frozen=True)
class EncryptionService:
    """Whoever can have images of their own choice encrypted, and holds others.

    Attributes:
        scheme: the public scheme.
        key_scope: ``"dataset"`` or ``"image"``.
        encrypt: encrypts images, uint8 [n, H, W, 3] to the same shape.
        others: encrypted images that the attacker wants to read, uint8 [m, H, W, 3].
    """

    scheme: Scheme
    key_scope: KeyScope
    encrypt: Callable[[Bytes], Bytes] = field(repr=False)
    others: Bytes = field(repr=False)


@dataclass(frozen=True)
class CiphertextsAndOwnImages:
    """Encrypted images, and an attacker who has pictures of the same kind of his own.

    Attributes:
        ciphertexts: what he wants to read.
        own: plain images as they would be encrypted, uint8 [m, H, W, 3]; none need be in the data set.
    """

    ciphertexts: Ciphertexts
    own: Bytes = field(repr=False)


@dataclass(frozen=True)
class EncryptedModel:
    """An encrypted model with the encrypted queries it answers, as the papers' server holds them.

    Attributes:
        model: from `encrypt_model` or `load_encrypted_model`; it tells its scheme.
        queries: encrypted images, uint8 [n, H, W, 3].
        base: a plain model with the weights that the owner started from, as far as the attacker knows;
            None where he has none.
    """

    model: "nn.Module" = field(repr=False)
    queries: Bytes = field(repr=False)
    base: "nn.Module | None" = field(default=None, repr=False)
