"""`etc-data verify`: is a data set whole, and with the key: is it as the owner wrote it."""

import json
from pathlib import Path

import click

from etc_data.cli.options import (
    PlaceType,
    has_key,
    human_bytes,
    key_options,
    load_key,
    progress_bar,
    say,
)
from etc_data.shards.manifest import Manifest
from etc_data.shards.verify import verify_shards


@click.command()
@click.argument("place", metavar="OUT", type=PlaceType(exists=True, file_okay=False))
@key_options
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def verify(place: str, key_path: Path | None, passphrase: bool, as_json: bool) -> None:
    """Check every shard of the data set OUT, a folder or a URL: size, SHA-256, number of samples.

    Without the key this finds accidents. Someone who rewrites shards and manifest alike is found
    only with the key, by the manifest's seal (HMAC).

    \b
    Examples:
      etc-data verify shards/
      etc-data verify shards/ --key clinic.key
      etc-data verify s3://bucket/set --key clinic.key
    """
    key = load_key(key_path, passphrase) if has_key(key_path) else None
    tick = progress_bar("verifying", "B")(Manifest.read(place).total_bytes)
    manifest = verify_shards(place, key=key, tick=tick)
    sealed = "checked" if key else "not checked"
    if as_json:
        record = {
            "samples": manifest.samples,
            "shards": len(manifest.shards),
            "bytes": manifest.total_bytes,
            "key_id": manifest.key_id,
            "seal": sealed,
        }
        click.echo(json.dumps(record))
    else:
        click.echo(
            f"ok: {manifest.samples} samples in {len(manifest.shards)} shards, "
            f"{human_bytes(manifest.total_bytes)}; seal {sealed}"
        )
    if key is None:
        say("the seal needs the key: etc-data verify OUT --key KEY")
