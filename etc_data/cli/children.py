"""Python code in a process of its own, so that a library that crashes or hangs takes nobody with it."""

import os
import signal
import subprocess
import sys

_LONGEST_SECONDS = 120
# Only what the code gives to `answer` counts: libraries print when they are imported. What they do
# when Python exits is none of our business, and may take long.
_PROGRAM = """
import os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
answers, sys.stdout = sys.stdout, sys.stderr
try:
    exec(sys.argv[1], {"answer": lambda line: print(line, file=answers, flush=True)})
except BaseException as error:
    print("\\n" + type(error).__name__ + ":", *str(error).split(), file=sys.stderr, flush=True)
    os._exit(1)
os._exit(0)
"""


_running: set["subprocess.Popen[str]"] = set()


class ChildError(Exception):
    """The code failed, crashed or hung; the message tells how in one line.

    Attributes:
        answers: the lines that it gave until then.
    """

    def __init__(self, message: str, answers: list[str]) -> None:
        super().__init__(message)
        self.answers = answers


def run_child(code: str, *, seconds: float = _LONGEST_SECONDS) -> list[str]:
    """Runs Python code, which finds what this process would import, and returns its answers.

    Args:
        code: it calls ``answer(line)``, as often as it likes.
        seconds: how long it may take.

    Raises:
        ChildError: it raised an error, died of a signal, or took too long.
    """
    # -P: without the working directory, unless this process has it on its path.
    path = os.pathsep.join(entry for entry in sys.path if entry)
    child = subprocess.Popen(  # noqa: S603 - our own code
        [sys.executable, "-P", "-c", _PROGRAM, code],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        env=os.environ | {"PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"},
    )
    _running.add(child)
    try:
        output, errors = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        output, _ = child.communicate()
        raise ChildError(f"no answer in {seconds:g} s", output.splitlines()) from None
    finally:
        _running.discard(child)
    answers = output.splitlines()
    if child.returncode < 0:
        raise ChildError(f"it crashed: {signal.strsignal(-child.returncode)}", answers)
    if child.returncode > 0:
        last = errors.rstrip("\n").rpartition("\n")[2]
        raise ChildError(last or f"it ended with exit code {child.returncode}", answers)
    return answers


def end_children() -> None:
    """Ends all code that other threads are running; it still removes its temporary files."""
    for child in list(_running):
        child.terminate()
