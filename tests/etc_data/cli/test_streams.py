"""The command among other programs: pipes that close, terminals, encodings, interruption."""

import fcntl
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import pytest

from etc_data.shards.manifest import MANIFEST_NAME
from etc_data.shards.verify import verify_shards

COMMAND = f"{shlex.quote(sys.executable)} -m etc_data.cli.main"


@pytest.fixture
def shell(child_environment):
    """shell(text) runs a line of sh in which $ETC is the command; gives status, output and errors."""

    def run(text, **changes):
        done = subprocess.run(
            ["/bin/sh", "-c", text],
            capture_output=True,
            env=child_environment({"ETC": COMMAND} | changes),
            stdin=subprocess.DEVNULL,
            timeout=120,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr.decode(errors="replace")

    return run


@pytest.fixture
def start(child_environment):
    """start(arguments, stdin=…) starts the command and returns the process."""
    running = []

    def run(*arguments, environment=None, **options):
        process = subprocess.Popen(
            [sys.executable, "-m", "etc_data.cli.main", *map(str, arguments)],
            env=child_environment(environment),
            stderr=subprocess.PIPE,
            start_new_session=True,
            **options,
        )
        running.append(process)
        return process

    yield run
    for process in running:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stderr.close()


# --- pipes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", ["schemes", "schemes --json", "-h", "encrypt -h", "inspect {}"])
def test_reader_that_goes_away_is_no_reason_for_a_traceback(start, written, arguments):
    reading, writing = os.pipe()
    os.close(reading)
    process = start(*[word.format(written) for word in arguments.split()], stdout=writing)
    os.close(writing)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert b"Traceback" not in err
    assert b"Exception" not in err
    assert b"etc-data: error" not in err


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_image_into_a_pipe_that_closes_is_quiet_but_no_success(
    start, make_photo, key, tmp_path, unbuffered
):
    photo = make_photo(tmp_path / "large.png", height=512, width=512)
    # Noise of 800 kB, more than a pipe holds.
    arguments = ["encrypt", photo, "-o", "-", "--key", key, "--lossless", "--scheme", "pe"]
    environment = {"PYTHONUNBUFFERED": unbuffered}
    process = start(*arguments, stdout=subprocess.PIPE, environment=environment)
    process.stdout.read(10)
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(60) == 1
    assert err == b""


def test_head_gets_its_line(shell):
    code, out, err = shell("$ETC schemes --json | head -n 1")
    assert (code, out, err) == (0, b"[\n", "")


def test_both_ends_in_one_pipeline(shell, photo, key, tmp_path):
    line = f"cat {photo} | $ETC encrypt - -o - --lossless --key {key} | $ETC inspect - --json"
    code, out, err = shell(line)
    assert (code, err) == (0, "")
    assert json.loads(out)["scheme"]["name"] == "etc-16"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("$ETC encrypt - -o - --key {key} <&-", "standard input is closed"),
        ("$ETC encrypt {photo} -o - --key {key} >&-", "standard output is closed"),
    ],
)
def test_closed_streams_are_told(shell, photo, key, line, message):
    code, _, err = shell(line.format(photo=photo, key=key))
    assert code == 1
    assert err == f"etc-data: error: {message}\n"


def test_closed_standard_output_does_not_disturb_a_file(shell, photo, key, tmp_path):
    code, _, _ = shell(f"$ETC encrypt {photo} -o {tmp_path}/q.png --key {key} >&-")
    assert code == 0
    assert (tmp_path / "q.png").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no full device here")
@pytest.mark.parametrize(
    "line", ["schemes", "inspect {written} --json", "encrypt {photo} -o - --key {key}"]
)
def test_full_disk_is_told(shell, written, photo, key, line):
    code, _, err = shell("$ETC " + line.format(written=written, photo=photo, key=key) + " > /dev/full")
    assert code == 1
    assert "No space left on device" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize("arguments", ["schemes", "inspect {}"])
def test_output_survives_every_encoding(command, written, encoding, arguments):
    words = [word.format(written) for word in arguments.split()]
    result = command(*words, environment={"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"})
    assert result.code == 0, result.err
    assert "etc-16" in result.raw.decode(encoding, errors="replace")


def test_c_locale_shows_names_and_errors(command, make_photo, key, tmp_path):
    photo = make_photo(tmp_path / "Größe.png", height=60)
    environment = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    arguments = ["encrypt", photo, "-o", tmp_path / "q.png", "--key", key]
    result = command(*arguments, environment=environment)
    assert result.code == 1
    assert "image height 60 is not a multiple" in result.err
    assert "Traceback" not in result.err


# --- terminals --------------------------------------------------------------------------------


def test_terminal_gets_a_bar_with_rate_and_remaining_time(terminal, photos, key, tmp_path):
    result = terminal("encrypt", photos, tmp_path / "out", "--key", key)
    assert result.code == 0
    bar = re.search(
        r"\rencrypting: +\d+%\|.*\| \d/8 \[[\d:]+<([\d:]+|\?), +([\d.]+|\?)image/s\]", result.out
    )
    assert bar, result.out
    assert f"\r\n  upload   {tmp_path}/out\r\n" in result.out


def test_bar_of_a_longer_run_shows_numbers(terminal, make_photo, key, tmp_path):
    photo = make_photo(tmp_path / "in" / "0.png").read_bytes()
    for number in range(1, 30):
        (tmp_path / "in" / f"{number}.png").write_bytes(photo)
    result = terminal("encrypt", tmp_path / "in", tmp_path / "out", "--key", key, "--size", "512")
    assert re.search(r"\| \d+/30 \[\d\d:\d\d<\d\d:\d\d, +[\d.]+image/s\]", result.out), result.out
    shown = terminal("decrypt", tmp_path / "out", tmp_path / "plain", "--key", key).out
    assert re.search(r"decrypting: .*\| \d+/30 \[\d\d:\d\d<\d\d:\d\d, +[\d.]+image/s\]", shown), shown


@pytest.mark.parametrize("workers", ["1", "2"])
def test_without_a_terminal_there_is_no_bar(command, photos, key, tmp_path, workers):
    result = command("encrypt", photos, tmp_path / "out", "--key", key, "--workers", workers)
    assert result.code == 0
    assert "\r" not in result.err
    assert "encrypting" not in result.err
    assert "verifying" not in command("verify", tmp_path / "out").err


def test_error_behind_a_bar_has_a_line_of_its_own(terminal, data_set, key, tmp_path):
    shard = data_set / "train-000001.tar"
    data = bytearray(shard.read_bytes())
    data[2_000] ^= 1
    shard.write_bytes(data)
    result = terminal("decrypt", data_set, tmp_path / "plain", "--key", key)
    assert result.code == 1
    before, _, message = result.out.partition("etc-data: error: ")
    assert message.startswith("shard train-000001.tar was altered")
    assert re.search(r"(^|\n|\r +\r)$", before), before


# --- interruption -----------------------------------------------------------------------------


def wait_for(condition, process) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, "the process ended by itself"
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def many(make_photo, tmp_path):
    """A folder of 400 photos."""
    photo = make_photo(tmp_path / "many" / "0.jpg").read_bytes()
    for number in range(1, 400):
        (tmp_path / "many" / f"{number}.jpg").write_bytes(photo)
    return tmp_path / "many"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_interrupted_encryption_leaves_no_half_written_file(start, etc, many, key, tmp_path, workers):
    out = tmp_path / "out"
    options = ["--key", key, "--size", "768", "--samples-per-shard", "10", "--workers", workers]
    process = start("encrypt", many, out, *options)
    wait_for(lambda: list(out.glob("train-*.tar")), process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to the workers too
    err = process.stderr.read().decode()
    assert process.wait(60) == 130
    assert "etc-data: error: interrupted\n" in err
    assert "Traceback" not in err, err
    names = [path.name for path in out.iterdir()]
    assert all(re.fullmatch(r"train-\d{6}\.tar", name) for name in names), names
    assert MANIFEST_NAME not in names
    assert etc("verify", out).code == 1
    assert etc("encrypt", many, out, "--key", key, "--size", "16", "--force").code == 0
    assert verify_shards(out).samples == 400


def test_interrupted_photo_leaves_no_file(start, key, tmp_path):
    process = start("encrypt", "-", "-o", tmp_path / "q.png", "--key", key, stdin=subprocess.PIPE)
    with process.stdin as pipe:
        pipe.write(b"\x89PNG")
        pipe.flush()
        # Once the first bytes are gone from the pipe, the command waits for the rest.
        wait_for(lambda: waiting_bytes(pipe) == 0, process)
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        err = process.stderr.read().decode()
    assert process.wait(60) == 130
    assert "etc-data: error: interrupted\n" in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def waiting_bytes(pipe) -> int:
    import termios

    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)
