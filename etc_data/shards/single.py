"""One encrypted image file on its own: what a client sends as a query.

It is an ordinary JPEG or PNG with a public note that names scheme, key id and nonce, so that the
owner can decrypt it, and refuse a wrong key, without any other file.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from etc_data.cipher import NONCE_BYTES, Cipher
from etc_data.codecs import Codec, JpegCodec, decode
from etc_data.containers import embed_comment, read_comment
from etc_data.errors import GeometryError, ManifestError
from etc_data.fitting import Fit, Resize, prepare_image
from etc_data.keys import SecretKey
from etc_data.schemes import KeyScope, Scheme
from etc_data.shards.files import canonical_json
from etc_data.shards.manifest import check_key_id
from etc_data.shards.samples import check_codec
from etc_data.sources.images import load_rgb

_FORMAT = "etc-data-image/"
_VERSION = 1


@dataclass(frozen=True)
class ImageNote:
    """The public note of an encrypted image file (docs/format.md, section 4)."""

    scheme: Scheme
    key_id: str
    key_scope: KeyScope
    context: str
    nonce: bytes | None
    size: tuple[int, int]

    def text(self) -> str:
        """Returns the note as it stands in the file."""
        fields = {
            "context": self.context,
            "height": self.size[0],
            "key_id": self.key_id,
            "key_scope": self.key_scope,
            "nonce": "" if self.nonce is None else self.nonce.hex(),
            "scheme": self.scheme.describe(),
            "width": self.size[1],
        }
        return f"{_FORMAT}{_VERSION} {canonical_json(fields).decode('ascii')}"

    @classmethod
    def read(cls, data: bytes) -> "ImageNote":
        """Returns the note of an image file.

        Raises:
            ManifestError: the file has no note, or a malformed or newer one.
        """
        text = read_comment(data)
        if text is None or not text.startswith(_FORMAT):
            raise ManifestError(
                "this image carries no note of etc-data, so it is not known how it was encrypted",
                "etc-data encrypt PHOTO -o FILE writes one; programs that re-save images drop it",
            )
        version, _, body = text.removeprefix(_FORMAT).partition(" ")
        if version != str(_VERSION):
            raise ManifestError(
                f"the image's note is {_FORMAT}{version}; this etc-data reads {_FORMAT}{_VERSION}",
                "upgrade etc-data",
            )
        try:
            return cls._from_fields(json.loads(body))
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise ManifestError(f"the image's note is malformed: {error}") from None

    @classmethod
    def _from_fields(cls, fields: dict[str, Any]) -> "ImageNote":
        key_id, key_scope, context = (fields[name] for name in ("key_id", "key_scope", "context"))
        if key_scope not in ("dataset", "image"):
            raise ValueError(f"key_scope is {key_scope!r}")
        if not re.fullmatch("[0-9a-f]{16}", key_id):
            raise ValueError(f"key_id is {key_id!r}")
        if not isinstance(context, str):
            raise ValueError(f"context is {context!r}")
        nonce = bytes.fromhex(fields["nonce"])
        if len(nonce) != (NONCE_BYTES if key_scope == "image" else 0):
            raise ValueError(f"nonce has {len(nonce)} bytes with key scope {key_scope}")
        size = fields["height"], fields["width"]
        if not all(type(side) is int and side > 0 for side in size):
            raise ValueError(f"the size is {size}")
        scheme = Scheme.from_description(fields["scheme"])
        return cls(scheme, key_id, key_scope, context, nonce or None, size)


def encrypt_photo(
    data: bytes,
    cipher: Cipher,
    *,
    size: int | tuple[int, int] | None = None,
    resize: Resize = "crop",
    fit: Fit | None = None,
    codec: Codec | None = None,
    allow_noise: bool = False,
) -> bytes:
    """Returns an encrypted JPEG or PNG file made from the bytes of a photo.

    Args:
        data: any image file that `load_rgb` reads; none of its metadata is kept.
        cipher: with key scope ``"image"`` a fresh nonce is drawn and put into the note.
        size: see `write_shards`; likewise the other arguments.
        resize: see `write_shards`.
        fit: see `write_shards`.
        codec: see `write_shards`.
        allow_noise: see `write_shards`.

    Raises:
        UnreadableImageError: it is no picture, is damaged, or cannot be converted exactly.
        GeometryError: it does not fit the grid.
        CodecError: the scheme is noise to JPEG and `allow_noise` is not set.
    """
    codec = codec or JpegCodec()
    check_codec(cipher.scheme, codec, allow_noise=allow_noise)
    size = (size, size) if isinstance(size, int) else size
    image = prepare_image(load_rgb(data), cipher.scheme.block_size, size=size, resize=resize, fit=fit)
    nonce = cipher.new_nonce() if cipher.key_scope == "image" else None
    encrypted = codec.encode(cipher.encrypt(np.asarray(image), nonce=nonce))
    note = ImageNote(
        cipher.scheme,
        cipher.key_id,
        cipher.key_scope,
        cipher.context,
        nonce,
        (image.height, image.width),
    )
    return embed_comment(encrypted, note.text())


def decrypt_photo(data: bytes, key: SecretKey) -> Image.Image:
    """Returns the plain image of a file that `encrypt_photo` made.

    Raises:
        ManifestError: the file carries no usable note.
        WrongKeyError: the key is another.
        CodecError: the image is damaged.
        GeometryError: the image was resized or cropped since.
    """
    note = ImageNote.read(data)
    check_key_id(note.key_id, key)
    cipher = Cipher(note.scheme, key, key_scope=note.key_scope, context=note.context)
    pixels = decode(data)
    height, width = pixels.shape[:2]
    if (height, width) != note.size:
        raise GeometryError(
            f"the image was resized, cropped or turned since it was encrypted: it has {height}×{width} "
            f"pixels, its note says {note.size[0]}×{note.size[1]}",
            "decrypt the file as it was written",
        )
    return Image.fromarray(cipher.decrypt(pixels, nonce=note.nonce))
