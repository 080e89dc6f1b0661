"""`etc-data preview`: one photo under every scheme, as a contact sheet."""

import io
from pathlib import Path

import click
import numpy as np

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
    say,
    write_output,
)
from etc_data.codecs import JpegCodec
from etc_data.errors import CodecError
from etc_data.fitting import fit_image, prepare_image
from etc_data.presets import PRESET_NAMES
from etc_data.sources.images import load_rgb

_CELLS_PER_ROW = 5


@click.command()
@click.argument("image", metavar="IMAGE", type=click.Path(exists=True, allow_dash=True))
@click.option("-o", "--output", required=True, metavar="FILE", help="The PNG to write, - for stdout.")
@key_options
@click.option("--schemes", default=",".join(PRESET_NAMES), metavar="NAMES", help="Separated by commas.")
@click.option("--size", type=SizeType(), default="224", show_default=True, help="Pixels per side.")
@click.option("--quality", type=click.IntRange(1, 100), default=95, show_default=True)
@click.option("--force", is_flag=True, help="Replace the file that is there.")
def preview(
    image: str,
    output: str,
    key_path: Path | None,
    passphrase: bool,
    schemes: str,
    size: tuple[int, int],
    quality: int,
    force: bool,
) -> None:
    """Draw the photo IMAGE as it is, encrypted under each scheme, and decrypted again.

    The sheet shows the plain photo: it is for your eyes, not for publication.

    \b
    Examples:
      etc-data preview photo.jpg --key clinic.key -o sheet.png
      etc-data preview photo.jpg --key clinic.key -o sheet.png --schemes etc-16,ind-16/8
    """
    if output != "-" and Path(output).suffix.lower() != ".png":
        raise CodecError(f"{output} must end with .png")
    check_output(output, force=force)
    key = load_key(key_path, passphrase)
    ciphers = [Cipher(name.strip(), key) for name in schemes.split(",") if name.strip()]
    data = read_input(image)
    with about(image):
        plain = prepare_image(load_rgb(data), 1, size=size)
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
    file = io.BytesIO()
    draw_sheet(rows).save(file, "PNG")
    write_output(output, file.getvalue(), force=force)
    if output != "-":
        say(f"wrote {output}: the photo under {len(ciphers)} schemes, with key {key.id}")
