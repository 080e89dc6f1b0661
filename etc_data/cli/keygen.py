"""`etc-data keygen`: a new secret key."""

import os
from pathlib import Path

import click

from etc_data.cli.options import PASSPHRASE_VARIABLE, ask_passphrase, check_key_path, say
from etc_data.keys import SecretKey


@click.command()
@click.argument("path", metavar="KEY", type=click.Path(path_type=Path))
@click.option(
    "--passphrase", is_flag=True, help=f"Protect it with a passphrase (or {PASSPHRASE_VARIABLE})."
)
def keygen(path: Path, passphrase: bool) -> None:
    """Write a new secret key to the file KEY, which must not exist, and print its id.

    Whoever has the file can decrypt; without it nobody can. Back it up offline: docs/keys.md.

    \b
    Examples:
      etc-data keygen clinic.key
      etc-data keygen clinic.key --passphrase
    """
    check_key_path(path)
    if str(path) == "-":
        raise click.UsageError("a key is only written to a file, never to standard output")
    secret = None
    if passphrase:
        secret = os.environ.get(PASSPHRASE_VARIABLE) or ask_passphrase(twice=True)
    key = SecretKey.generate()
    key.save(path, passphrase=secret)
    click.echo(key.id)
    say(f"wrote the secret key to {path}, readable by you alone; make a backup, offline")
