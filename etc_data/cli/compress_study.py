"""`etc-data compress-study`: what encryption costs in bytes and quality, on one's own images."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt

from etc_data.audit.key_space import SAFE_BITS
from etc_data.cli.options import SizeType, progress_bar, say
from etc_data.compression.coders import Jpeg, curve_coders, samplings
from etc_data.compression.figures import check_matplotlib, draw_curves, figure_bytes
from etc_data.compression.lossless import has_imagecodecs
from etc_data.compression.measurement import BEST_PSNR, Measurement, measure
from etc_data.compression.photos import load_photos
from etc_data.compression.recommendation import (
    BytesTarget,
    PsnrTarget,
    Target,
    best_coding,
    recommend,
)
from etc_data.compression.tables import image_rows, mean_rows
from etc_data.compression.treatments import PLAIN, STUDIED, Treatment, treatment
from etc_data.errors import EtcError, OutputExistsError, SchemeError, SourceError
from etc_data.keys import SecretKey
from etc_data.shards.files import published
from etc_data.shards.storage import check_local
from etc_data.sources import open_source

Bytes = npt.NDArray[np.uint8]

_SMALLEST_SIDE = 16  # SSIM has a window of 11 pixels, and JPEG cells of 8 pixels come in pairs


@click.command("compress-study")
@click.argument("images", metavar="IMAGES")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Where tables (CSV) and curves (PNG, SVG) go; it must be empty or new.",
)
@click.option("--size", type=SizeType(), default="224", show_default=True, help="Pixels per side.")
@click.option(
    "--limit",
    type=click.IntRange(1, 100_000),
    default=20,
    show_default=True,
    help="The most images to look at, evenly spread.",
)
@click.option(
    "--target-psnr",
    type=click.FloatRange(20, BEST_PSNR),
    metavar="DB",
    help="Find the smallest files whose decrypted images reach this, on average.",
)
@click.option(
    "--target-bytes",
    type=click.IntRange(1),
    metavar="N",
    help="Find the best decrypted images from files of at most N bytes, on average.",
)
@click.option(
    "--schemes",
    default=",".join(STUDIED),
    show_default=True,
    metavar="NAMES",
    help="Separated by commas, in any block size.",
)
def compress_study(
    images: str,
    output: Path | None,
    size: tuple[int, int],
    limit: int,
    target_psnr: float | None,
    target_bytes: int | None,
    schemes: str,
) -> None:
    """Measure what encryption costs on IMAGES, in bytes and quality, and recommend a quality.

    IMAGES is what etc-data encrypt takes: a folder, tars, hf:NAME, torchvision:NAME?root=FOLDER. They
    are encrypted, coded, decoded and decrypted, each with random draws of its own that are then
    forgotten: your key is not needed. Under it a scheme costs the same within 1 %, but com-16,
    com-16/8 and le-4, which treat all blocks alike, within 3 %. Plain images are measured too.

    The tables hold sizes and scores of images by number, no pixels and no names.

    \b
    Examples:
      etc-data compress-study photos/ --target-psnr 38
      etc-data compress-study photos/ --target-bytes 20000 --schemes etc-16,etc-8
      etc-data compress-study photos/ -o study/ --size 512x768 --limit 8
    """
    if target_psnr is not None and target_bytes is not None:
        raise click.UsageError("--target-psnr and --target-bytes exclude each other")
    if output is None and target_psnr is None and target_bytes is None:
        raise click.UsageError(
            "there is nothing to do: give -o FOLDER, --target-psnr or --target-bytes"
        )
    treatments = _treatments(schemes, size)
    if output is not None:
        _check_folder(output)
        check_matplotlib()
    source = open_source(images)
    if output is not None and output.resolve().is_relative_to(Path(images).resolve()):
        raise SourceError(
            f"{output} lies in {images}, where its curves would count as images",
            "choose a folder outside of the source",
        )
    load_bar = progress_bar("reading", "image")(limit)
    photos = load_photos(source, size, limit, step=lambda: load_bar(1))
    load_bar(limit - len(photos.images))
    if photos.enlarged:
        say(
            f"{photos.enlarged} of {len(photos.images)} images are smaller than the size and were "
            "enlarged; such images cost less than real ones of that size"
        )
    if output is not None:
        _write(output, _curves(photos.images, treatments))
    if target_psnr is not None:
        _recommend(images, photos.images, treatments, PsnrTarget(target_psnr))
    elif target_bytes is not None:
        _recommend(images, photos.images, treatments, BytesTarget(target_bytes))


def _treatments(schemes: str, size: tuple[int, int]) -> list[Treatment]:
    """Returns the treatments of a list of names, plain images first, all checked against the size."""
    names = [name for name in map(str.strip, schemes.split(",")) if name]
    if not names:
        raise SchemeError("no scheme is named", "such as --schemes etc-16,ind-16/8")
    if min(size) < _SMALLEST_SIDE:
        raise click.UsageError(f"--size is {size[0]}x{size[1]}; it must be at least {_SMALLEST_SIDE}")
    key = SecretKey.generate()
    treatments = [treatment(name, key) for name in dict.fromkeys((PLAIN, *names))]
    for one in treatments:
        if one.scheme is not None:
            one.scheme.check_size(*size)
    return treatments


def _check_folder(output: Path) -> None:
    check_local(output, "the study's folder")
    if output.exists() and any(output.iterdir()):
        raise OutputExistsError(f"{output} is not empty", "choose another folder")
    standing = next(place for place in (output, *output.absolute().parents) if place.exists())
    if not standing.is_dir() or not os.access(standing, os.W_OK):
        raise EtcError(f"{output} cannot be made: {standing} is no folder that can be written to")


def _curves(images: Bytes, treatments: Sequence[Treatment]) -> list[Measurement]:
    """Returns every treatment under every coder."""
    pairs = [(one, coder) for one in treatments for coder in curve_coders(one)]
    bar = progress_bar("measuring", "image")(len(pairs) * len(images))
    return [measure(images, *pair, with_ssim=True, step=lambda: bar(1)) for pair in pairs]


def _write(output: Path, measurements: Sequence[Measurement]) -> None:
    first = measurements[0]
    count = len(first.bytes)
    title = f"mean of {count} images of {first.height} × {first.width} pixels"
    figure = draw_curves(measurements, title)
    files = {
        "images.csv": image_rows(measurements).encode(),
        "means.csv": mean_rows(measurements).encode(),
        "curves.png": figure_bytes(figure, "png"),
        "curves.svg": figure_bytes(figure, "svg"),
    }
    output.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        with published(output / name) as file:
            file.write(data)
    say(f"wrote {output}: {len(measurements)} codings of {count} images")
    if not has_imagecodecs():
        say("  without JPEG-LS and JPEG 2000; pip install 'etc-data[codecs]'")


def _recommend(source: str, photos: Bytes, treatments: Sequence[Treatment], target: Target) -> None:
    bar = progress_bar("searching", "coding")(sum(len(samplings(one)) + 1 for one in treatments))
    found = [best_coding(photos, one, target, step=lambda: bar(1)) for one in treatments]
    plain = found[0]
    click.echo(f"{len(photos)} images, target {target}\n")
    click.echo(_ROW.format(*_HEADER).rstrip())
    for one, measurement in zip(treatments, found, strict=True):
        click.echo(_row(one, measurement, plain, photos.shape[1:3]))
    click.echo()
    reached = [one for one in found if one is not None]
    best = recommend(reached, target)
    if best is None:
        offered = any(one.treatment.offered for one in reached)
        reason = f"has a key space above 2^{SAFE_BITS:.0f}" if offered else "reaches the target"
        say(f"no recommendation: no scheme of these {reason} at this size")
        return
    click.echo(f"recommended: {best.treatment.name}, blocks of {best.treatment.block_size} pixels")
    click.echo(f"  {_command(source, best)}")
    say("etc-data schemes tells which models accept a scheme, and what breaks it.")


def _command(source: str, best: Measurement) -> str:
    """Returns the command that encrypts a source as it was measured."""
    size = f"{best.width}" if best.height == best.width else f"{best.height}x{best.width}"
    words = ("etc-data encrypt", shlex.quote(source), "OUT --key KEY --scheme", best.treatment.name)
    return f"{' '.join(words)} --size {size} {_coding_options(best)}"


_HEADER = ("scheme", "key space", "coding", "quality", "bytes", "to plain", "PSNR", "worst")
_ROW = "{:<16} {:>11} {:>11} {:>8} {:>10} {:>9} {:>9} {:>9}"


def _row(
    one: Treatment,
    measurement: Measurement | None,
    plain: Measurement | None,
    size: tuple[int, ...],
) -> str:
    bits = one.key_space_bits(size[0], size[1])
    space = f"2^{bits:,.0f}" if bits else "–"
    if measurement is None:
        return _ROW.format(one.name, space, "not reached", "", "", "", "", "").rstrip()
    quality = "–" if measurement.quality is None else str(measurement.quality)
    ratio = "–" if plain is None else f"{measurement.mean_bytes / plain.mean_bytes - 1:+.1%}"
    return _ROW.format(
        one.name,
        space,
        measurement.coder.name,
        quality,
        f"{measurement.mean_bytes:,.0f}",
        ratio,
        _decibels(measurement.mean_psnr),
        _decibels(float(measurement.psnr.min())),
    )


def _decibels(value: float) -> str:
    return "exact" if value >= BEST_PSNR else f"{value:.2f} dB"


def _coding_options(measurement: Measurement) -> str:
    """Returns the options of `etc-data encrypt` that write such files."""
    coder = measurement.coder
    if not isinstance(coder, Jpeg):
        return "--lossless"
    scheme = measurement.treatment.scheme
    noise = "" if scheme is None or scheme.jpeg_friendly else " --allow-noise"
    return f"--quality {coder.quality} --subsampling {coder.sampling}{noise}"
