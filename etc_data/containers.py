"""JPEG and PNG files as containers: their segments and chunks, and one public note inside.

Nothing here decodes an image; the bytes of the image data pass through untouched.
"""

import itertools
import zlib
from collections.abc import Iterator

from etc_data.errors import CodecError

JPEG_START = b"\xff\xd8\xff"
PNG_START = b"\x89PNG\r\n\x1a\n"
_COMMENT_LIMIT = 65533  # bytes; a JPEG segment counts its length in 16 bits, itself included
_PNG_KEYWORD = b"etc-data"


def check_png(data: bytes) -> None:
    """Checks that a PNG file is whole: every chunk in place with its checksum, up to the end chunk.

    Pillow stops reading once it has all rows, and would not notice that the end is gone.

    Raises:
        CodecError: the file is cut short or damaged.
    """
    for _ in _png_chunks(data):
        pass


def embed_comment(data: bytes, text: str) -> bytes:
    """Returns a copy of a JPEG or PNG file that carries a note; its image data is untouched.

    The note is public. In a JPEG it is a comment segment behind SOI and APP0, in a PNG a text chunk
    with the keyword "etc-data" behind IHDR.

    Args:
        data: the file, without such a note.
        text: printable ASCII, 1–65,533 characters.

    Raises:
        CodecError: the text does not fit, or the file is malformed or has a note already.

    Examples:
        >>> import numpy as np
        >>> from etc_data.codecs import JpegCodec
        >>> data = JpegCodec().encode(np.zeros((8, 8, 3), np.uint8))
        >>> read_comment(embed_comment(data, "etc-data nonce 00ff"))
        'etc-data nonce 00ff'
    """
    if not (text.isascii() and text.isprintable() and 1 <= len(text) <= _COMMENT_LIMIT):
        wanted = f"1 to {_COMMENT_LIMIT} printable ASCII characters"
        raise CodecError(f"a comment of {len(text)} characters does not fit; use {wanted}")
    if read_comment(data) is not None:
        raise CodecError("the file carries a comment already; embed it in a freshly coded file")
    note = text.encode("ascii")
    if data.startswith(PNG_START):
        _, _, position = next(_png_chunks(data))
        body = b"tEXt" + _PNG_KEYWORD + b"\0" + note
        part = (len(body) - 4).to_bytes(4) + body + zlib.crc32(body).to_bytes(4)
    else:
        application = itertools.takewhile(lambda s: s[0] == 0xE0, _jpeg_segments(data))
        position = max((end for _, _, end in application), default=len(b"\xff\xd8"))
        part = b"\xff\xfe" + (len(note) + 2).to_bytes(2) + note
    return b"".join((data[:position], part, data[position:]))


def read_comment(data: bytes) -> str | None:
    """Returns the note of a JPEG or PNG file, or None where there is none in ASCII.

    A JPEG's first comment segment is read, whoever wrote it: the caller knows its own by how it
    begins. Only the head of the file, up to the image data, is read and checked.

    Raises:
        CodecError: the data is neither JPEG nor PNG, or its head is cut short or malformed.
    """
    if data.startswith(PNG_START):
        heads = itertools.takewhile(lambda chunk: chunk[0] != b"IDAT", _png_chunks(data))
        texts = (data[start + 8 : end - 4] for kind, start, end in heads if kind == b"tEXt")
        prefix = _PNG_KEYWORD + b"\0"
        note = next((text[len(prefix) :] for text in texts if text.startswith(prefix)), None)
    elif data.startswith(JPEG_START):
        segments = _jpeg_segments(data)
        note = next((data[start:end] for marker, start, end in segments if marker == 0xFE), None)
    else:
        raise CodecError(neither(data))
    return note.decode("ascii") if note is not None and note.isascii() else None


def neither(data: bytes) -> str:
    """Returns the reason why data is no JPEG or PNG file, for a message."""
    if not data:
        return "the data is empty; it should be a JPEG or PNG file"
    return f"the data is neither JPEG nor PNG: it begins with {data[:8].hex(' ')}"


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yields (marker, start of the content, end) of the segments before the first scan."""
    position = 2
    while True:
        found = position
        while data[position : position + 2] == b"\xff\xff":  # fill bytes are allowed
            position += 1
        marker = data[position + 1] if position + 1 < len(data) else 0
        if data[position : position + 1] != b"\xff" or marker in (0x00, 0x01, *range(0xD0, 0xD9)):
            raise CodecError(f"JPEG head is damaged: no segment begins at byte {found}")
        if marker in (0xD9, 0xDA):  # end of image, start of scan
            return
        start = position + 4
        length = int.from_bytes(data[position + 2 : start])
        end = position + 2 + length
        if length < 2 or end > len(data):
            where = f"from byte {found} to {end} of {len(data)}"
            raise CodecError(f"JPEG head is damaged: a segment goes {where}")
        yield marker, start, end
        position = end


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yields (type, start, end) of the chunks, length and checksum included, up to the end chunk."""
    view = memoryview(data)
    start, kind = len(PNG_START), b""
    while kind != b"IEND":
        length = int.from_bytes(view[start : start + 4])
        end = start + 12 + length
        if start + 12 > len(data) or end > len(data):
            raise CodecError(f"PNG data is cut short: it ends at byte {len(data)} inside a chunk")
        kind = data[start + 4 : start + 8]
        if zlib.crc32(view[start + 4 : end - 4]) != int.from_bytes(view[end - 4 : end]):
            raise CodecError(f"PNG data is damaged: wrong checksum in the chunk at byte {start}")
        yield kind, start, end
        start = end
