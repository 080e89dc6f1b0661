"""`etc-data encrypt`: a folder into shards, or one photo into an encrypted image."""

import json
import shlex
from pathlib import Path
from typing import Any

import click

from etc_data.cipher import Cipher
from etc_data.cli.options import (
    about,
    check_output,
    close_progress_bars,
    coding_options,
    human_bytes,
    key_options,
    load_key,
    make_codec,
    progress_bar,
    read_input,
    refuse_options,
    say,
    write_output,
)
from etc_data.errors import CodecError
from etc_data.shards.samples import check_codec
from etc_data.shards.single import encrypt_photo
from etc_data.shards.storage import is_url, open_storage
from etc_data.shards.writer import SkippedItemsError, WriteSummary, write_shards
from etc_data.sources.selection import Selection
from etc_data.sources.spec import open_source

_REASONS_SHOWN = 5
_FOLDER_OPTIONS = (
    "splits",
    "limit",
    "labels",
    "class_names",
    "augment",
    "copies",
    "samples_per_shard",
    "workers",
    "engine",
    "resume",
    "skip_bad",
    "ledger",
    "as_json",
)


@click.command()
@click.argument("source", metavar="SOURCE")
@click.argument("out", metavar="[OUT]", required=False)
@click.option("-o", "--output", metavar="FILE", help="For one photo: the file to write, - for stdout.")
@key_options
@click.option("--scheme", default="etc-16", show_default=True, help="See: etc-data schemes.")
@click.option(
    "--key-scope",
    type=click.Choice(["dataset", "image"]),
    help="One plan for all images, or one for each (default: dataset; image for pe).",
)
@click.option("--context", default="", help="A public text that sets data sets of one key apart.")
@coding_options
@click.option("--split", "splits", multiple=True, help="Take only this split (may be repeated).")
@click.option("--limit", type=click.IntRange(1), help="Take at most so many images of each split.")
@click.option("--labels", type=click.Choice(["keep", "none"]), default="keep", show_default=True)
@click.option(
    "--class-names",
    type=click.Choice(["keep", "drop"]),
    default="drop",
    show_default=True,
    help="Whether the manifest, which is public, names the classes.",
)
@click.option(
    "--augment", metavar="RECIPE", help="Change the images of split train at random, as crop+flip."
)
@click.option(
    "--copies", type=click.IntRange(1), default=1, show_default=True, help="Augmented copies of each."
)
@click.option("--samples-per-shard", type=click.IntRange(1), help="At most (default: by size).")
@click.option(
    "--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes to work with."
)
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Processes of this machine, or tasks of your Ray cluster.",
)
@click.option("--resume", is_flag=True, help="Continue an unfinished run of the same options.")
@click.option(
    "--ledger",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Where what only you may see goes (default: OUT.ledger; of a URL, in this folder).",
)
@click.option("--force", is_flag=True, help="Replace the data set or file that is there.")
@click.option("--skip-bad", is_flag=True, help="Exit 0 although images could not be taken.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def encrypt(
    source: str,
    out: str | None,
    output: str | None,
    key_path: Path | None,
    passphrase: bool,
    scheme: str,
    key_scope: Any,
    context: str,
    size: tuple[int, int] | None,
    resize: Any,
    fit: Any,
    quality: int,
    subsampling: str,
    lossless: bool,
    allow_noise: bool,
    **shard_options: Any,
) -> None:
    """Encrypt the images of SOURCE into shards in the folder OUT, or one photo with -o.

    SOURCE is a folder (class folders become integer labels; folders called train, val and test
    become splits), tars of a webdataset, hf:NAME_OR_PATH[:SPLIT], or torchvision:NAME?root=FOLDER.
    What only you may see (names, classes, failures) goes to OUT.ledger beside OUT: never upload it.
    OUT may be a URL such as s3://bucket/set; then the ledger stays in this folder.

    --augment RECIPE is made of crop:LEAST_AREA, shift:PIXELS, flip, color:STRENGTH,
    randaugment:MAGNITUDE, trivialaugment and timm's rand-…, joined by "+", for split train alone.

    \b
    Examples:
      etc-data encrypt photos/ shards/ --key clinic.key --size 224 --workers 2
      etc-data encrypt photos/ shards/ --key clinic.key --scheme vit-16/8 --lossless --size 224
      etc-data encrypt photos/ shards/ --key clinic.key --key-scope image --size 224
      etc-data encrypt photos/ shards/ --key clinic.key --size 224 --workers 2 --resume
      etc-data encrypt photos/ s3://bucket/set --key clinic.key --size 224
      etc-data encrypt photos/ shards/ --key clinic.key --size 224 --augment crop+flip --copies 4
      etc-data encrypt 'train-*.tar' shards/ --key clinic.key --size 224 --limit 1000
      etc-data encrypt hf:beans:train shards/ --key clinic.key --size 224
      etc-data encrypt photo.jpg -o query.jpg --key clinic.key --scheme ind-16 --size 224
      cat photo.jpg | etc-data encrypt - -o - --key clinic.key --size 224 > query.jpg
    """
    one_photo = source == "-" or (Path(source).exists() and not _holds_many(source))
    if one_photo and (output is None or out is not None):
        raise click.UsageError("for one photo give the file to write: -o FILE (or -o -)")
    if not one_photo and (out is None or output is not None):
        raise click.UsageError("for a folder give the folder to write: etc-data encrypt SOURCE OUT")
    if one_photo:
        refuse_options(_FOLDER_OPTIONS, "is for folders and has no effect on one photo")
    cipher = Cipher(scheme, load_key(key_path, passphrase), key_scope=key_scope, context=context)
    coding = {"size": size, "resize": resize, "fit": fit, "allow_noise": allow_noise}
    if output is not None:
        _encrypt_one(source, output, cipher, coding, (quality, subsampling, lossless), shard_options)
        return
    assert out is not None
    codec = make_codec(quality, subsampling, lossless)
    _encrypt_folder(source, out, cipher, {**coding, "codec": codec}, shard_options)


def _holds_many(source: str) -> bool:
    return Path(source).is_dir() or source.endswith(".tar")


def _encrypt_one(
    source: str,
    output: str,
    cipher: Cipher,
    coding: dict[str, Any],
    codec_options: tuple[int, str, bool],
    options: dict[str, Any],
) -> None:
    quality, subsampling, lossless = codec_options
    extension = Path(output).suffix.lower()
    if output != "-":
        if extension not in (".jpg", ".jpeg", ".png"):
            raise CodecError(f"{output} must end with .jpg or .png, which tells the coding")
        if lossless and extension != ".png":
            raise CodecError(f"--lossless writes PNG, but {output} ends with {extension}")
        lossless = extension == ".png"
        check_output(output, force=options["force"])
    codec = make_codec(quality, subsampling, lossless)
    check_codec(cipher.scheme, codec, allow_noise=coding["allow_noise"])
    photo = read_input(source)
    with about(source):
        encrypted = encrypt_photo(photo, cipher, codec=codec, **coding)
    write_output(output, encrypted, force=options["force"])
    if output != "-":
        say(f"wrote {output}: {human_bytes(len(encrypted))}, {cipher.scheme.name}, key {cipher.key_id}")


def _encrypt_folder(
    source: str, out: str, cipher: Cipher, coding: dict[str, Any], options: dict[str, Any]
) -> None:
    as_json = options.pop("as_json")
    splits, limit = options.pop("splits"), options.pop("limit")
    images = Selection(open_source(source), splits=splits or None, limit=limit)
    options |= {name: options[name] == "keep" for name in ("labels", "class_names")}
    if options["class_names"] and not options["labels"]:
        raise click.UsageError("--class-names keep needs --labels keep")
    if options["force"] and options["resume"]:
        raise click.UsageError("--force starts anew and --resume continues: give one of them")
    name = str(open_storage(out)) if is_url(out) else out  # whose URL may hold a password
    try:
        summary = write_shards(
            images, out, cipher, **coding, **options, progress=progress_bar("encrypting", "image")
        )
    except SkippedItemsError as error:
        assert error.summary is not None
        _report(error.summary, name, as_json)
        raise
    except Exception:
        raise
    except BaseException:  # Ctrl-C and its like
        close_progress_bars()
        instead = " instead of --force" if options["force"] else ""
        say(f"  continue with the same command and --resume{instead}")
        raise
    _report(summary, name, as_json)


def _report(summary: WriteSummary, out: str, as_json: bool) -> None:
    manifest = summary.manifest
    # Rates are of what this run wrote itself.
    share = (1 - summary.resumed / manifest.samples) / max(summary.seconds, 1e-9)
    images, megabytes = manifest.samples * share, manifest.total_bytes * share / 1e6
    if as_json:
        record = {
            "out": out,
            "ledger": str(summary.ledger),
            "scheme": manifest.scheme.name,
            "key_id": manifest.key_id,
            "key_scope": manifest.key_scope,
            "samples": manifest.samples,
            "resumed": summary.resumed,
            "classes": manifest.classes,
            "shards": len(manifest.shards),
            "splits": manifest.to_dict()["splits"],
            "bytes": manifest.total_bytes,
            "source_bytes": summary.source_bytes,
            "failures": len(summary.failures),
            "strays": len(summary.strays),
            "seconds": round(summary.seconds, 3),
            "images_per_second": round(images, 1),
            "megabytes_per_second": round(megabytes, 2),
        }
        click.echo(json.dumps(record))
    splits = ", ".join(
        f"{name} {sum(shard.samples for shard in shards)}" for name, shards in manifest.splits.items()
    )
    size = human_bytes(manifest.total_bytes)
    what = f"{manifest.samples} samples ({splits}) in {len(manifest.shards)} shards, {size}"
    if summary.unchanged:
        say(f"nothing to do: {what}, stand there already")
    else:
        kept = f"; {summary.resumed} samples stood there already" if summary.resumed else ""
        rates = f"{images:.0f} images/s, {megabytes:.1f} MB/s"
        say(f"wrote {what}, in {summary.seconds:.1f} s ({rates}){kept}")
    _list_reasons("could not be taken", [(bad.item, bad.reason) for bad in summary.failures])
    _list_reasons("were passed over", [(stray.id, stray.reason) for stray in summary.strays])
    say(f"  {'uploaded' if is_url(out) else 'upload  '} {out}")
    say(f"  keep     {summary.ledger} (which sample is which photo: for you alone)")
    verify = f"etc-data verify {shlex.quote(out)}"
    say(f"  next     {verify}    etc-data preview PHOTO -o sheet.png --key KEY")


def _list_reasons(what: str, reasons: list[tuple[str, str]]) -> None:
    if reasons:
        say(f"  {len(reasons)} {what}:")
    for item, reason in reasons[:_REASONS_SHOWN]:
        say(f"    {item}: {reason}")
    if len(reasons) > _REASONS_SHOWN:
        say("    … (all in failures.jsonl of the ledger)")
