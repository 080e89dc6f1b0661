"""`etc-data audit`: attack one's own data set, and see what came of it."""

import shlex
from pathlib import Path

import click
from rich.console import Console

from etc_data.cli.options import PlaceType, key_options, load_key, printable, say
from etc_data.cli.paragraphs import paragraph

_QUICK_IMAGES = 200
_COLUMN = 13  # where the texts begin


@click.command()
@click.argument("place", metavar="OUT", type=PlaceType(exists=True, file_okay=False))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    metavar="FOLDER",
    help="Where report.html and report.json go; for you alone.",
)
@key_options
@click.option("--no-key", is_flag=True, help="See what a stranger sees; less is tried.")
@click.option(
    "--model",
    type=click.Path(exists=True, path_type=Path),
    metavar="FILE",
    help="An encrypted model of this data set's key, to be attacked too.",
)
@click.option(
    "--base",
    type=click.Path(exists=True, path_type=Path),
    metavar="FILE",
    help="The plain weights that it was fine-tuned from, as an attacker may have them.",
)
@click.option("--architecture", metavar="NAME", help="In timm, where --base does not tell its own.")
@click.option(
    "--lpips",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Weights of LPIPS (AlexNet), to compare pictures of 32 px and more by it too.",
)
@click.option("--split", help="Look at this split only.")
@click.option(
    "--images",
    type=click.IntRange(1, 10_000),
    help=f"How many to look at, at most (default: 1000, with --quick {_QUICK_IMAGES}).",
)
@click.option("--quick", is_flag=True, help="Leave out what takes minutes.")
@click.option("--json", "as_json", is_flag=True, help="Print report.json as well.")
def audit(
    place: str,
    output: Path,
    key_path: Path | None,
    passphrase: bool,
    no_key: bool,
    model: Path | None,
    base: Path | None,
    architecture: str | None,
    lpips: Path | None,
    split: str | None,
    images: int | None,
    quick: bool,
    as_json: bool,
) -> None:
    """Attack the data set OUT (a folder or a URL) and report what others could find out.

    The key judges the attacks and stands in for photos that an attacker may know; no attack sees it.
    The report shows plain images. Exit code 0 means that the audit is done, whatever it found.

    \b
    Examples:
      etc-data audit shards/ --key clinic.key -o report/
      etc-data audit shards/ --key clinic.key -o report/ --quick
      etc-data audit s3://bucket/set --no-key -o report/
      etc-data audit shards/ --key clinic.key -o report/ --model served.safetensors --base start.pth
    """
    if no_key and (key_path is not None or passphrase):
        raise click.UsageError("--no-key and a key exclude each other")
    if base is not None and model is None:
        raise click.UsageError("--base helps against an encrypted model: add --model")
    if architecture is not None and base is None:
        raise click.UsageError("--architecture is that of base weights: add --base")
    if lpips is not None and no_key:
        raise click.UsageError("--lpips compares with the plain pictures, which take the key")
    key = None if no_key else load_key(key_path, passphrase)
    from etc_data.audit.report import audit as run_audit
    from etc_data.audit.report_folder import report_folder, write_report

    victim = plain = None
    with report_folder(output), Console(stderr=True).status("reading") as status:
        if model is not None:
            from etc_data.models import load_encrypted_model, model_info
            from etc_data.models.plain_files import load_plain_model

            victim = load_encrypted_model(model)
            if base is not None:
                plain = load_plain_model(base, architecture, model_info(victim).image_size)
        metric = None
        if lpips is not None:
            from etc_data.audit.lpips import Lpips

            metric = Lpips.load(lpips)
        report = run_audit(
            place,
            key=key,
            split=split,
            images=images or (_QUICK_IMAGES if quick else 1000),
            quick=quick,
            model=victim,
            base=plain,
            lpips=metric,
            say=lambda name: status.update(f"trying: {name}"),
        )
        json_path, page = write_report(report, output)
    if as_json:
        click.echo(json_path.read_text(encoding="utf-8"), nl=False)
    marks = {"broken": "BROKEN", "held": "held" if key else "unsure"}
    if report.broken:
        say("BROKEN: an attack gave pictures back")
    elif key:
        say("no attack that was tried gave pictures back")
    else:
        say("no attack is sure to have given pictures back: look at those restored")
    for standing in report.standings:
        mark = marks.get(standing.verdict, standing.verdict)
        say(paragraph(f"  {mark}", f"{standing.attacker}: {standing.ground}", _COLUMN))
    for sentence in report.recommendations:
        say(paragraph("  -", sentence, 4))
    say(f"look at  {printable(shlex.quote(str(page)))}")
    say(f"figures  {printable(shlex.quote(str(json_path)))}")
