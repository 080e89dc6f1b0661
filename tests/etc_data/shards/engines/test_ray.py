import base64
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from etc_data.cipher import Cipher
from etc_data.errors import EtcError
from etc_data.keys import SecretKey
from etc_data.shards import write_shards
from etc_data.shards.destination import Destination
from etc_data.shards.engines.ray import run_jobs_on_ray
from etc_data.shards.storage import LocalStorage

ray = pytest.importorskip("ray", reason="no ray: pip install 'etc-data[ray]'")

ROOT = Path(__file__).resolve().parents[4]
OPTIONS = {"size": 48, "samples_per_shard": 4}


@pytest.fixture(scope="module")
def cluster():
    """A cluster of two CPUs that this process is connected to."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(ROOT)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=100 * 2**20,
    )
    # Its workers cannot import this file.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    ray.shutdown()
    del os.environ["PYTHONPATH"]
    if before is not None:
        os.environ["PYTHONPATH"] = before


@pytest.fixture(scope="module")
def local(tmp_path_factory, source, key):
    """The data set that local processes write."""
    out = tmp_path_factory.mktemp("local") / "out"
    write_shards(source, out, Cipher("etc-16", key), **OPTIONS)
    return out


def to(folder):
    return Destination(LocalStorage(folder))


def names(folder):
    return sorted(os.listdir(folder))


def wait_for(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def read_once_killed(path: Path, trace: Path) -> bytes:
    """The first to come leaves its process id and waits for its end."""
    try:
        with trace.open("x") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(600)
    except FileExistsError:
        pass
    return path.read_bytes()


def die(trace: Path) -> bytes:
    with trace.open("a") as file:
        file.write(f"{os.getpid()}\n")
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


# -- on a cluster that is there ---------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_same_bytes_as_local_processes(cluster, tmp_path, source, key, local, contents, workers):
    ticks = []
    summary = write_shards(
        source,
        tmp_path / "out",
        Cipher("etc-16", key),
        **OPTIONS,
        engine="ray",
        workers=workers,
        progress=lambda total: ticks.append(-total) or ticks.append,
    )
    assert contents(tmp_path / "out") == contents(local)
    assert sum(ticks) == 0
    assert '"engine": "ray"' in (summary.ledger / "run.json").read_text()
    assert ray.is_initialized()


def test_run_of_local_processes_is_continued(cluster, tmp_path, source, key, local, contents):
    shutil.copytree(local, tmp_path / "out")
    shutil.copytree(local.with_name("out.ledger"), tmp_path / "out.ledger")
    removed = [f"train-00000{number}.tar" for number in (1, 3, 4)]
    for name in removed:
        (tmp_path / "out" / name).unlink()
    cipher = Cipher("etc-16", key)
    summary = write_shards(source, tmp_path / "out", cipher, **OPTIONS, engine="ray", resume=True)
    lost = sum(shard.samples for shard in summary.manifest.shards if shard.name in removed)
    assert 0 < summary.resumed == 33 - lost
    assert contents(tmp_path / "out") == contents(local)


def test_worker_killed_in_the_middle_gives_the_same_bytes(cluster, out, job, tmp_path, contents):
    trace, photo = tmp_path / "trace", tmp_path / "photo.jpg"
    readers = [photo.read_bytes, partial(read_once_killed, photo, trace), photo.read_bytes]
    jobs = [job(0), job(1, *readers), *(job(number) for number in range(2, 6))]

    def kill():
        wait_for(lambda: trace.exists() and trace.read_text().endswith("\n"))
        assert [name for name in names(out) if name.endswith(".train-000001.tar.partial")]
        os.kill(int(trace.read_text()), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    results = list(run_jobs_on_ray(jobs, to(out), 2, lambda _: None))
    killer.join()
    assert len(results) == 6
    (tmp_path / "expected").mkdir()
    expected = [job(number) for number in range(6)]
    list(run_jobs_on_ray(expected, to(tmp_path / "expected"), 2, lambda _: None))
    assert contents(out) == contents(tmp_path / "expected")


@pytest.mark.slow
def test_worker_killed_at_every_try_is_one_clear_error(cluster, out, job, tmp_path):
    read = (tmp_path / "photo.jpg").read_bytes
    jobs = [job(0), job(1, read, partial(die, tmp_path / "trace"))]
    with pytest.raises(EtcError, match="a worker of Ray was killed 6 times") as caught:
        list(run_jobs_on_ray(jobs, to(out), 2, lambda _: None))
    assert caught.value.hint == "use fewer --workers, and continue with --resume"
    assert len(set((tmp_path / "trace").read_text().split())) == 6
    assert set(names(out)) <= {"train-000000.tar"}
    assert ray.is_initialized()


def test_error_of_the_disk_is_the_same_as_without_ray(cluster, out, job):
    (out / "train-000002.tar").mkdir()
    with pytest.raises(EtcError, match=r"^shard train-000002\.tar cannot be written: Is a directory$"):
        list(run_jobs_on_ray((job(number) for number in range(1000)), to(out), 2, lambda _: None))
    assert not [name for name in names(out) if name.endswith(".partial")]
    assert len(names(out)) < 20


def test_error_that_nobody_foresaw_passes(cluster, out, job):
    with pytest.raises(ValueError, match="invalid literal"):
        list(run_jobs_on_ray([job(0), job(1, partial(int, "x"))], to(out), 2, lambda _: None))
    assert set(names(out)) <= {"train-000000.tar"}


def test_jobs_are_made_as_they_are_needed(cluster, out, job):
    made = []

    def jobs():
        for number in range(1000):
            made.append(number)
            yield job(number)

    results = run_jobs_on_ray(jobs(), to(out), 2, lambda _: None)
    for _ in range(3):
        next(results)
    results.close()
    assert len(made) <= 3 + 4
    assert not [name for name in names(out) if name.endswith(".partial")]
    after = names(out)
    time.sleep(0.5)
    assert names(out) == after


def test_key_goes_with_what_ray_keeps_in_memory(job):
    # Ray may write an argument of more than 100 kB to its disk; the engine sends the items apart.
    job = job(0)
    with_key, without = replace(job, items=()), job.items * 10_000
    assert bytes(range(32)) in ray.cloudpickle.dumps(with_key)
    assert len(ray.cloudpickle.dumps(with_key)) < 50_000
    assert bytes(range(32)) not in ray.cloudpickle.dumps(without)


def test_no_jobs_give_no_results(cluster, out):
    assert list(run_jobs_on_ray([], to(out), 2, lambda _: None)) == []


# -- without one ------------------------------------------------------------------------------------


def test_ray_that_is_not_installed_is_a_clear_error(tmp_path, source, key, environment):
    key.save(tmp_path / "key")
    program = f"""
import sys
sys.modules["ray"] = None
from etc_data.cli.main import main
main(["encrypt", {str(source)!r}, "out", "--key", "key", "--size", "48", "--engine", "ray"])
"""
    result = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    error, hint = result.stderr.splitlines()
    assert error.startswith("etc-data: error: the engine ray needs Ray: ")
    assert hint == "etc-data: hint: pip install 'etc-data[ray]'"


@pytest.fixture
def temporary():
    """A folder for all that Ray writes; its name must be short, for the sockets in it."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def start(tmp_path, source, environment, temporary):
    """start(key) runs the command with a cluster of its own, as the head of a process group."""

    def run(key):
        key.save(tmp_path / "key")
        command = [sys.executable, "-m", "etc_data", "encrypt", str(source), str(tmp_path / "out")]
        command += ["--key", str(tmp_path / "key"), "--size", "48", "--samples-per-shard", "4"]
        return subprocess.Popen(
            [*command, "--engine", "ray", "--workers", "2"],
            env=environment | {"RAY_TMPDIR": str(temporary), "RAY_USAGE_STATS_ENABLED": "0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return run


def processes_of(folder: Path) -> list[str]:
    """The command lines of all processes that name the folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if str(folder) in line:
            found.append(line)
    return found


def forms_of(secret: bytes) -> list[bytes]:
    """A key as it might stand in a file."""
    texts = [secret.hex(), base64.b64encode(secret).decode(), base64.b32encode(secret).decode()]
    texts += [base64.urlsafe_b64encode(secret).decode(), repr(secret)[2:-1], str(list(secret))[1:-1]]
    starts = [text.rstrip("=")[:24] for text in texts]
    return [secret, *(form.encode() for text in starts for form in {text, text.lower(), text.upper()})]


def test_key_is_in_no_file_that_ray_writes(start, temporary, local, contents, tmp_path):
    secret = bytes(range(32))
    process = start(SecretKey(secret))
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert contents(tmp_path / "out") == contents(local)
    forms = forms_of(secret)
    forms += [line.encode() for line in (tmp_path / "key").read_text().split() if "KEY-1" in line]
    files = [path for path in temporary.rglob("*") if path.is_file()]
    assert len(files) > 10
    for path in files:
        data = path.read_bytes()
        assert not [form for form in forms if form in data], path
    assert not [form for form in forms if form in (stdout + stderr).encode()]
    assert processes_of(temporary) == []


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_stopped_run_leaves_no_process(start, temporary, tmp_path, key, sent):
    process = start(key)
    done = tmp_path / "out.ledger" / "done"
    wait_for(lambda: any(done.glob("*.json")) or process.poll() is not None)
    os.killpg(process.pid, sent)
    begin = time.monotonic()
    _, stderr = process.communicate(timeout=60)
    assert time.monotonic() - begin < 30
    assert process.returncode == 128 + sent, stderr
    assert "--resume" in stderr
    assert "Traceback" not in stderr
    wait_for(lambda: processes_of(temporary) == [], 20)
    assert not re.findall("partial", " ".join(names(tmp_path / "out")))
