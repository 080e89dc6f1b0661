"""Ways to run the command, and made-up photos, a key and a data set to run it on."""

import contextlib
import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest
from PIL import Image

import etc_data
from etc_data import SecretKey
from etc_data.cli.main import main

HOME = Path(etc_data.__file__).parents[1]
_COMMAND = [sys.executable, "-m", "etc_data.cli.main"]
# A new session has no terminal until it takes one: getpass asks there, not at standard input.
_AT_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.executable, "
    "[sys.executable, '-m', 'etc_data.cli.main', *sys.argv[1:]])"
)


@dataclass(frozen=True)
class Result:
    """What a run of the command gave."""

    code: int
    raw: bytes
    err: str

    @property
    def out(self) -> str:
        return self.raw.decode()

    @property
    def warnings(self) -> list[str]:
        prefix = "etc-data: warning: "
        return [line.removeprefix(prefix) for line in self.err.splitlines() if line.startswith(prefix)]

    @property
    def error(self) -> str:
        """The message of the error, which must be one line of the form that all errors have."""
        assert self.code in (1, 2, 130), self
        assert "Traceback" not in self.err
        assert "internal error" not in self.err, self.err
        lines = [line for line in self.err.splitlines() if line.startswith("etc-data: error: ")]
        assert len(lines) == 1, self.err
        rest = self.err.splitlines()[self.err.splitlines().index(lines[0]) + 1 :]
        assert len(rest) <= 1, rest
        for line in rest:
            assert re.match(r"etc-data: hint: \S.*[^.?!\s]$", line), line
        message = lines[0].removeprefix("etc-data: error: ")
        assert re.search(r"[^.?!\s]$", message), message
        # A lower-case word, or the name of something.
        assert re.match(r"[a-z0-9'/.-]", message), message
        return message

    @property
    def hint(self) -> str:
        assert self.error
        line = self.err.splitlines()[-1]
        return line.removeprefix("etc-data: hint: ") if line.startswith("etc-data: hint: ") else ""


def _environment(changes) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ETC_DATA_")}
    return kept | {"COLUMNS": "120"} | (changes or {})


@pytest.fixture(scope="session")
def etc():
    """etc("verify", folder, …) runs the command in this process; fast."""

    def run(*arguments, stdin=b"", environment=None) -> Result:
        out = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
        err = io.StringIO()
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin))),
            mock.patch.dict(os.environ, _environment(environment), clear=True),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("default")
            with pytest.raises(SystemExit) as caught:
                main([str(argument) for argument in arguments])
        code = caught.value.code
        assert isinstance(code, int)
        return Result(code, out.buffer.getvalue(), err.getvalue())

    return run


@pytest.fixture(scope="session")
def child_environment():
    """For child processes: they find the library where this process found it."""

    def make(changes=None) -> dict[str, str]:
        return _environment(changes) | {"PYTHONPATH": str(HOME)}

    return make


@pytest.fixture(scope="session")
def command(child_environment):
    """command("verify", folder, …) runs the real command in a process of its own."""

    def run(*arguments, stdin=b"", environment=None, cwd=None) -> Result:
        done = subprocess.run(
            [*_COMMAND, *map(str, arguments)],
            input=stdin,
            capture_output=True,
            env=child_environment(environment),
            cwd=cwd,
            timeout=120,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr.decode())

    return run


@pytest.fixture(scope="session")
def terminal(child_environment):
    """terminal("keygen", …, typed=[…]) runs the command at a terminal of 100 columns.

    A text of `typed` is sent at each prompt for a passphrase; everything shown comes as output.
    """

    def run(*arguments, typed=(), environment=None) -> Result:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        environment = child_environment(environment)
        del environment["COLUMNS"]
        process = subprocess.Popen(
            [sys.executable, "-c", _AT_TERMINAL, *map(str, arguments)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment,
            start_new_session=True,
        )
        os.close(theirs)
        shown, answers, seen = b"", list(typed), 0
        while True:
            try:
                shown += os.read(ours, 65_536)
            except OSError:  # Linux tells so that nobody is left at the other end
                break
            prompts = len(re.findall(rb"[Pp]assphrase[^\r\n]*: |confirmation: ", shown))
            if prompts > seen and answers:
                seen = prompts
                time.sleep(0.1)  # a line that comes before the echo is off would be thrown away
                os.write(ours, answers.pop(0).encode() + b"\n")
        os.close(ours)
        return Result(process.wait(60), shown, "")

    return run


@pytest.fixture(scope="session")
def make_photo(smooth_pixels):
    """make_photo(path, seed, height, width) writes a photo, as PNG or JPEG, and returns its path."""

    def make(path: Path, seed: int = 0, height: int = 64, width: int = 96) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        options = {"quality": 95, "subsampling": 0} if path.suffix in (".jpg", ".JPEG") else {}
        Image.fromarray(smooth_pixels(seed, height, width)).save(path, **options)
        return path

    return make


@pytest.fixture(scope="session")
def photo(tmp_path_factory, make_photo):
    """A lossless photo of 64 × 96 pixels; nobody may change it."""
    return make_photo(tmp_path_factory.mktemp("photo") / "holiday.png")


@pytest.fixture(scope="session")
def photos(tmp_path_factory, make_photo):
    """Eight photos of 64 × 96 pixels in two classes; nobody may change them."""
    root = tmp_path_factory.mktemp("photos") / "photos"
    for number in range(8):
        name = ("ana-sick", "bob-well")[number % 2]
        make_photo(root / name / f"{number}.png", number)
    return root


@pytest.fixture(scope="session")
def keys(tmp_path_factory):
    """Two key files: the owner's and another one."""
    folder = tmp_path_factory.mktemp("keys")
    paths = folder / "clinic.key", folder / "other.key"
    for number, path in enumerate(paths):
        SecretKey(bytes(range(number, 32 + number))).save(path)
    return paths


@pytest.fixture(scope="session")
def key(keys):
    return keys[0]


@pytest.fixture(scope="session")
def other_key(keys):
    return keys[1]


@pytest.fixture(scope="session")
def key_line(key):
    """The secret as it stands in the key file."""
    return key.read_text().splitlines()[-1]


@pytest.fixture(scope="session")
def written(tmp_path_factory, etc, photos, key):
    """`photos` as a data set of two shards, with its ledger; nobody may change it."""
    out = tmp_path_factory.mktemp("written") / "shards"
    result = etc("encrypt", photos, out, "--key", key, "--size", 64, "--samples-per-shard", 4)
    assert result.code == 0, result.err
    return out


@pytest.fixture(scope="session")
def labeled_photos(tmp_path_factory, make_photo):
    """Plain photos of two classes in two splits; nobody may change them."""
    root = tmp_path_factory.mktemp("pictures") / "pictures"
    for number in range(24):
        split = "val" if number % 3 == 0 else "train"
        make_photo(root / split / "ab"[number % 2] / f"{number}.png", number, 64, 64)
    return root
