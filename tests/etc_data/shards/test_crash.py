"""Killed, interrupted, or out of space: never half a shard, never a manifest too early."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from etc_data.shards import verify_shards

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals and limits of POSIX")

PROGRAM = """
import json, os, signal, sys
from pathlib import Path
from etc_data import Cipher, EtcError, SecretKey
from etc_data.codecs import PngCodec
from etc_data.shards import ShardWriter, write_shards

def main(source, out, workers="1", limit="0", way="write_shards"):
    cipher = Cipher("etc-16", SecretKey(bytes(range(32))))
    options = {"size": 240, "codec": PngCodec(), "samples_per_shard": 4, "force": True}
    if int(limit):
        import resource
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
    error = ""
    try:
        if way == "ShardWriter":
            with ShardWriter(out, cipher, **options) as writer:
                for path in sorted(Path(source).iterdir()):
                    writer.write(path.read_bytes())
        else:
            write_shards(source, out, cipher, workers=int(workers), **options)
    except EtcError as caught:
        error = str(caught)
    files = sorted(os.listdir(out)) if os.path.isdir(out) else []
    print(json.dumps({"error": error, "files": files}), flush=True)

if __name__ == "__main__":
    main(*sys.argv[1:])
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    path = tmp_path_factory.mktemp("program") / "program.py"
    path.write_text(PROGRAM)
    return path


@pytest.fixture(scope="module")
def large(tmp_path_factory, photo):
    """Photos that take a second or two to encrypt."""
    folder = tmp_path_factory.mktemp("large")
    photos = [photo(seed, 480, 480) for seed in range(6)]
    for number in range(72):
        (folder / f"{number}.jpg").write_bytes(photos[number % 6])
    return folder


@pytest.fixture(scope="module")
def start(program, environment):
    """start(*arguments) runs the program as the head of a process group of its own."""

    def run(*arguments):
        return subprocess.Popen(
            [sys.executable, program, *map(str, arguments)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return run


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, large, start, contents):
    """The files of a run that nobody disturbs, and the seconds from its first file to its end."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    process = start(large, out, 2)
    wait_for(lambda: out.exists() and os.listdir(out))
    begin = time.monotonic()
    stdout, _ = process.communicate(timeout=120)
    seconds = time.monotonic() - begin
    assert json.loads(stdout)["error"] == ""
    verify_shards(out)
    return contents(out), seconds


def wait_for(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def group_is_gone(process) -> bool:
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return True
    return False


def partial_files(out):
    return [name for name in os.listdir(out) if name.endswith(".partial")]


def check_whole_or_absent(out: Path, whole: dict[str, bytes]) -> int:
    """Checks that what has a final name is as it must be; returns how many shards there are."""
    names = [name for name in os.listdir(out) if not name.endswith(".partial")]
    for name in names:
        assert (out / name).read_bytes() == whole[name], name
    shards = [name for name in names if name.endswith(".tar")]
    if "manifest.json" in names:
        assert sorted(names) == sorted(whole)
    return len(shards)


# --- kill -9 ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "seed", [*range(2), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 22))]
)
def test_killed_run_leaves_whole_shards_and_can_be_repeated(
    tmp_path, large, start, undisturbed, contents, seed
):
    whole, seconds = undisturbed
    out = tmp_path / "out"
    process = start(large, out, 2)
    wait_for(lambda: out.exists() and os.listdir(out))
    time.sleep(random.Random(seed).uniform(0, 1) * seconds)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    check_whole_or_absent(out, whole)
    again = start(large, out, 2)
    assert json.loads(again.communicate(timeout=120)[0])["error"] == ""
    assert contents(out) == whole


def test_workers_end_with_their_parent(tmp_path, large, start, undisturbed):
    whole, _ = undisturbed
    out = tmp_path / "out"
    process = start(large, out, 2)
    wait_for(lambda: out.exists() and os.listdir(out))
    process.kill()
    process.wait(timeout=60)
    wait_for(lambda: group_is_gone(process), 20)
    shards = check_whole_or_absent(out, whole)
    assert not (out / "manifest.json").exists()
    time.sleep(0.5)
    assert check_whole_or_absent(out, whole) == shards


# --- interrupts -------------------------------------------------------------------------------


def test_interrupt_while_workers_start_is_one_traceback(tmp_path, large, start, undisturbed):
    out = tmp_path / "out"
    process = start(large, out, 2)
    wait_for(lambda: (tmp_path / "out.ledger" / "README.txt").exists())
    time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert stderr.count("Traceback") == 1 and stderr.rstrip().endswith("KeyboardInterrupt")
    wait_for(lambda: group_is_gone(process), 20)
    assert partial_files(out) == []
    check_whole_or_absent(out, undisturbed[0])


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("to_all", [True, False], ids=["from the keyboard", "to the main process"])
def test_interrupted_run_ends_soon_and_cleans_up(tmp_path, large, start, undisturbed, workers, to_all):
    whole, _ = undisturbed
    out = tmp_path / "out"
    process = start(large, out, workers)
    wait_for(lambda: out.exists() and any(name.endswith(".tar") for name in os.listdir(out)))
    begin = time.monotonic()
    if to_all:
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert time.monotonic() - begin < 10
    assert process.returncode != 0
    # Pillow may chain a second traceback to its own; the workers show none.
    assert stderr.rstrip().endswith("KeyboardInterrupt")
    assert "SpawnProcess" not in stderr
    wait_for(lambda: group_is_gone(process), 20)
    assert partial_files(out) == []
    assert 0 < check_whole_or_absent(out, whole) < 18
    assert not (out / "manifest.json").exists()


# --- no space ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("way", "workers", "limit"),
    [
        ("write_shards", 1, 2_000),
        ("write_shards", 1, 100_000),
        ("write_shards", 2, 100_000),
        ("ShardWriter", 1, 2_000),
        ("ShardWriter", 1, 100_000),
    ],
)
def test_file_that_cannot_grow_is_one_clear_error(tmp_path, large, start, way, workers, limit):
    out = tmp_path / "out"
    stdout, stderr = start(large, out, workers, limit, way).communicate(timeout=60)
    result = json.loads(stdout)
    what = "shard train-00000[0-9].tar" if way == "write_shards" else re.escape(str(out))
    assert re.fullmatch(f"{what} cannot be written: File too large", result["error"])
    assert result["files"] == [name for name in result["files"] if name.endswith(".tar")]
    assert "Traceback" not in stderr


@pytest.mark.parametrize("limit", [15, 40, 200, 500, 1500])
def test_small_files_that_cannot_be_written_are_one_clear_error(tmp_path, photo, start, limit):
    # One tiny shard of 10 kB would not fit, so it is the ledger or nothing.
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "1.jpg").write_bytes(photo(0))
    stdout, stderr = start(tmp_path / "in", tmp_path / "out", 1, limit).communicate(timeout=60)
    result = json.loads(stdout)
    assert result["error"].endswith(" cannot be written: File too large")
    assert result["files"] == []
    assert "Traceback" not in stderr


@pytest.fixture
def tiny_disk(tmp_path):
    """Returns (folder, command prefix) for programs that see a disk of 2 MB at the folder."""
    if shutil.which("unshare") is None or shutil.which("mount") is None:
        pytest.skip("no unshare or mount")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f'mount -t tmpfs -o size=2m none "{disk}" && exec "$@"'
    for private in (["unshare", "-m"], ["unshare", "-rm"]):
        prefix = [*private, "sh", "-c", mount, "sh"]
        if subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode == 0:
            return disk, prefix
    pytest.skip("mounting is not permitted")


@pytest.mark.parametrize(
    ("way", "workers"), [("write_shards", 1), ("write_shards", 2), ("ShardWriter", 1)]
)
def test_full_disk_is_one_clear_error(tiny_disk, large, program, environment, way, workers):
    disk, prefix = tiny_disk
    result = subprocess.run(
        [*prefix, sys.executable, program, large, disk / "out", str(workers), "0", way],
        check=False,
        env=environment | {"TMPDIR": "/tmp"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    found = json.loads(result.stdout)
    assert found["error"].endswith(" cannot be written: No space left on device")
    assert found["files"] == [name for name in found["files"] if name.endswith(".tar")]
    assert 0 < len(found["files"]) < 18
    assert "Traceback" not in result.stderr
