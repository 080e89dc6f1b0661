"""A picture of pictures: rows of captioned images, for people who would rather look than read."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from etc_data.cipher import Cipher
from etc_data.codecs import Codec, JpegCodec, PngCodec, decode

_MARGIN = 12
_CAPTION_LINE = 16
_BACKGROUND = (255, 255, 255)
_INK = (30, 30, 30)


@dataclass(frozen=True)
class Cell:
    """One captioned picture: `image` is uint8 [H, W, 3], or None for an empty place."""

    image: npt.NDArray[np.uint8] | None
    caption: tuple[str, ...] = ()


def draw_sheet(rows: Sequence[Sequence[Cell]]) -> Image.Image:
    """Returns all rows of cells as one picture; columns are as wide as their widest image."""
    font = ImageFont.load_default()
    columns = max(len(row) for row in rows)
    widths = [0] * columns
    heights = []
    for row in rows:
        height, lines = 0, 0
        for column, cell in enumerate(row):
            text_width = max((int(font.getlength(line)) for line in cell.caption), default=0)
            image_height, image_width = (0, 0) if cell.image is None else cell.image.shape[:2]
            widths[column] = max(widths[column], image_width, text_width)
            height, lines = max(height, image_height), max(lines, len(cell.caption))
        heights.append((height, lines * _CAPTION_LINE))
    sheet = Image.new(
        "RGB",
        (sum(widths) + _MARGIN * (columns + 1), sum(map(sum, heights)) + _MARGIN * (len(rows) + 1)),
        _BACKGROUND,
    )
    pen = ImageDraw.Draw(sheet)
    y = _MARGIN
    for row, (height, caption_height) in zip(rows, heights, strict=True):
        x = _MARGIN
        for cell, width in zip(row, widths, strict=False):
            if cell.image is not None:
                sheet.paste(Image.fromarray(cell.image), (x, y))
            for number, line in enumerate(cell.caption):
                pen.text((x, y + height + 3 + number * _CAPTION_LINE), line, fill=_INK, font=font)
            x += width + _MARGIN
        y += height + caption_height + _MARGIN
    return sheet


@dataclass(frozen=True)
class Trip:
    """One image's way through encryption, a file, and back.

    Attributes:
        encrypted: uint8 [H, W, 3], as decoded from the file.
        decrypted: uint8 [H, W, 3].
        bytes: of the file.
        psnr: of `decrypted` against the plain image, in dB; infinite where it is exact.
        codec: what the file was coded with.
    """

    encrypted: npt.NDArray[np.uint8]
    decrypted: npt.NDArray[np.uint8]
    bytes: int
    psnr: float
    codec: Codec


def round_trip(plain: npt.NDArray[np.uint8], cipher: Cipher, *, quality: int = 95) -> Trip:
    """Returns what becomes of an image: JPEG where the scheme suits it, else PNG.

    Args:
        plain: uint8 [H, W, 3].
        cipher: with key scope ``"image"`` a fresh nonce is drawn.
        quality: of JPEG.
    """
    codec = JpegCodec(quality=quality) if cipher.scheme.jpeg_friendly else PngCodec()
    nonce = cipher.new_nonce() if cipher.key_scope == "image" else None
    file = codec.encode(cipher.encrypt(plain, nonce=nonce))
    encrypted = decode(file)
    decrypted = cipher.decrypt(encrypted, nonce=nonce)
    return Trip(encrypted, decrypted, len(file), psnr(plain, decrypted), codec)


def psnr(plain: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> float:
    """Returns the peak signal-to-noise ratio in dB, infinite for equal images."""
    error = np.mean((plain.astype(np.float64) - other) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def describe_psnr(value: float) -> str:
    """Returns a PSNR as people read it."""
    return "exact" if value == float("inf") else f"{value:.1f} dB"
