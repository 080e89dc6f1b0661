"""What is done to an image before it is coded: nothing, or encryption under one of the schemes.

Every image gets draws of its own, so that means over images are means over keys as well: where all
blocks share their draws (com, LE), one key makes files a few percent larger or smaller than another.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from etc_data.cipher import NONCE_BYTES, Cipher
from etc_data.compression.gray_etc import GrayEtc
from etc_data.errors import SchemeError
from etc_data.keys import SecretKey
from etc_data.presets import PRESET_NAMES
from etc_data.schemes import Scheme

Bytes = npt.NDArray[np.uint8]

PLAIN = "plain"
STUDIED = (
    "etc-16",
    "etc-8",
    "com-16",
    "ind-16",
    "com-16/8",
    "ind-16/8",
    "etc-gray-8",
    "shuffle-com-16",
    "shuffle-ind-16",
    "le-4",
    "ele-4",
)
"""What lin2024 Fig. 11 and maungmaung2022 Table IV compare, EtC in blocks of 8, and grayscale EtC."""


@dataclass(frozen=True)
class Treatment:
    """One way to encrypt, as far as a coder is concerned.

    Attributes:
        name: ``plain``, a preset, or such as ``etc-gray-8``.
        encrypt: takes RGB, uint8 [H, W, 3], and the number of the image, which decides its draws;
            returns what is coded, of the same shape, or [H, 3·W] where `gray`.
        decrypt: undoes it, given the same number.
        scheme: the steps; None for plain images.
        gray: whether what is coded is a gray image.
        key_space_bits: log₂ of the number of keys for (height, width).
    """

    name: str
    encrypt: Callable[[Bytes, int], Bytes] = field(repr=False)
    decrypt: Callable[[Bytes, int], Bytes] = field(repr=False)
    scheme: Scheme | None
    gray: bool
    key_space_bits: Callable[[int, int], float] = field(repr=False)

    @property
    def block_size(self) -> int:
        """Pixels per side that height and width must be multiples of."""
        return 1 if self.scheme is None else self.scheme.block_size

    @property
    def offered(self) -> bool:
        """Whether data sets can be encrypted so with `etc-data encrypt`."""
        return self.scheme is not None and not self.gray


def treatment(name: str, key: SecretKey) -> Treatment:
    """Returns the treatment of a name.

    Args:
        name: ``plain``, a preset in any block size, or ``etc-gray-8`` in any block size.
        key: what the draws of all images come from.

    Raises:
        SchemeError: there is no such treatment.
    """
    if name == PLAIN:
        return Treatment(name, _unchanged, _unchanged, None, False, lambda height, width: 0.0)
    cipher = _cipher(name, key)

    def encrypt(image: Bytes, number: int) -> Bytes:
        return cipher.encrypt(image, nonce=_nonce(number))

    def decrypt(image: Bytes, number: int) -> Bytes:
        return cipher.decrypt(image, nonce=_nonce(number))

    gray = isinstance(cipher, GrayEtc)
    return Treatment(name, encrypt, decrypt, cipher.scheme, gray, cipher.key_space_bits)


def _cipher(name: str, key: SecretKey) -> Cipher | GrayEtc:
    if GrayEtc.names(name):
        return GrayEtc(name, key, key_scope="image")
    try:
        return Cipher(name, key, key_scope="image")
    except SchemeError as error:
        known = ", ".join((PLAIN, *PRESET_NAMES, "etc-gray-8"))
        raise SchemeError(f"there is nothing called {name!r} to study: {known}") from error


def _nonce(number: int) -> bytes:
    return number.to_bytes(NONCE_BYTES, "big")


def _unchanged(image: Bytes, number: int) -> Bytes:
    return image
