"""`etc-data decrypt`: shards back to a folder, or one encrypted image back to a photo."""

import io
from pathlib import Path

import click
import numpy as np

from etc_data.cli.options import (
    PlaceType,
    about,
    check_output,
    key_options,
    load_key,
    progress_bar,
    read_input,
    refuse_options,
    say,
    write_output,
)
from etc_data.codecs import JpegCodec, PngCodec
from etc_data.errors import CodecError
from etc_data.shards.decrypt import decrypt_shards
from etc_data.shards.manifest import Manifest
from etc_data.shards.single import decrypt_photo
from etc_data.shards.storage import is_url


@click.command()
@click.argument("source", metavar="SOURCE", type=PlaceType(exists=True, allow_dash=True))
@click.argument("out", metavar="[DIR]", type=click.Path(path_type=Path), required=False)
@click.option("-o", "--output", metavar="FILE", help="For one image: the file to write, - for stdout.")
@key_options
@click.option(
    "--format",
    "form",
    type=click.Choice(["png", "jpg"]),
    default="png",
    show_default=True,
    help="Of the decrypted images in DIR.",
)
@click.option(
    "--ledger",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    metavar="FOLDER",
    help="Which names the images (default: SOURCE.ledger; of a URL, in this folder).",
)
@click.option("--force", is_flag=True, help="Replace the file that is there (one image only).")
def decrypt(
    source: str,
    out: Path | None,
    output: str | None,
    key_path: Path | None,
    passphrase: bool,
    form: str,
    ledger: Path | None,
    force: bool,
) -> None:
    """Decrypt the shards in SOURCE, a folder or a URL, into the folder DIR, or one image with -o.

    A wrong key is refused by its id before any work. With the ledger beside SOURCE, images get the
    names of their sources back.

    \b
    Examples:
      etc-data decrypt shards/ plain/ --key clinic.key
      etc-data decrypt query.jpg -o photo.png --key clinic.key
    """
    one_image = not is_url(source) and not Path(source).is_dir()
    if one_image and (output is None or out is not None):
        raise click.UsageError("for one image give the file to write: -o FILE (or -o -)")
    if not one_image and (out is None or output is not None):
        raise click.UsageError("for shards give the folder to write: etc-data decrypt SOURCE DIR")
    if one_image:
        refuse_options(
            ("form", "ledger"), "is for folders; the name of the file tells how one image is coded"
        )
    else:
        refuse_options(("force",), "is for one image; a folder of images is never replaced")
    key = load_key(key_path, passphrase)
    if output is not None:
        extension = Path(output).suffix.lower()
        if output != "-" and extension not in (".jpg", ".jpeg", ".png"):
            raise CodecError(f"{output} must end with .png or .jpg, which tells the coding")
        check_output(output, force=force)
        data = read_input(source)
        with about(source):
            image = decrypt_photo(data, key)
        file = io.BytesIO(_codec(extension).encode(np.asarray(image)))
        write_output(output, file.getvalue(), force=force)
        if output != "-":
            say(f"wrote {output}: {image.width}×{image.height} pixels")
        return
    assert out is not None
    tick = progress_bar("decrypting", "image")(Manifest.read(source).samples)
    summary = decrypt_shards(source, out, key, codec=_codec(f".{form}"), ledger=ledger, tick=tick)
    names = "named like their sources" if summary.named_by_ledger else "named by their sample keys"
    say(f"wrote {summary.images} decrypted images to {out}, {names}")


def _codec(extension: str) -> JpegCodec | PngCodec:
    return PngCodec() if extension in (".png", "") else JpegCodec()
