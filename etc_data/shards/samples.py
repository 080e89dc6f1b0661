"""One sample: from the bytes of a photo to the members of a shard, and back.

Encoding is a pure function of (item, position, key, options), so that any engine on any number of
workers writes the same bytes.
"""

import hashlib
import hmac
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_args

import numpy as np
from PIL import Image

from etc_data.augmentation import Augmentation
from etc_data.cipher import NONCE_BYTES, Cipher
from etc_data.codecs import Codec
from etc_data.errors import AugmentationError, CodecError, DamagedShardError, GeometryError
from etc_data.fitting import Fit, Resize, prepare_image
from etc_data.keystream import VERSION, label
from etc_data.schemes import Scheme
from etc_data.shards.files import canonical_json
from etc_data.sources.images import load_rgb

SAMPLE_VERSION = 1
AUGMENTED_SPLIT = "train"
_MOST_COPIES = 10_000
_SEED_BYTES = 16


def check_codec(scheme: Scheme, codec: Codec, *, allow_noise: bool = False) -> None:
    """Checks that a codec suits a scheme.

    Raises:
        CodecError: the scheme is noise to JPEG and `allow_noise` is not set.
    """
    if codec.extension == "jpg" and not scheme.jpeg_friendly and not allow_noise:
        raise CodecError(
            f"scheme {scheme.name} looks like noise to JPEG: files grow and decryption is poor",
            "use lossless coding (--lossless), or accept the loss with --allow-noise",
        )


@dataclass(frozen=True)
class SampleEncoder:
    """Everything that is the same for all samples of a data set.

    Attributes:
        cipher: scheme, key, key scope and context.
        codec: JPEG or PNG.
        size: (height, width) in pixels that all images are brought to; None keeps each one's own.
        resize: ``"crop"`` covers the size and cuts around the center, ``"exact"`` stretches.
        fit: what to do with images that then do not fit the grid (see `Cipher.encrypt`).
        labels: whether labels are written.
        augmentation: what is done to the images of the split ``"train"`` before they are encrypted.
        copies: how many samples each image of that split becomes.
        allow_noise: whether JPEG is accepted for a scheme that is noise to it.
    """

    cipher: Cipher
    codec: Codec
    size: tuple[int, int] | None
    resize: Resize = "crop"
    fit: Fit | None = None
    labels: bool = True
    augmentation: Augmentation | None = None
    copies: int = 1
    allow_noise: bool = False

    def check(self) -> None:
        """Checks the options against each other, before any image is read.

        Raises:
            AugmentationError: `copies` is out of range, or copies would be equal, or would give each
                other away.
            CodecError: the scheme is noise to JPEG and `allow_noise` is not set.
            GeometryError: `size` does not fit the scheme's grid, or an option is unknown.
        """
        check_codec(self.cipher.scheme, self.codec, allow_noise=self.allow_noise)
        self._check_augmentation()
        if self.resize not in get_args(Resize):
            raise GeometryError(f"resize is {self.resize!r}; it must be one of {get_args(Resize)}")
        if self.fit is not None and self.fit not in get_args(Fit):
            raise GeometryError(f"fit is {self.fit!r}; it must be None or one of {get_args(Fit)}")
        if self.size is None:
            return
        smallest = self.cipher.scheme.block_size if self.fit == "crop" else 1
        if self.fit is None or min(self.size) < smallest:
            self.cipher.scheme.check_size(*self.size)

    def _check_augmentation(self) -> None:
        if not 1 <= self.copies <= _MOST_COPIES:
            raise AugmentationError(f"copies is {self.copies}; it must be from 1 to {_MOST_COPIES}")
        in_image_scope = self.cipher.key_scope == "image"
        if self.augmentation is None:
            if self.copies > 1 and not in_image_scope:
                raise AugmentationError(
                    f"{self.copies} copies of each image would be equal to each other",
                    "let them differ with --augment, such as --augment crop+flip",
                )
            return
        outcomes = self.augmentation.outcomes
        if not in_image_scope and outcomes is not None and self.copies > outcomes:
            raise AugmentationError(
                f"{self.augmentation} makes at most {outcomes} different images of one, so some of "
                f"{self.copies} copies would be equal to each other",
                f"make {outcomes} copies, or let them differ more, such as with --augment crop+flip",
            )
        if self.augmentation.crops and self.size is None:
            raise AugmentationError("crop needs a size to bring images to", "give one with --size")
        if in_image_scope and self.copies > 1 and not self.augmentation.keeps_blocks:
            raise AugmentationError(
                f"with key scope image, {self.copies} copies of an image must be made of the same "
                f"blocks, which {self.augmentation} changes: shifted copies reveal how blocks join, "
                "and copies in other colors which blocks are negated",
                "use flip alone, or one copy, or key scope dataset",
            )

    def copies_of(self, split: str) -> int:
        """Returns how many samples each image of a split becomes."""
        return self.copies if split == AUGMENTED_SPLIT else 1

    def options(self) -> dict[str, Any]:
        """Returns what decides the bytes of a sample, besides item, position, copy and key."""
        augmented = {} if self.augmentation is None else {"augmentation": str(self.augmentation)}
        return {
            **augmented,
            "codec": self.codec.describe(),
            "context": self.cipher.context,
            "fit": self.fit,
            "key_scope": self.cipher.key_scope,
            "resize": self.resize,
            "scheme": self.cipher.scheme.describe(),
            "size": None if self.size is None else list(self.size),
        }

    @cached_property
    def _options_hash(self) -> bytes:
        return hashlib.sha256(canonical_json(self.options())).digest()

    @cached_property
    def _nonce_key(self) -> bytes:
        return self.cipher.subkey("nonces")

    @cached_property
    def _augmentation_key(self) -> bytes:
        return self.cipher.subkey("augmentation")

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name[0] != "_"}

    def nonce(self, split: str, position: int, source_hash: bytes, copy: int = 0) -> bytes | None:
        """Returns the nonce of a sample: derived, not drawn; None with key scope ``"dataset"``."""
        if self.cipher.key_scope != "image":
            return None
        fields = (
            VERSION,
            self._options_hash,
            split.encode("ascii"),
            position.to_bytes(8, "big"),
            source_hash,
            copy.to_bytes(4, "big"),
        )
        return hmac.digest(self._nonce_key, label(fields), "sha256")[:NONCE_BYTES]

    def augmentation_seed(self, source_hash: bytes, copy: int = 0) -> int:
        """Returns the secret seed of a copy's augmentation, from 0 to 2¹²⁸ − 1.

        Neither position nor options play a part: a file that is in the source twice, or is encrypted
        again with other options, is augmented as before, and so its ciphertexts show each other no
        seams.
        """
        fields = (VERSION, source_hash, copy.to_bytes(4, "big"))
        digest = hmac.digest(self._augmentation_key, label(fields), "sha256")
        return int.from_bytes(digest[:_SEED_BYTES], "big")

    def plain_copy(
        self, image: Image.Image, split: str, source_hash: bytes, copy: int = 0
    ) -> Image.Image:
        """Returns what is encrypted: an image at its size, augmented if its split is.

        Args:
            image: upright, of mode RGB.
            split: such as ``"train"``.
            source_hash: 32 bytes that stand for the source.
            copy: which of the image's copies it is.
        """
        if self.augmentation is None or split != AUGMENTED_SPLIT:
            return self._prepare(image)
        # Drawn for every copy, flips alone would make half of all pairs of copies equal.
        mirrored = self.augmentation.keeps_blocks and copy % 2
        seed = self.augmentation_seed(source_hash, copy - mirrored)
        changed = self.augmentation(image, self._prepare, self.size, seed)
        return changed.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else changed

    def encode_file(
        self, data: bytes, label_number: int, split: str, position: int, copy: int = 0
    ) -> list[tuple[str, bytes]]:
        """Returns the members of a sample, from the bytes of an image file.

        Raises:
            UnreadableImageError: it is no picture, damaged, or cannot be converted exactly.
            GeometryError: it does not fit the grid and `fit` is None.
        """
        source_hash = hashlib.sha256(data).digest()
        return self.encode_image(load_rgb(data), label_number, split, position, source_hash, copy)

    def encode_image(
        self,
        image: Image.Image,
        label_number: int,
        split: str,
        position: int,
        source_hash: bytes,
        copy: int = 0,
    ) -> list[tuple[str, bytes]]:
        """Returns the members of a sample, (name, content) sorted by name.

        Args:
            image: upright, of mode RGB.
            label_number: the class, or −1 for none.
            split: such as ``"train"``.
            position: of the sample in its split.
            source_hash: 32 bytes that stand for the source, for nonce and augmentation alone.
            copy: which of the image's copies the sample is.
        """
        pixels = np.asarray(self.plain_copy(image, split, source_hash, copy))
        nonce = self.nonce(split, position, source_hash, copy)
        encrypted = self.cipher.encrypt(pixels, nonce=nonce)
        info = {
            "copy": 0,  # the number would tell anyone which samples show different photos
            "height": pixels.shape[0],
            "key_id": self.cipher.key_id,
            "key_scope": self.cipher.key_scope,
            "nonce": "" if nonce is None else nonce.hex(),
            "scheme": self.cipher.scheme.name,
            "version": SAMPLE_VERSION,
            "width": pixels.shape[1],
        }
        key = f"{split}-{position:09d}"
        members = [
            (f"{key}.{self.codec.extension}", self.codec.encode(encrypted)),
            (f"{key}.json", canonical_json(info)),
        ]
        if self.labels and label_number >= 0:
            members.append((f"{key}.cls", b"%d" % label_number))
        return sorted(members)

    def _prepare(self, image: Image.Image) -> Image.Image:
        block_size = self.cipher.scheme.block_size
        return prepare_image(image, block_size, size=self.size, resize=self.resize, fit=self.fit)


@dataclass(frozen=True)
class Sample:
    """One sample as it stands in a shard.

    Attributes:
        key: such as ``train-000000042``; it tells nothing of the source.
        image: the coded encrypted image.
        label: the class, or −1.
        info: the content of ``<key>.json``, as bytes.
    """

    key: str
    image: bytes
    label: int
    info: bytes

    def nonce(self) -> bytes | None:
        """Returns the image's nonce, or None with key scope ``"dataset"``.

        Raises:
            DamagedShardError: ``<key>.json`` holds none.
        """
        try:
            text = json.loads(self.info)["nonce"]
            return bytes.fromhex(text) if text else None
        except (KeyError, TypeError, ValueError, RecursionError):
            raise DamagedShardError(f"sample {self.key} has no readable nonce") from None
