"""What the machine offers, and what is warned of."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from etc_data.cli.machine import examine_machine

PROGRAM = """
import json
from etc_data.cli.machine import examine_machine
print(json.dumps({found.name: found.to_dict() for found in examine_machine()}))
"""


def findings() -> dict:
    return {found.name: found for found in examine_machine()}


@pytest.fixture
def in_shell(child_environment):
    """in_shell(command) gives the findings of a process that a shell starts after a command."""

    def run(command: str, prefix=()):
        done = subprocess.run(
            [*prefix, "sh", "-c", f'{command} && exec "$@"', "sh", sys.executable, "-c", PROGRAM],
            env=child_environment(),
            capture_output=True,
            check=True,
        )
        return json.loads(done.stdout)

    return run


def test_everything_is_looked_at():
    names = list(findings())
    assert names[0] == "processors"
    assert names[-4:] == ["cache of shards", "temporary files", "this folder", "S3 credentials"]


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity")
def test_processors_that_may_be_used_are_counted(in_shell):
    if shutil.which("taskset") is None or (os.cpu_count() or 1) < 2:
        pytest.skip("one processor, or no taskset")
    detail = in_shell("taskset -pc 0 $$ >&2")["processors"]["detail"]
    assert detail == f"{os.cpu_count()}, of which 1 may be used; encrypt takes --workers 1"


@pytest.mark.skipif(os.name == "nt", reason="limits of POSIX")
def test_few_open_files_are_warned_of(in_shell):
    found = in_shell("ulimit -n 256")["open files"]
    assert (found["state"], found["hint"]) == ("warning", "ulimit -n 4096")
    assert found["detail"].startswith("only 256; ")
    assert in_shell("ulimit -n 1024")["open files"]["detail"] == "up to 1024"


def test_small_shared_memory_of_a_container_is_warned_of(in_shell):
    for private in (["unshare", "-m"], ["unshare", "-rm"]):
        mount = "mount -t tmpfs -o size=64m none /dev/shm"
        command = [*private, "sh", "-c", mount]
        if (
            shutil.which("unshare")
            and not subprocess.run(command, check=False, capture_output=True).returncode
        ):
            found = in_shell(mount, private)["/dev/shm"]
            assert found["state"] == "warning"
            assert found["detail"].startswith(
                "64.0 MiB, 64.0 MiB free; workers of a DataLoader may die"
            )
            assert found["hint"].startswith("docker run --shm-size=2g")
            return
    pytest.skip("mounting is not permitted")


def test_cache_tells_place_use_and_limit(tmp_path, monkeypatch):
    monkeypatch.setenv("ETC_DATA_CACHE", str(tmp_path / "cache"))
    assert f"{tmp_path}/cache, 0 B of at most 10.0 GiB used" in findings()["cache of shards"].detail
    assert not (tmp_path / "cache").exists()
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "a.tar").write_bytes(bytes(3 * 2**10))
    assert "3.0 KiB of at most" in findings()["cache of shards"].detail


def test_folder_that_cannot_be_written_is_warned_of(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("ETC_DATA_CACHE", str(tmp_path / "file" / "cache"))
    found = findings()["cache of shards"]
    assert found.state == "warning"
    assert found.detail.endswith("cannot be written")
    assert found.hint == "name another folder with ETC_DATA_CACHE"


def test_what_cannot_be_found_out_is_a_warning(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    found = findings()["this folder"]
    assert found.state == "warning"
    assert "FileNotFoundError" in found.detail


@pytest.fixture
def no_credentials(tmp_path, monkeypatch):
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.usefixtures("no_credentials")
def test_credentials_are_told_by_their_place_only(tmp_path, monkeypatch):
    assert findings()["S3 credentials"].detail.startswith("none")
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text("[default]\naws_secret_access_key = hunter2")
    assert findings()["S3 credentials"].detail == "found in file"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7")
    assert findings()["S3 credentials"].state == "warning"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2hunter2")
    found = findings()["S3 credentials"]
    assert (found.state, found.detail) == ("ok", "found in environment")


@pytest.mark.usefixtures("no_credentials")
def test_role_counts_as_credentials(monkeypatch):
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/token")
    assert findings()["S3 credentials"].detail == "found in environment"
