"""`etc-data preview`: one photo under every scheme, as a contact sheet."""

import hashlib
import io
from pathlib import Path

import click
import numpy as np
from PIL import Image

from etc_data.augmentation import Augmentation
from etc_data.cipher import Cipher
from etc_data.cli.contact_sheet import Cell, describe_psnr, draw_sheet, round_trip
from etc_data.cli.options import (
    SizeType,
    about,
    check_output,
    human_bytes,
    key_options,
    load_key,
    read_input,
    refuse_options,
    say,
    write_output,
)
from etc_data.codecs import JpegCodec
from etc_data.errors import CodecError
from etc_data.fitting import fit_image, prepare_image
from etc_data.keys import SecretKey
from etc_data.presets import PRESET_NAMES
from etc_data.shards.samples import AUGMENTED_SPLIT, SampleEncoder
from etc_data.sources.images import load_rgb

_CELLS_PER_ROW = 5


@click.command()
@click.argument("image", metavar="IMAGE", type=click.Path(exists=True, allow_dash=True))
@click.option("-o", "--output", required=True, metavar="FILE", help="The PNG to write, - for stdout.")
@key_options
@click.option("--schemes", default=",".join(PRESET_NAMES), metavar="NAMES", help="Separated by commas.")
@click.option("--size", type=SizeType(), default="224", show_default=True, help="Pixels per side.")
@click.option("--quality", type=click.IntRange(1, 100), default=95, show_default=True)
@click.option("--augment", metavar="RECIPE", help="Show augmented copies, as encrypt writes them.")
@click.option("--copies", type=click.IntRange(1, 16), default=4, show_default=True, help="How many.")
@click.option("--force", is_flag=True, help="Replace the file that is there.")
def preview(
    image: str,
    output: str,
    key_path: Path | None,
    passphrase: bool,
    schemes: str,
    size: tuple[int, int],
    quality: int,
    augment: str | None,
    copies: int,
    force: bool,
) -> None:
    """Draw the photo IMAGE as it is, encrypted under each scheme, and decrypted again.

    With --augment, draw copies of it instead, and below them their encryptions under each scheme.
    The sheet shows the plain photo: it is for your eyes, not for publication.

    \b
    Examples:
      etc-data preview photo.jpg --key clinic.key -o sheet.png
      etc-data preview photo.jpg --key clinic.key -o sheet.png --schemes etc-16,ind-16/8
      etc-data preview photo.jpg --key clinic.key -o sheet.png --schemes etc-16 --augment crop+flip
    """
    if augment is None:
        refuse_options(("copies",), "needs --augment RECIPE")
    augmentation = None if augment is None else Augmentation(augment)
    if output != "-" and Path(output).suffix.lower() != ".png":
        raise CodecError(f"{output} must end with .png")
    check_output(output, force=force)
    key = load_key(key_path, passphrase)
    ciphers = [Cipher(name.strip(), key) for name in schemes.split(",") if name.strip()]
    data = read_input(image)
    with about(image):
        if augmentation is None:
            rows = _each_scheme(prepare_image(load_rgb(data), 1, size=size), ciphers, quality)
        else:
            rows = _each_copy(_copies(data, key, size, augmentation, copies), ciphers, quality)
    file = io.BytesIO()
    draw_sheet(rows).save(file, "PNG")
    write_output(output, file.getvalue(), force=force)
    if output != "-":
        what = "the photo" if augment is None else f"{copies} copies"
        say(f"wrote {output}: {what} under {len(ciphers)} schemes, with key {key.id}")


def _each_scheme(plain: Image.Image, ciphers: list[Cipher], quality: int) -> list[list[Cell]]:
    """Returns the photo, and pairs of encrypted above decrypted pictures, several in a row."""
    pixels = np.asarray(plain)
    jpeg_bytes = len(JpegCodec(quality=quality).encode(pixels))
    cells = [(Cell(pixels, ("plain", f"JPEG {human_bytes(jpeg_bytes)}")), Cell(None))]
    for cipher in ciphers:
        fitted = np.asarray(fit_image(plain, cipher.scheme.block_size, "resize"))
        trip = round_trip(fitted, cipher, quality=quality)
        name = "JPEG" if trip.codec.extension == "jpg" else "PNG"
        size_text = f"{name} {human_bytes(trip.bytes)}"
        cells.append(
            (
                Cell(trip.encrypted, (cipher.scheme.name, size_text)),
                Cell(trip.decrypted, (f"decrypted: {describe_psnr(trip.psnr)}",)),
            )
        )
    rows = []
    for first in range(0, len(cells), _CELLS_PER_ROW):
        pairs = cells[first : first + _CELLS_PER_ROW]
        rows += [[above for above, _ in pairs], [below for _, below in pairs]]
    return rows


def _each_copy(plain: list[Image.Image], ciphers: list[Cipher], quality: int) -> list[list[Cell]]:
    """Returns a row of plain copies, and for each scheme a row of their encryptions below them."""
    rows = [[Cell(np.asarray(copy), (f"copy {number}",)) for number, copy in enumerate(plain)]]
    for cipher in ciphers:
        fitted = [np.asarray(fit_image(copy, cipher.scheme.block_size, "resize")) for copy in plain]
        trips = [round_trip(pixels, cipher, quality=quality) for pixels in fitted]
        rows.append([Cell(trip.encrypted, (cipher.scheme.name,)) for trip in trips])
    return rows


def _copies(
    data: bytes, key: SecretKey, size: tuple[int, int], augmentation: Augmentation, count: int
) -> list[Image.Image]:
    """Returns copies of a photo as `etc-data encrypt` would augment them with this key."""
    # Neither scheme nor coding plays a part in them.
    cipher = Cipher("etc-16", key)
    encoder = SampleEncoder(cipher, JpegCodec(), size, augmentation=augmentation)
    photo, source_hash = load_rgb(data), hashlib.sha256(data).digest()
    return [encoder.plain_copy(photo, AUGMENTED_SPLIT, source_hash, copy) for copy in range(count)]
