"""The `etc-data` command: its group, and how errors and warnings are shown."""

import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import click

import etc_data
from etc_data.cli.decrypt import decrypt
from etc_data.cli.demo import demo
from etc_data.cli.encrypt import encrypt
from etc_data.cli.inspect import inspect
from etc_data.cli.keygen import keygen
from etc_data.cli.preview import preview
from etc_data.cli.schemes import schemes
from etc_data.cli.verify import verify
from etc_data.errors import EtcError

_INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(etc_data.__version__, "--version", message="etc-data %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Encrypt images so that machines can learn from them but people cannot see them.

    \b
    Examples:
      etc-data keygen clinic.key
      etc-data encrypt photos/ shards/ --key clinic.key --size 224
      etc-data verify shards/ --key clinic.key
      etc-data decrypt shards/ plain/ --key clinic.key

    It is perceptual encryption: see docs/threat-model.md for what it protects against which attack.
    """


for command in (keygen, encrypt, decrypt, verify, inspect, preview, schemes, demo):
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command and exits: 0 done, 1 failed, 2 wrong usage."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    if debug:
        # The flag may stand anywhere, also after the sub-command.
        given = ["--debug", *(word for word in given if word != "--debug")]
    warnings.showwarning = _show_warning
    try:
        sys.exit(_run(given, debug))
    except BrokenPipeError:
        # The reader of our output went away, such as `head`; there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _run(given: list[str], debug: bool) -> int:
    try:
        result = cli.main(given, prog_name="etc-data", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Abort:
        return _fail("interrupted", "nothing half written is left behind", _INTERRUPTED)
    except KeyboardInterrupt:
        return _fail("interrupted", "nothing half written is left behind", _INTERRUPTED)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "etc-data"
        return _fail(_sentence(error.format_message()), f"{command} --help shows the options", 2)
    except click.ClickException as error:
        return _fail(_sentence(error.format_message()), None, error.exit_code)
    except EtcError as error:
        if debug:
            raise
        return _fail(str(error), error.hint, 1)
    except BrokenPipeError:
        raise
    except OSError as error:
        if debug:
            raise
        name = f"{error.filename}: " if error.filename else ""
        return _fail(f"{name}{error.strerror or error}", None, 1)
    except Exception as error:
        if debug:
            raise
        return _fail(f"internal error: {type(error).__name__}: {error}", "--debug shows where", 1)


def _fail(message: str, hint: str | None, code: int) -> int:
    click.echo(f"etc-data: error: {_one_line(message)}", err=True)
    if hint:
        click.echo(f"etc-data: hint: {_one_line(hint)}", err=True)
    return code


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _sentence(text: str) -> str:
    text = text.rstrip(".")
    return text[:1].lower() + text[1:]


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    click.echo(f"etc-data: warning: {_one_line(str(message))}", err=True)


if __name__ == "__main__":
    main()
