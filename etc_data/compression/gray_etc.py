"""Grayscale EtC (Chuman et al. 2019): Y, Cb and Cr side by side as one gray image, then encrypted.

A gray image of three times the width has three times the blocks, and the smallest blocks that JPEG
allows, 8 × 8 pixels, do not mix under color subsampling.  It is no `Scheme`: a scheme's plan moves the
values of an RGB image and keeps its shape, and models and shards rely on both.  So the planes take
the plan of an ordinary scheme, as a gray image, whose three components are equal.
"""

import re

import numpy as np

from etc_data.cipher import Cipher
from etc_data.compression.ycbcr import Bytes, to_rgb, to_ycbcr
from etc_data.errors import ImageError, SchemeError
from etc_data.keys import SecretKey
from etc_data.operations import NegativePositive, RotateFlip, ScrambleBlocks
from etc_data.schemes import KeyScope, Scheme
from etc_data.states import COLORS

_NAME = re.compile(r"etc-gray-([1-9][0-9]{0,3})")


class GrayEtc:
    """Encrypts RGB images as gray images of three times the width.

    Example:
        >>> cipher = GrayEtc("etc-gray-8", SecretKey(bytes(32)))
        >>> image = np.zeros((32, 48, 3), np.uint8)
        >>> cipher.encrypt(image).shape, cipher.decrypt(cipher.encrypt(image)).shape
        ((32, 144), (32, 48, 3))
        >>> cipher.key_space_bits(32, 48) > Cipher("etc-8", SecretKey(bytes(32))).key_space_bits(32, 48)
        True

    Attributes:
        name: ``etc-gray-8``, or with another block size.
        scheme: the steps that the gray image takes: scramble the blocks; rotate and flip, negate.
    """

    def __init__(self, name: str, key: SecretKey, *, key_scope: KeyScope = "dataset") -> None:
        """Joins the method and a key.

        Args:
            name: ``etc-gray-`` and a block size.
            key: the secret key.
            key_scope: as for `Cipher`.

        Raises:
            SchemeError: the name is no such name.
        """
        match = _NAME.fullmatch(name)
        if match is None:
            raise SchemeError(f"{name!r} is no grayscale EtC; its name is such as etc-gray-8")
        size = int(match[1])
        self.name = name
        self.scheme = Scheme(
            (
                ScrambleBlocks(size),
                RotateFlip(size, "independent"),
                NegativePositive(size, "independent"),
            ),
            name,
        )
        self._cipher = Cipher(self.scheme, key, key_scope=key_scope)

    def __repr__(self) -> str:
        return f"GrayEtc({self.name!r}, key_id={self._cipher.key_id!r})"

    @staticmethod
    def names(text: str) -> bool:
        """Returns whether a text is the name of a grayscale EtC."""
        return _NAME.fullmatch(text) is not None

    def encrypt(self, image: Bytes, *, nonce: bytes | None = None) -> Bytes:
        """Returns the encrypted planes Y, Cb, Cr from left to right, uint8 [H, 3·W]; a copy.

        Args:
            image: uint8 [H, W, 3], RGB; H and W multiples of the block size.
            nonce: 16 bytes with key scope ``"image"``, else None.

        Raises:
            ImageError: the array has another dtype or shape.
            GeometryError: the image does not fit the grid of blocks.
            NonceError: a nonce is missing, unwanted or not 16 bytes.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != COLORS:
            raise ImageError(f"image is {image.dtype} {list(image.shape)}, not uint8 [H, W, 3]")
        self.scheme.check_size(*image.shape[:2])
        planes = np.concatenate(np.moveaxis(to_ycbcr(image), 2, 0), axis=1)
        return self._cipher.encrypt(_as_rgb(planes), nonce=nonce)[..., 0]

    def decrypt(self, planes: Bytes, *, nonce: bytes | None = None) -> Bytes:
        """Returns the RGB image, uint8 [H, W, 3]; from exact planes each value within 1.

        Args:
            planes: uint8 [H, 3·W], as `encrypt` returned them or decoded from a file.
            nonce: what the image was encrypted with.

        Raises:
            ImageError: the array has another dtype or shape.
            GeometryError: the image does not fit the grid of blocks.
            NonceError: a nonce is missing, unwanted or not 16 bytes.
        """
        if planes.dtype != np.uint8 or planes.ndim != 2 or planes.shape[1] % COLORS:
            raise ImageError(f"planes are {planes.dtype} {list(planes.shape)}, not uint8 [H, 3·W]")
        plain = self._cipher.decrypt(_as_rgb(planes), nonce=nonce)[..., 0]
        return to_rgb(np.stack(np.split(plain, COLORS, axis=1), axis=2))

    def key_space_bits(self, height: int, width: int) -> float:
        """Returns log₂ of the number of keys for an RGB image of `height` × `width` pixels.

        Raises:
            GeometryError: the size does not fit the grid.
        """
        self.scheme.check_size(height, width)
        return self.scheme.key_space_bits(height, COLORS * width)


def _as_rgb(gray: Bytes) -> Bytes:
    return np.repeat(gray[..., None], COLORS, axis=2)
