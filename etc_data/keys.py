"""`SecretKey`: 256 secret bits, their key file, and everything that is derived from them.

A key is never printed: `repr` and `str` show the key id, a public one-way fingerprint.  All other
secrets (the draws, the names of samples, the seal of a manifest) are sub-keys by HKDF-SHA256
(RFC 5869), so that none tells anything of another.  docs/format.md, "Keys", is the specification.
"""

import base64
import binascii
import hashlib
import hmac
import os
import secrets
import stat
import warnings
from pathlib import Path

from etc_data.errors import KeyFileError

SECRET_BYTES = 32
KEY_ID_BYTES = 8
KEY_LINE_PREFIX = "ETC-SECRET-KEY-1-"
PASSPHRASE_LINE_PREFIX = "ETC-SECRET-KEY-1-SCRYPT-"
KEY_VARIABLE = "ETC_DATA_KEY"

_SALT = b"etc-data/1"
_CHECKSUM_BYTES = 3
_MAX_KEY_FILE_BYTES = 65_536


def hkdf_sha256(secret: bytes, info: bytes, length: int = 32) -> bytes:
    """Returns `length` bytes derived from a secret by HKDF-SHA256 (RFC 5869) with our salt."""
    pseudo_random_key = hmac.digest(_SALT, secret, "sha256")
    block, output = b"", b""
    for counter in range(1, -(-length // 32) + 1):
        block = hmac.digest(pseudo_random_key, block + info + bytes([counter]), "sha256")
        output += block
    return output[:length]


class SecretKey:
    """256 secret bits from which every draw of every scheme follows.

    Make one with `SecretKey.generate()` or read one with `SecretKey.load(path)`.  Pickling keeps
    the secret, because DataLoader workers need it: never send a pickle of it to someone else.

    Example:
        >>> key = SecretKey(bytes(32))
        >>> key
        SecretKey(id='6331af7fded711c0')
    """

    __slots__ = ("_secret", "id")

    def __init__(self, secret: bytes) -> None:
        """Wraps 32 secret bytes.

        Args:
            secret: exactly 32 bytes with full entropy; use `generate` unless you restore a backup.

        Raises:
            KeyFileError: `secret` is not 32 bytes.
        """
        if not isinstance(secret, bytes | bytearray) or len(secret) != SECRET_BYTES:
            raise KeyFileError(f"a secret key is {SECRET_BYTES} bytes, not the value given")
        self._secret = bytes(secret)
        self.id: str = hkdf_sha256(self._secret, b"key-id", KEY_ID_BYTES).hex()

    @classmethod
    def generate(cls) -> "SecretKey":
        """Returns a new key from the operating system's random generator."""
        return cls(secrets.token_bytes(SECRET_BYTES))

    def subkey(self, purpose: str) -> bytes:
        """Returns the 32-byte sub-key for one purpose, such as ``"draws"`` or ``"manifest"``."""
        return hkdf_sha256(self._secret, b"sub-key:" + purpose.encode("utf-8"))

    # -- the key file ---------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str], *, passphrase: str | None = None) -> None:
        """Writes the key to a new file that only its owner can read (mode 0600).

        Args:
            path: must not exist; nothing is ever overwritten.
            passphrase: when given, the secret is sealed with AES-256-GCM under scrypt.

        Raises:
            KeyFileError: the file exists, cannot be written, or the passphrase is empty.
        """
        if passphrase is None:
            line = format_key_line(self._secret)
        else:
            from etc_data.keyfile import seal_secret

            line = seal_secret(self._secret, passphrase)
        text = (
            "# etc-data secret key: whoever reads this file can decrypt what it encrypted,\n"
            "# and without it nobody can. Keep a backup, offline.\n"
            f"# key id: {self.id}\n{line}\n"
        )
        _write_new_private_file(_path_of(path), text.encode("ascii"))

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, passphrase: str | None = None) -> "SecretKey":
        """Reads a key file; it never prompts.

        Args:
            path: a file made by `save`.
            passphrase: needed if, and only if, the file was saved with one.

        Raises:
            KeyFileError: the file is missing, unreadable, malformed, mistyped (checksum), of a newer
                version, or the passphrase is missing, unwanted or wrong.

        Warns:
            UserWarning: other users of the machine may read the file.
        """
        path = _path_of(path)
        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                data = file.read(_MAX_KEY_FILE_BYTES + 1)
        except FileNotFoundError:
            raise KeyFileError(
                f"key file {path} does not exist", f"make one with: etc-data keygen {path}"
            ) from None
        except OSError as error:
            raise KeyFileError(f"key file {path} cannot be read: {error.strerror}") from None
        if stat.S_ISREG(mode) and mode & 0o077:
            warnings.warn(
                f"key file {path} can be read by other users of this machine "
                f"(mode {stat.S_IMODE(mode):04o}); run: chmod 600 {path}",
                stacklevel=2,
            )
        return cls.from_text(data, passphrase=passphrase, origin=f"key file {path}")

    @classmethod
    def from_environment(
        cls, variable: str = KEY_VARIABLE, *, passphrase: str | None = None
    ) -> "SecretKey":
        """Reads the key line from an environment variable (for machines without a key file).

        Raises:
            KeyFileError: the variable is unset or holds no valid key line.
        """
        text = os.environ.get(variable)
        if not text:
            raise KeyFileError(
                f"the environment variable {variable} is not set",
                "it holds the line of a key file that begins with ETC-SECRET-KEY-1",
            )
        origin = f"environment variable {variable}"
        return cls.from_text(
            text.encode("utf-8", "surrogateescape"), passphrase=passphrase, origin=origin
        )

    @classmethod
    def from_text(
        cls, data: bytes, *, passphrase: str | None = None, origin: str = "key"
    ) -> "SecretKey":
        """Reads a key from the content of a key file: comment lines and one key line.

        Args:
            data: the file's bytes.
            passphrase: needed if, and only if, the key is sealed with one.
            origin: what the error messages call it.

        Raises:
            KeyFileError: as in `load`.
        """
        line = _only_key_line(data, origin)
        if is_sealed(line):
            from etc_data.keyfile import open_secret

            return cls(open_secret(line, passphrase, origin))
        if passphrase is not None:
            raise KeyFileError(f"{origin} is not protected by a passphrase, but one was given")
        return cls(parse_key_line(line, origin))

    # -- never show the secret ------------------------------------------------------------------

    def __repr__(self) -> str:
        return f"SecretKey(id={self.id!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SecretKey):
            return NotImplemented
        return hmac.compare_digest(self._secret, other._secret)

    def __hash__(self) -> int:
        return hash(self.id)

    def __reduce__(self) -> tuple[type["SecretKey"], tuple[bytes]]:
        return SecretKey, (self._secret,)


def is_sealed(line: str) -> bool:
    """Returns whether a key line is protected by a passphrase."""
    return line.startswith(PASSPHRASE_LINE_PREFIX)


def format_key_line(secret: bytes) -> str:
    """Returns the key line: the prefix, then base32 of the secret and a 3-byte checksum."""
    return KEY_LINE_PREFIX + base64.b32encode(secret + _checksum(secret)).decode("ascii")


def parse_key_line(line: str, origin: str = "key") -> bytes:
    """Returns the 32 secret bytes of a key line.

    Raises:
        KeyFileError: the line is cut short, mistyped or of an unknown form.
    """
    try:
        payload = base64.b32decode(line.removeprefix(KEY_LINE_PREFIX))
    except (binascii.Error, ValueError):
        payload = b""
    secret, checksum = payload[:SECRET_BYTES], payload[SECRET_BYTES:]
    if len(secret) != SECRET_BYTES or not hmac.compare_digest(checksum, _checksum(secret)):
        raise KeyFileError(
            f"{origin} is damaged: its key line is cut short or mistyped (the checksum differs)",
            "copy the whole line again from your backup",
        )
    return secret


def _checksum(secret: bytes) -> bytes:
    return hashlib.sha256(b"etc-data/1 key checksum" + secret).digest()[:_CHECKSUM_BYTES]


def _only_key_line(data: bytes, origin: str) -> str:
    if len(data) > _MAX_KEY_FILE_BYTES:
        raise KeyFileError(f"{origin} is no key: it is longer than {_MAX_KEY_FILE_BYTES} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = None
    if text is None:
        # Raised out here, so that the codec's error, which holds the whole file, is no part of it.
        raise KeyFileError(f"{origin} is no key: it is not text")
    lines = [line.strip(" \t\r") for line in text.split("\n")]
    lines = [line for line in lines if line and not line.startswith("#")]
    if len(lines) != 1:
        raise KeyFileError(f"{origin} must hold exactly one key line, not {len(lines)}")
    line = lines[0]
    if not line.startswith("ETC-SECRET-KEY-"):
        raise KeyFileError(f"{origin} is no key: its line does not begin with {KEY_LINE_PREFIX}")
    if not line.startswith(KEY_LINE_PREFIX):
        raise KeyFileError(
            f"{origin} is of a key version that this etc-data does not read (it reads 1)",
            "upgrade etc-data",
        )
    return line


def _path_of(path: str | os.PathLike[str]) -> Path:
    # A key given where its file belongs would go into error messages, and from there into logs.
    if Path(path).name.startswith("ETC-SECRET-KEY-"):
        raise KeyFileError(
            "a key itself was given where the name of its file belongs",
            f"give the path of the key file, or set {KEY_VARIABLE}",
        )
    return Path(path)


def _write_new_private_file(path: Path, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    try:
        descriptor = os.open(path, flags, 0o600)
    except FileExistsError:
        raise KeyFileError(
            f"key file {path} exists already; a key is never overwritten",
            "choose another name, or move the old key away first",
        ) from None
    except OSError as error:
        raise KeyFileError(f"key file {path} cannot be written: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            # A umask may only have removed rights; make the mode exact all the same.
            os.fchmod(file.fileno(), 0o600)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise KeyFileError(f"key file {path} cannot be written: {error.strerror}") from None
        raise
