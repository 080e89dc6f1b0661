"""The data set under audit: what lies in its storage, and with the key the truth about it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from etc_data.audit.evidence import (
    Bytes,
    Ciphertexts,
    CiphertextsAndOwnImages,
    EncryptedModel,
    EncryptionService,
    KnownPairs,
)
from etc_data.audit.judgment import Owner
from etc_data.cipher import Cipher
from etc_data.codecs import decode
from etc_data.errors import ImageError
from etc_data.keys import SecretKey
from etc_data.shards.data_set import Place
from etc_data.shards.manifest import Manifest

if TYPE_CHECKING:
    from torch import nn

    from etc_data.audit.lpips import Lpips


@dataclass(frozen=True)
class Subject:
    """Encrypted images of one data set, of one size, held in memory.

    Attributes:
        manifest: of the data set.
        encrypted: uint8 [n, H, W, 3], in the order of the storage, which is a keyed random one.
        nonces: of these images with key scope ``"image"``, else empty.
        cipher: with the owner's key; None where the audit is done without it.
        model: encrypted under the same key, where there is one to attack.
        base: the plain weights that `model` was fine-tuned from, as far as an attacker may know them.
        lpips: for the owner to compare pictures by.
    """

    manifest: Manifest
    encrypted: Bytes = field(repr=False)
    nonces: tuple[bytes, ...] = field(repr=False)
    cipher: Cipher | None
    model: "nn.Module | None" = field(default=None, repr=False)
    base: "nn.Module | None" = field(default=None, repr=False)
    lpips: "Lpips | None" = None

    @classmethod
    def read(
        cls, place: Place, *, key: SecretKey | None, most: int, split: str | None = None
    ) -> "Subject":
        """Reads up to `most` images; where sizes differ, those of the most frequent one.

        Args:
            place: the data set: a folder or a URL.
            key: the owner's; None audits as a stranger would.
            most: images to look at; they are held in memory.
            split: take only this one.

        Raises:
            ManifestError: there is no such data set, or no such split.
            WrongKeyError: the key is another.
            DamagedShardError: a shard is missing, cut short or altered.
            ImageError: the data set holds no image.
        """
        from etc_data.shards import open_shards

        shards = open_shards(place, split=split, form="sample", key=key, rank=0, world_size=1)
        by_size: dict[tuple[int, ...], list[tuple[Bytes, bytes | None]]] = {}
        for number, sample in enumerate(shards):
            if number == most:
                break
            image = decode(sample.image)
            by_size.setdefault(image.shape, []).append((image, sample.nonce()))
        if not by_size:
            raise ImageError("the data set holds no image to audit")
        chosen = max(by_size.values(), key=len)
        return cls(
            shards.manifest,
            np.stack([image for image, _ in chosen]),
            tuple(nonce for _, nonce in chosen if nonce is not None),
            None if key is None else shards.manifest.cipher(key),
        )

    @property
    def height(self) -> int:
        """Pixels; likewise `width`."""
        return int(self.encrypted.shape[1])

    @property
    def width(self) -> int:
        """See `height`."""
        return int(self.encrypted.shape[2])

    @property
    def codec(self) -> str:
        """What the images were coded with, such as ``"jpeg 95 4:4:4"``."""
        return " ".join(str(value) for value in self.manifest.codec.values())

    def plain(self, chosen: slice) -> Bytes:
        """Returns the decrypted form of some of the images, as far as their coding left it.

        Raises:
            ValueError: the key is not at hand.
        """
        if self.cipher is None:
            raise ValueError("the plain images cannot be seen without the key")
        nonces: Sequence[bytes] | None = self.nonces[chosen] or None
        return self.cipher.decrypt(self.encrypted[chosen], nonce=nonces)

    # -- what attackers hold, and the truth about it -----------------------------------------------

    def owner(self, chosen: slice) -> Owner | None:
        """Returns the truth about some of the images; None without the key."""
        if self.cipher is None:
            return None
        return Owner(self.cipher, self.plain(chosen), self.nonces[chosen], self.lpips)

    def ciphertexts(self, most: int) -> Ciphertexts:
        """Returns what whoever reads the storage has, of the first images."""
        manifest = self.manifest
        return Ciphertexts(manifest.scheme, manifest.key_scope, self.encrypted[:most], self.codec)

    def known_pairs(self, pairs: int, others: int) -> KnownPairs:
        """Returns what one has who knows the first photos, and wants to see others after them."""
        manifest = self.manifest
        return KnownPairs(
            manifest.scheme,
            manifest.key_scope,
            self.plain(slice(0, pairs)),
            self.encrypted[:pairs],
            self.encrypted[pairs : pairs + others],
        )

    def with_own_images(self, own: slice) -> CiphertextsAndOwnImages:
        """Returns what one has whose own pictures are like these: some that stand in for them."""
        return CiphertextsAndOwnImages(self.ciphertexts(len(self.encrypted)), self.plain(own))

    def encrypted_model(self, queries: int, *, base: bool) -> EncryptedModel:
        """Returns what an inference provider has, the first images as queries.

        Raises:
            ValueError: there is no encrypted model.
        """
        if self.model is None:
            raise ValueError("there is no encrypted model to attack")
        return EncryptedModel(self.model, self.encrypted[:queries], self.base if base else None)

    def service(self, others: int) -> EncryptionService:
        """Returns what one has who can submit photos, and wants to see the first images.

        Raises:
            ValueError: the key is not at hand.
        """
        cipher = self.cipher
        if cipher is None:
            raise ValueError("nothing can be encrypted without the key")

        def encrypt(queries: Bytes) -> Bytes:
            fresh = cipher.key_scope == "image"
            nonces = [cipher.new_nonce() for _ in queries] if fresh else None
            return cipher.encrypt(queries, nonce=nonces)

        manifest = self.manifest
        return EncryptionService(manifest.scheme, manifest.key_scope, encrypt, self.encrypted[:others])
