"""Options and small habits that several sub-commands share."""

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource
from tqdm import tqdm

from etc_data.codecs import Codec, JpegCodec, PngCodec
from etc_data.errors import EtcError, KeyFileError, OutputExistsError
from etc_data.keys import KEY_VARIABLE, PASSPHRASE_LINE_PREFIX, SecretKey
from etc_data.shards.files import published
from etc_data.shards.storage import is_url

PASSPHRASE_VARIABLE = "ETC_DATA_PASSPHRASE"

Command = TypeVar("Command", bound=Callable[..., Any])

if TYPE_CHECKING:
    _SizeBase = click.ParamType[tuple[int, int]]
else:
    _SizeBase = click.ParamType  # generic for Python, too, from click 8.4 on

_KEY_LINE = re.compile(r"(ETC-SECRET-KEY-)[A-Z0-9-]*[A-Z0-9]{9}[A-Z0-9-]*", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_open_bars: list["tqdm[Any]"] = []


def key_options(command: Command) -> Command:
    """Adds ``--key`` and ``--passphrase``; `load_key` turns them into a key."""
    command = click.option(
        "--passphrase", is_flag=True, help=f"Ask for the key's passphrase (or {PASSPHRASE_VARIABLE})."
    )(command)
    return click.option(
        "--key",
        "key_path",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help=f"The key file; without it the key line is read from {KEY_VARIABLE}.",
    )(command)


def load_key(key_path: Path | None, passphrase: bool) -> SecretKey:
    """Returns the key of ``--key FILE``, or of the environment.

    Raises:
        KeyFileError: the key cannot be read or unlocked.
        click.UsageError: no key was given.
    """
    if key_path is None and not os.environ.get(KEY_VARIABLE):
        raise click.UsageError(f"no key was given: use --key FILE or set {KEY_VARIABLE}")
    check_key_path(key_path)
    secret = None
    if passphrase:
        secret = os.environ.get(PASSPHRASE_VARIABLE) or ask_passphrase()
    elif _is_sealed(key_path):
        secret = os.environ.get(PASSPHRASE_VARIABLE)
    if key_path is None:
        return SecretKey.from_environment(passphrase=secret)
    return SecretKey.load(key_path, passphrase=secret)


def check_key_path(key_path: Path | None) -> None:
    """Checks that the name of a key file is not the secret itself.

    Raises:
        click.UsageError: it is.
    """
    if key_path is not None and _KEY_LINE.search(str(key_path)):
        raise click.UsageError(
            "this is a key, not the name of a key file; the history of the shell may hold it now"
        )


def hide_secrets(text: str) -> str:
    """Returns a text for people without the key lines that an argument may have brought into it.

    >>> hide_secrets("no such option --ETC-SECRET-KEY-1-ABCDEFGHIJKL")
    'no such option --ETC-SECRET-KEY-…'
    """
    return _KEY_LINE.sub(r"\1…", text)


def printable(text: str) -> str:
    r"""Returns a text without control characters, which could play tricks on a terminal.

    >>> printable("evil\x1b[2J")
    'evil\\x1b[2J'
    """
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def has_key(key_path: Path | None) -> bool:
    """Returns whether a key was given at all."""
    return key_path is not None or bool(os.environ.get(KEY_VARIABLE))


def ask_passphrase(*, twice: bool = False) -> str:
    """Returns a passphrase typed without echo.

    Raises:
        KeyFileError: there is no terminal to ask at.
    """
    if not sys.stdin.isatty():
        raise KeyFileError(
            "there is no terminal to ask for a passphrase at", f"set {PASSPHRASE_VARIABLE} instead"
        )
    answer = click.prompt("Passphrase", hide_input=True, confirmation_prompt=twice, err=True, type=str)
    return str(answer)


def _is_sealed(key_path: Path | None) -> bool:
    if key_path is None:
        return PASSPHRASE_LINE_PREFIX in os.environ.get(KEY_VARIABLE, "")
    if not key_path.is_file():
        return False  # a pipe can be read only once, and the key is to come from it
    try:
        with key_path.open("rb") as file:
            return PASSPHRASE_LINE_PREFIX.encode() in file.read(65_536)
    except OSError:
        return False


class SizeType(_SizeBase):
    """``224`` or ``HEIGHTxWIDTH`` in pixels."""

    name = "size"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Returns (height, width)."""
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"([1-9][0-9]{0,5})(?:[x×]([1-9][0-9]{0,5}))?", str(value))
        if not match:
            self.fail(f"{value!r} is no size; give pixels such as 224, or HEIGHTxWIDTH", param, ctx)
        return int(match[1]), int(match[2] or match[1])


class PlaceType(click.Path):
    """A URL, or a path as `click.Path` checks it; always a text."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Returns the text that was given."""
        return value if is_url(value) else super().convert(value, param, ctx)


def coding_options(command: Command) -> Command:
    """Adds the options that decide how encrypted images are sized and coded."""
    options = (
        click.option("--size", type=SizeType(), help="Pixels per side, or HEIGHTxWIDTH."),
        click.option(
            "--resize",
            type=click.Choice(["crop", "exact"]),
            default="crop",
            show_default=True,
            help="How images come to --size: cover and center-crop, or stretch.",
        ),
        click.option(
            "--fit",
            type=click.Choice(["pad", "crop", "resize"]),
            help="What to do with images that do not fit the grid of blocks (default: refuse).",
        ),
        click.option(
            "--quality",
            type=click.IntRange(1, 100),
            default=95,
            show_default=True,
            help="JPEG quality.",
        ),
        click.option(
            "--subsampling",
            type=click.Choice(["4:4:4", "4:2:2", "4:2:0"]),
            default="4:4:4",
            show_default=True,
            help="JPEG color sampling; all but 4:4:4 mix colors across blocks.",
        ),
        click.option("--lossless", is_flag=True, help="Write PNG instead of JPEG."),
        click.option(
            "--allow-noise",
            is_flag=True,
            help="Accept JPEG for a scheme that looks like noise to it.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def make_codec(quality: int, subsampling: str, lossless: bool) -> Codec:
    """Returns the codec of the coding options."""
    if lossless:
        return PngCodec()
    return JpegCodec(quality=quality, subsampling=subsampling)  # type: ignore[arg-type]


def progress_bar(description: str, unit: str) -> Callable[[int], Callable[[int], None]]:
    """Returns what starts a progress bar with rate and remaining time; quiet without a terminal."""

    def start(total: int) -> Callable[[int], None]:
        bar: tqdm[Any] = tqdm(
            total=total,
            desc=description,
            unit=unit,
            unit_scale=unit == "B",
            disable=None,
            file=sys.stderr,
            leave=False,
            dynamic_ncols=True,
        )
        _open_bars.append(bar)

        def step(gained: int) -> None:
            bar.update(gained)
            if bar.n >= total:
                bar.close()

        return step

    return start


def close_progress_bars() -> None:
    """Clears the bars that an error left on the terminal, so that its message has a line of its own."""
    while _open_bars:
        _open_bars.pop().close()


def read_input(path: str) -> bytes:
    """Returns the bytes of a file, or of standard input for ``-``.

    Raises:
        EtcError: standard input is closed.
    """
    if path != "-":
        return Path(path).read_bytes()
    if sys.stdin is None:
        raise EtcError("standard input is closed")
    return sys.stdin.buffer.read()


@contextmanager
def about(path: str) -> Iterator[None]:
    """Puts the name of the input file before the message of an error that tells of it."""
    try:
        yield
    except EtcError as error:
        name = "standard input" if path == "-" else path
        raise type(error)(f"{name}: {error}", error.hint) from error


def write_output(path: str, data: bytes, *, force: bool) -> None:
    """Writes a file that must not exist, whole or not at all; ``-`` is standard output.

    Raises:
        OutputExistsError: the file exists and `force` is not set.
        EtcError: it cannot be written, or standard output is closed.
    """
    if path == "-" and sys.stdout is None:
        raise EtcError("standard output is closed")
    check_output(path, force=force)
    try:
        if path == "-":
            rest = memoryview(data)
            while rest:  # with PYTHONUNBUFFERED a write may take only a part
                rest = rest[sys.stdout.buffer.write(rest) :]
            sys.stdout.buffer.flush()
        else:
            with published(Path(path)) as file:
                file.write(data)
    except BrokenPipeError:
        raise
    except OSError as error:
        name = "standard output" if path == "-" else path
        raise EtcError(f"{name} cannot be written: {error.strerror or error}") from None


def check_output(path: str, *, force: bool) -> None:
    """Checks that an output file has a folder and would overwrite nothing, before work starts.

    Raises:
        OutputExistsError: the file exists and `force` is not set, or it is no file.
        EtcError: its folder does not exist.
    """
    if path == "-":
        return
    file = Path(path)
    if not file.parent.is_dir():
        raise EtcError(f"{path} cannot be written: there is no folder {file.parent}")
    if file.exists() and not file.is_file():
        raise OutputExistsError(f"{path} exists and is no file", "choose another name")
    if file.exists() and not force:
        raise OutputExistsError(f"{path} exists already", "choose another name, or use --force")


def refuse_options(names: tuple[str, ...], reason: str) -> None:
    """Refuses options of the command line that would have no effect.

    Args:
        names: of the parameters.
        reason: such as "is for folders".

    Raises:
        click.UsageError: one of them was given.
    """
    context = click.get_current_context()
    for parameter in context.command.params:
        given = context.get_parameter_source(parameter.name or "") == ParameterSource.COMMANDLINE
        if parameter.name in names and given:
            raise click.UsageError(f"{parameter.opts[-1]} {reason}")


def say(text: str = "") -> None:
    """Prints a line for people, to standard error."""
    click.echo(text, err=True)


def human_bytes(count: float) -> str:
    """Returns a number of bytes as people read it.

    >>> human_bytes(31_457_280)
    '30.0 MiB'
    """
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError
