"""The command, killed or stopped by a full disk at any moment, ends with the same bytes by --resume."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from etc_data.shards import verify_shards

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals and mounts of POSIX")


def ledger_files(out: Path) -> dict[str, bytes]:
    """What a ledger says, but for the file that tells of the last run."""
    folder = out.with_name(f"{out.name}.ledger")
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("run.json", "out.json")
    }


def wait_for(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def children_of(process) -> list[int]:
    """The process ids of the workers."""
    tasks = Path(f"/proc/{process.pid}/task")
    found = [
        int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()
    ]
    return [pid for pid in found if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def has_shards(out: Path) -> bool:
    """Whether a shard is written, and noted in the ledger."""
    return any(out.with_name(f"{out.name}.ledger").glob("done/*.json"))


class Photos:
    """A source, and the command that encrypts it with two workers."""

    def __init__(self, folder: Path, make, count: int, shards: int, environment) -> None:
        self.source, self.key = folder / "photos", folder / "key"
        made = [make(seed, 240, 300) for seed in range(12)]
        for number in range(count):
            path = self.source / f"class{number % 3}" / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(made[number % 12])
        self._options = ["--size", "224", "--samples-per-shard", str(-(-count // shards))]
        self._environment = environment
        command = [sys.executable, "-m", "etc_data", "keygen", str(self.key)]
        subprocess.run(command, check=True, env=environment, capture_output=True)
        self.whole = folder / "whole"
        begin = time.monotonic()
        assert self.run(self.whole) == (0, self.stderr)
        self.seconds = time.monotonic() - begin
        assert len(verify_shards(self.whole).shards) == shards

    def start(self, out: Path, *options: str, prefix=(), workers: int = 2) -> subprocess.Popen[str]:
        """Starts the command as the head of a process group of its own."""
        command = [sys.executable, "-m", "etc_data", "encrypt", str(self.source), str(out)]
        command += ["--key", str(self.key), *self._options, "--workers", str(workers), *options]
        return subprocess.Popen(
            [*prefix, *command],
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, out: Path, *options: str, **more) -> tuple[int, str]:
        """Runs the command to its end; returns its exit code and what it said."""
        process = self.start(out, *options, **more)
        self.stderr = process.communicate(timeout=300)[1]
        return process.returncode, self.stderr

    def finish(self, out: Path) -> str:
        """Continues by --resume, and checks that nobody can tell that the run was disturbed."""
        code, stderr = self.run(out, "--resume")
        assert code == 0, stderr
        assert {path.name for path in out.iterdir()} == {path.name for path in self.whole.iterdir()}
        for path in self.whole.iterdir():
            assert (out / path.name).read_bytes() == path.read_bytes(), path.name
        assert ledger_files(out) == ledger_files(self.whole)
        verify_shards(out)
        return stderr


def kill_group(process) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)


def kill_time_and_again(photos: Photos, out: Path, seed: int, times: int) -> None:
    """Kills runs at random moments of their whole time, from the start of Python to the end."""
    moments = random.Random(seed)
    killed = 0
    for number in range(times):
        process = photos.start(out, "--resume")
        # One in every stretch of the time that an undisturbed run takes.
        delay = photos.seconds * (number + moments.random()) / times
        try:
            process.communicate(timeout=delay)
            assert process.returncode == 0
        except subprocess.TimeoutExpired:
            kill_group(process)
            killed += 1
    assert killed > times // 3
    photos.finish(out)


@pytest.fixture(scope="module")
def few(tmp_path_factory, photo, environment):
    return Photos(tmp_path_factory.mktemp("few"), photo, 200, 10, environment)


def test_kill_nine_at_five_moments(few, tmp_path):
    kill_time_and_again(few, tmp_path / "out", 0, 5)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_kill_nine_at_twenty_moments(tmp_path_factory, tmp_path, photo, environment, seed):
    many = Photos(tmp_path_factory.mktemp("many"), photo, 1200, 20, environment)
    out = tmp_path / "out"
    kill_time_and_again(many, out, seed, 20)
    # Runs that begin anew meet other moments than runs that continue.
    moments = random.Random(seed + 100)
    for _ in range(20):
        shutil.rmtree(out, ignore_errors=True)
        shutil.rmtree(out.with_name("out.ledger"), ignore_errors=True)
        process = many.start(out, "--resume")
        time.sleep(many.seconds * moments.random())
        kill_group(process)
    many.finish(out)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("to_all", [True, False], ids=["to all", "to the main process"])
def test_stopped_run_says_how_to_continue(few, tmp_path, sent, to_all):
    out = tmp_path / "out"
    process = few.start(out)
    wait_for(lambda: has_shards(out))
    if to_all:
        os.killpg(process.pid, sent)
    else:
        process.send_signal(sent)
    stderr = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + sent
    assert "--resume" in stderr
    assert "Traceback" not in stderr
    assert not (out / "manifest.json").exists()
    assert not list(out.glob(".*"))
    assert "samples stood there already" in few.finish(out)


def test_worker_killed_for_memory(few, tmp_path):
    out = tmp_path / "out"
    process = few.start(out)
    wait_for(lambda: has_shards(out) and children_of(process))
    os.kill(children_of(process)[0], signal.SIGKILL)
    stderr = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert stderr.startswith("etc-data: error: a worker process was killed")
    assert "hint: use fewer --workers, and continue with --resume" in stderr
    assert not list(out.glob(".*"))
    assert "samples stood there already" in few.finish(out)


@pytest.mark.parametrize("workers", [1, 2])
def test_full_disk(few, tmp_path, workers):
    if shutil.which("unshare") is None or shutil.which("mount") is None:
        pytest.skip("no unshare or mount")
    disk = tmp_path / "disk"
    disk.mkdir()
    size = sum(path.stat().st_size for path in few.whole.glob("*.tar")) * 2 // 3
    # What fits is saved, as if the owner had moved it to a larger disk.
    script = f'mount -t tmpfs -o size={size} none "{disk}" && "$@"; code=$?; '
    script += f'cp -a "{disk}" "{tmp_path}/saved"; exit $code'
    for private in (["unshare", "-m"], ["unshare", "-rm"]):
        prefix = [*private, "sh", "-c", script, "sh"]
        if subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode == 0:
            shutil.rmtree(tmp_path / "saved")
            break
    else:
        pytest.skip("mounting is not permitted")
    code, stderr = few.run(disk / "out", prefix=prefix, workers=workers)
    assert code == 1
    error, hint = stderr.splitlines()[-2:]
    assert error.endswith("cannot be written: No space left on device")
    assert hint == "etc-data: hint: put that right, and continue with --resume"
    assert "samples stood there already" in few.finish(tmp_path / "saved" / "out")


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 1)() != 0, reason="only root can become another")
@pytest.mark.parametrize("folder", ["out", "out.ledger/done", "out.ledger/samples"])
def test_folder_that_may_not_be_written_any_more(few, tmp_path, folder):
    if shutil.which("setpriv") is None:
        pytest.skip("no setpriv")
    out = tmp_path / "out"
    # Root may write anywhere, unless it gives that up; but it keeps what it owns.
    prefix = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    process = few.start(out, prefix=prefix)
    wait_for(lambda: has_shards(out))
    (tmp_path / folder).chmod(0o500)
    stderr = process.communicate(timeout=60)[1]
    (tmp_path / folder).chmod(0o700 if "ledger" in folder else 0o755)
    assert process.returncode == 1
    error, hint = stderr.splitlines()[-2:]
    assert error.endswith("cannot be written: Permission denied")
    assert "continue with --resume" in hint
    assert "samples stood there already" in few.finish(out)
