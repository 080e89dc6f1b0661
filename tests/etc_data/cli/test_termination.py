"""SIGTERM, which schedulers and `docker stop` send, is undone work and exit 143, as Ctrl-C is 130."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from etc_data.cli.main import main

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")

TERMINATED = "etc-data: error: terminated\netc-data: hint: no half-written file is left behind\n"


@pytest.fixture
def encrypting(tmp_path, pictures, key, child_environment):
    """encrypting(workers) starts to encrypt 100 photos; returns (process, folder) after one shard."""
    started = []

    def start(workers: int):
        out = tmp_path / "out"
        options = f"--size 224 --lossless --samples-per-shard 10 --workers {workers}".split()
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "etc_data",
                "encrypt",
                pictures / "photos",
                out,
                "--key",
                key,
                *options,
            ],
            env=child_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        wait_for(lambda: out.exists() and any(out.glob("*.tar")))
        return process, out

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_for(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def living(group: int) -> list[str]:
    """The processes of a group that are not dead and only waiting to be counted."""
    listed = subprocess.run(["ps", "-e", "-o", "pgid=,stat=,args="], capture_output=True, check=True)
    rows = [row.split(maxsplit=2) for row in listed.stdout.decode().splitlines()]
    return [args for pgid, state, args in rows if int(pgid) == group and not state.startswith("Z")]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("send", [os.kill, os.killpg], ids=["to the main process", "to all"])
def test_terminated_run_ends_soon_and_cleans_up(encrypting, workers, send):
    process, out = encrypting(workers)
    begin = time.monotonic()
    send(process.pid, signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=30)
    assert time.monotonic() - begin < 15
    assert (process.returncode, stdout) == (143, "")
    assert stderr.endswith(TERMINATED)
    assert "Traceback" not in stderr
    wait_for(lambda: not living(process.pid))
    assert 0 < len(list(out.glob("*.tar"))) < 10
    assert [path.name for path in out.iterdir() if path.suffix != ".tar"] == []


def test_second_signal_does_not_cut_the_cleaning_up_short(encrypting):
    process, out = encrypting(2)
    for _ in range(20):
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        time.sleep(0.002)
    assert process.communicate(timeout=30)[1].endswith(TERMINATED)
    assert process.returncode == 143
    assert [path.name for path in out.iterdir() if path.suffix != ".tar"] == []


def test_signal_that_the_caller_ignores_is_ignored(encrypting):
    # As after "trap '' TERM" in a shell script, which its commands inherit.
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        process, out = encrypting(1)
    finally:
        signal.signal(signal.SIGTERM, before)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert (out / "manifest.json").exists()


def test_command_leaves_the_handlers_of_its_process_as_they_were(etc):
    before = signal.getsignal(signal.SIGTERM)
    assert etc("schemes", "etc-16").code == 0
    assert signal.getsignal(signal.SIGTERM) is before


def test_command_runs_in_a_thread_too(etc):
    # Only the main thread may set handlers.
    from concurrent.futures import ThreadPoolExecutor

    def run():
        with pytest.raises(SystemExit) as caught:
            main(["schemes", "etc-16", "--json"])
        return caught.value.code

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(run).result() == 0
