"""The `etc-data` command: its group, and how errors and warnings are shown."""

import io
import os
import re
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

import etc_data
from etc_data.cli.audit import audit
from etc_data.cli.compress_study import compress_study
from etc_data.cli.decrypt import decrypt
from etc_data.cli.decrypt_model import decrypt_model
from etc_data.cli.demo import demo
from etc_data.cli.doctor import doctor
from etc_data.cli.encrypt import encrypt
from etc_data.cli.encrypt_model import encrypt_model
from etc_data.cli.evaluate import evaluate
from etc_data.cli.inspect import inspect
from etc_data.cli.keygen import keygen
from etc_data.cli.options import close_progress_bars, hide_secrets, printable
from etc_data.cli.preview import preview
from etc_data.cli.reproduce import reproduce
from etc_data.cli.schemes import schemes
from etc_data.cli.show_embedding import show_embedding
from etc_data.cli.train import train
from etc_data.cli.verify import verify
from etc_data.errors import EtcError

_INTERRUPTED = 128 + signal.SIGINT
_TERMINATED = 128 + signal.SIGTERM
_GUESS = re.compile(r" \(?(?:Did you mean(?: one of:)?|Possible options:) (.*?)\??\)?$")


@click.group(
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGS]...",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(etc_data.__version__, "--version", message="etc-data %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def cli(context: click.Context, debug: bool) -> None:
    """Encrypt images so that machines can learn from them but people cannot see them.

    It is perceptual encryption: see docs/threat-model.md for what it protects against which attack.

    \b
    Examples:
      etc-data keygen clinic.key
      etc-data encrypt photos/ shards/ --key clinic.key --size 224
      etc-data verify shards/ --key clinic.key
      etc-data decrypt shards/ plain/ --key clinic.key
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        context.exit(2)


def _examples_last(command: click.Command) -> click.Command:
    """Moves the examples of a docstring behind the options, where people look for them."""
    command.help, mark, examples = (command.help or "").partition("\b\n")
    command.epilog = mark + examples
    return command


_COMMANDS = (
    keygen,
    encrypt,
    decrypt,
    verify,
    inspect,
    preview,
    schemes,
    audit,
    compress_study,
    encrypt_model,
    decrypt_model,
    train,
    evaluate,
    reproduce,
    show_embedding,
    demo,
    doctor,
)
for command in _COMMANDS:
    cli.add_command(_examples_last(command))
_examples_last(cli)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command and exits: 0 done, 1 failed, 2 wrong usage."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = given[: given.index("--")] if "--" in given else given
    debug = "--debug" in options
    if debug:
        # The flag may stand anywhere, also after the sub-command.
        kept = [word for word in options if word != "--debug"]
        given = ["--debug", *kept, *given[len(options) :]]
    warnings.showwarning = _show_warning
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A table with a sign that the terminal's encoding lacks is better than none.
        sys.stdout.reconfigure(errors="replace")
    try:
        with _termination_raised():
            sys.exit(_run(given, debug))
    except BrokenPipeError:
        # The reader of our output went away, such as `head`; there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    finally:
        close_progress_bars()


class _Terminated(BaseException):
    """What `SIGTERM` raises, as Ctrl-C raises `KeyboardInterrupt`: what is half done gets undone."""


@contextmanager
def _termination_raised() -> Iterator[None]:
    """Raises `_Terminated` on `SIGTERM`, once; whoever had it ignored or handled keeps that."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _raise_terminated)
    try:
        yield
    finally:
        # Once terminated, the process is on its way out, and a second signal shall not change how.
        if signal.getsignal(signal.SIGTERM) == _raise_terminated:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _raise_terminated(*_: object) -> None:
    # A second signal must not cut the cleaning up short; schedulers may send several.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _Terminated


def _run(given: list[str], debug: bool) -> int:
    try:
        result = cli.main(given, prog_name="etc-data", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except (click.exceptions.Abort, KeyboardInterrupt):
        return _fail("interrupted", "no half-written file is left behind", _INTERRUPTED)
    except _Terminated:
        return _fail("terminated", "no half-written file is left behind", _TERMINATED)
    except click.UsageError as error:
        return _fail_usage(error, given)
    except click.ClickException as error:
        return _fail(_sentence(error.format_message()), None, error.exit_code)
    except BrokenPipeError:
        raise
    except Exception as error:
        if debug:
            close_progress_bars()
            click.echo(hide_secrets(traceback.format_exc()), err=True)
        return _fail(*_describe(error), 1)


def _describe(error: Exception) -> tuple[str, str | None]:
    """Returns what to say of an error, and the hint."""
    if isinstance(error, EtcError):
        return str(error), error.hint
    if isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename else ""
        return f"{name}{error.strerror or error}", None
    return f"internal error: {type(error).__name__}: {error}", "--debug shows where"


def _fail_usage(error: click.UsageError, given: list[str]) -> int:
    # click's own sentences stand inside of others, such as after "Invalid value for 'SOURCE': ".
    text = error.format_message().replace(error.message, _sentence(error.message))
    guess = _GUESS.search(text)
    hint = f"did you mean {guess[1]}; " if guess else ""
    if error.ctx:
        command = error.ctx.command_path
    else:
        command = " ".join(["etc-data", *[word for word in given if word in cli.commands][:1]])
    return _fail(
        _sentence(_GUESS.sub("", text)), f"{hint}{command} --help shows the options", error.exit_code
    )


def _fail(message: str, hint: str | None, code: int) -> int:
    close_progress_bars()
    click.echo(f"etc-data: error: {_one_line(message)}", err=True)
    if hint:
        click.echo(f"etc-data: hint: {_one_line(hint)}", err=True)
    return code


def _one_line(text: str) -> str:
    return printable(hide_secrets(" ".join(text.split())))


def _sentence(text: str) -> str:
    text = text.rstrip(".")
    return text[:1].lower() + text[1:]


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    click.echo(f"etc-data: warning: {_one_line(str(message))}", err=True)


if __name__ == "__main__":
    main()
