"""The passphrase-protected form of a key line: AES-256-GCM under scrypt (RFC 7914).

It stands apart from `keys` because it alone needs the `cryptography` package.
docs/format.md, "Key file", gives the bytes.
"""

import base64
import binascii
import os
import re
import unicodedata

from etc_data.errors import KeyFileError
from etc_data.keys import PASSPHRASE_LINE_PREFIX, SECRET_BYTES

# 2^17 × 8 × 128 bytes = 128 MiB and about half a second: the usual interactive choice.
LOG2_COST = 17
_MAX_LOG2_COST = 22
_SALT_BYTES = 16
_NONCE_BYTES = 12
_TAG_BYTES = 16


def seal_secret(secret: bytes, passphrase: str, *, log2_cost: int = LOG2_COST) -> str:
    """Returns the key line of a secret sealed with a passphrase.

    The passphrase is taken in Unicode form NFC as UTF-8.

    Raises:
        KeyFileError: the passphrase is empty, or no Unicode text.
    """
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    if not passphrase:
        raise KeyFileError("the passphrase is empty; give at least one character, better 20")
    prefix = f"{PASSPHRASE_LINE_PREFIX}{log2_cost}-"
    salt, nonce = os.urandom(_SALT_BYTES), os.urandom(_NONCE_BYTES)
    sealed = AESGCM(_stretch(passphrase, salt, log2_cost)).encrypt(nonce, secret, prefix.encode())
    return prefix + base64.b32encode(salt + nonce + sealed).decode("ascii").rstrip("=")


def open_secret(line: str, passphrase: str | None, origin: str = "key") -> bytes:
    """Returns the 32 secret bytes of a sealed key line.

    Raises:
        KeyFileError: no passphrase was given, it is wrong, or the line is damaged.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    if passphrase is None:
        raise KeyFileError(
            f"{origin} is protected by a passphrase and none was given",
            "on the command line use --passphrase or set ETC_DATA_PASSPHRASE",
        )
    cost_text, _, body = line.removeprefix(PASSPHRASE_LINE_PREFIX).partition("-")
    try:
        payload = base64.b32decode(body + "=" * (-len(body) % 8))
    except (binascii.Error, ValueError):
        payload = b""
    if base64.b32encode(payload).decode("ascii").rstrip("=") != body:
        payload = b""
    expected_bytes = _SALT_BYTES + _NONCE_BYTES + SECRET_BYTES + _TAG_BYTES
    if len(payload) != expected_bytes or not re.fullmatch("[1-9][0-9]*", cost_text):
        raise KeyFileError(f"{origin} is damaged: its key line is cut short or mistyped")
    # Python refuses to read a number of thousands of digits.
    log2_cost = int(cost_text[:6])
    if log2_cost > _MAX_LOG2_COST:
        raise KeyFileError(
            f"{origin} asks for scrypt cost 2^{cost_text[:6]}; at most 2^{_MAX_LOG2_COST} is accepted"
        )
    salt, nonce = payload[:_SALT_BYTES], payload[_SALT_BYTES : _SALT_BYTES + _NONCE_BYTES]
    sealed = payload[_SALT_BYTES + _NONCE_BYTES :]
    prefix = f"{PASSPHRASE_LINE_PREFIX}{log2_cost}-"
    try:
        return AESGCM(_stretch(passphrase, salt, log2_cost)).decrypt(nonce, sealed, prefix.encode())
    except InvalidTag:
        raise KeyFileError(f"{origin}: the passphrase is wrong, or the key line damaged") from None


def _stretch(passphrase: str, salt: bytes, log2_cost: int) -> bytes:
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    normalized = unicodedata.normalize("NFC", passphrase)
    if any("\ud800" <= character <= "\udfff" for character in normalized):
        # The codec's own error would carry the passphrase.
        raise KeyFileError("the passphrase is no Unicode text; the terminal's encoding may be wrong")
    return Scrypt(salt=salt, length=32, n=2**log2_cost, r=8, p=1).derive(normalized.encode("utf-8"))
