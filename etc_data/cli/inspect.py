"""`etc-data inspect`: what a data set or an encrypted image says of itself, without the key."""

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from etc_data.cli.options import PlaceType, about, human_bytes, printable, read_input
from etc_data.shards.manifest import Manifest
from etc_data.shards.single import ImageNote
from etc_data.shards.storage import is_url


@click.command()
@click.argument("path", metavar="OUT", type=PlaceType(exists=True, allow_dash=True))
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def inspect(path: str, as_json: bool) -> None:
    """Show what everybody can read of the data set OUT (a folder or a URL), or of one encrypted image.

    \b
    Examples:
      etc-data inspect shards/
      etc-data inspect query.jpg --json
    """
    if is_url(path) or Path(path).is_dir():
        manifest = Manifest.read(path)
        _show(manifest.to_dict() if as_json else _facts(manifest), as_json)
        if not as_json:
            _show_shards(manifest)
        return
    data = read_input(path)
    with about(path):
        note = ImageNote.read(data)
    facts: dict[str, Any] = {
        "scheme": note.scheme.describe() if as_json else note.scheme.name,
        "key_id": note.key_id,
        "key_scope": note.key_scope,
        "context": note.context,
        "height": note.size[0],
        "width": note.size[1],
        "nonce": note.nonce.hex() if note.nonce else "",
    }
    _show(facts, as_json)


def _facts(manifest: Manifest) -> dict[str, Any]:
    value = manifest.to_dict()
    size = "each image its own" if manifest.size is None else "{} × {}".format(*manifest.size)
    return {
        "format": value["format"],
        "scheme": manifest.scheme.name,
        "steps": manifest.scheme.canonical.split("|"),
        "key id": manifest.key_id,
        "key scope": manifest.key_scope,
        "context": manifest.context or "(none)",
        "size": size,
        "codec": ", ".join(f"{name} {entry}" for name, entry in manifest.codec.items()),
        "labels": f"{manifest.classes} classes" if manifest.classes else "none",
        **({"class names": list(manifest.class_names)} if manifest.class_names else {}),
        "augmented": f"{manifest.augmentation or 'no'}, {manifest.copies} of each",
        "samples": str(manifest.samples),
        "bytes": human_bytes(manifest.total_bytes),
    }


def _show(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(facts, indent=1))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        lines = value if isinstance(value, list) else [str(value)]
        text = ("\n" + " " * (width + 2)).join(map(printable, lines))
        click.echo(f"{name:<{width}}  {text}")


def _show_shards(manifest: Manifest) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("shard", "samples", "bytes", "sha256"):
        table.add_column(column, justify="left" if column in ("shard", "sha256") else "right")
    for shard in manifest.shards:
        table.add_row(shard.name, str(shard.samples), str(shard.bytes), shard.sha256[:16] + "…")
    click.echo()
    Console().print(table)
