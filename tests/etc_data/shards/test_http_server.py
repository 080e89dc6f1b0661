"""Reading from nginx, also when it is killed, refuses, fails or lies."""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from etc_data.errors import DamagedShardError, StorageError
from etc_data.shards import storage as storage_module
from etc_data.shards.cache import ShardCache
from etc_data.shards.manifest import ShardEntry
from etc_data.shards.storage import RemoteStorage

_spec = importlib.util.spec_from_file_location("servers", Path(__file__).with_name("servers.py"))
servers = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(servers)
http_server = servers.http_server

CONTENT = os.urandom(3_000_000)


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    """Short pauses, and nothing of the user's settings."""
    servers.forget_settings(monkeypatch, tmp_path)
    monkeypatch.setattr(storage_module, "_FIRST_WAIT_SECONDS", 0.05)


@pytest.fixture
def folder(http_server, request):
    """A folder of the server, with one file, and its URL."""
    folder = http_server.root / request.node.name.replace("[", "-").rstrip("]")
    folder.mkdir()
    (folder / "a.tar").write_bytes(CONTENT)
    return folder


@pytest.fixture
def storage(http_server, folder):
    return RemoteStorage(f"{http_server.url}/{folder.name}")


@pytest.fixture
def proxy(http_server):
    proxy = servers.FaultyProxy(http_server.port)
    yield proxy
    proxy.close()


@pytest.fixture
def behind(proxy, folder):
    """The same folder through the proxy."""
    return RemoteStorage(f"{proxy.url}/{folder.name}", tries=4)


def asked_for(server, path: str, times: int) -> bool:
    """Returns whether a file was fetched so often; the server's log is a moment behind."""
    line = f"GET {path} 200"
    servers.wait_until(lambda: server.requests().count(line) >= times)
    return server.requests().count(line) == times


def entry_of(content: bytes, name: str = "a.tar") -> ShardEntry:
    return ShardEntry(name, "train", len(content), 1, hashlib.sha256(content).hexdigest())


# -- when all is well -------------------------------------------------------------------------------


def test_files_are_read(storage, tmp_path):
    assert storage.read("a.tar") == CONTENT
    storage.download("a.tar", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_files_have_sizes(storage):
    assert storage.size("a.tar") == len(CONTENT)
    assert storage.size("b.tar") is None


def test_files_have_names(storage, folder):
    (folder / "inner").mkdir()
    (folder / "b.json").write_text("{}")
    assert sorted(storage.sizes()) == ["a.tar", "b.json"]


def test_a_missing_folder_has_no_names(http_server):
    assert RemoteStorage(f"{http_server.url}/missing").sizes() == {}


def test_a_folder_that_cannot_be_listed_raises(http_server):
    (http_server.root / "hidden").mkdir()
    with pytest.raises(StorageError, match=r"^access to http://[^ ]*/hidden is denied$"):
        RemoteStorage(f"{http_server.url}/hidden").sizes()


def test_a_missing_file_is_not_found(storage, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^http://[^ ]*/b.tar does not exist$"):
        storage.read("b.tar")
    with pytest.raises(FileNotFoundError):
        storage.download("b.tar", tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


def test_http_can_only_be_read(storage, folder, tmp_path):
    (tmp_path / "b").write_bytes(b"b")
    for write in (lambda: storage.upload(tmp_path / "b", "b"), lambda: storage.delete("a.tar")):
        with pytest.raises(StorageError, match=r"^http://[^ ]* can only be read$"):
            write()
    assert [path.name for path in folder.iterdir()] == ["a.tar"]


# -- passwords --------------------------------------------------------------------------------------


def test_a_password_in_the_url_opens_the_door(http_server, folder):
    private = http_server.root / "private" / folder.name
    private.parent.mkdir(exist_ok=True)
    folder.rename(private)
    url = f"http://user:{servers.PASSWORD}@127.0.0.1:{http_server.port}/private/{private.name}"
    storage = RemoteStorage(url)
    assert storage.read("a.tar") == CONTENT
    assert sorted(storage.sizes()) == ["a.tar"]


def test_a_password_in_netrc_opens_the_door(http_server, folder, tmp_path):
    private = http_server.root / "private" / folder.name
    private.parent.mkdir(exist_ok=True)
    folder.rename(private)
    (tmp_path / ".netrc").write_text(f"machine 127.0.0.1 login user password {servers.PASSWORD}\n")
    assert RemoteStorage(f"{http_server.url}/private/{private.name}").read("a.tar") == CONTENT


@pytest.mark.parametrize("login", ["", "user:wrong-secret@"])
def test_a_wrong_password_raises_once_and_is_not_shown(proxy, login, capfd, tmp_path):
    storage = RemoteStorage(f"http://{login}127.0.0.1:{proxy.port}/private")
    with pytest.raises(StorageError) as raised:
        storage.read("a.tar")
    assert str(raised.value) == f"access to {proxy.url}/private/a.tar is denied"
    assert raised.value.hint == "check the credentials in your environment"
    assert proxy.connections == 1
    assert "secret" not in "".join(capfd.readouterr())
    for ask in (
        storage.sizes,
        lambda: storage.size("a"),
        lambda: storage.download("a", tmp_path / "a"),
    ):
        with pytest.raises(StorageError, match=f"^access to {proxy.url}/private[^ ]* is denied$"):
            ask()


# -- servers that fail ------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["500 Error", "503 Unavailable", "429 Too Many Requests"])
def test_a_server_that_fails_for_a_while_is_asked_again(behind, proxy, status, tmp_path):
    proxy.faults.extend([servers.answer(status)] * 2)
    assert behind.read("a.tar") == CONTENT
    proxy.faults.extend([servers.answer(status)] * 2)
    behind.download("a.tar", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    # Each look at a size asks twice: HEAD, then GET.
    proxy.faults.extend([servers.answer(status)] * 4)
    assert behind.size("a.tar") == len(CONTENT)
    proxy.faults.extend([servers.answer(status)] * 2)
    assert sorted(behind.sizes()) == ["a.tar"]
    assert not proxy.faults


def test_a_server_that_goes_on_failing_raises(behind, proxy, folder):
    proxy.faults.extend([servers.answer("503 Unavailable")] * 4)
    with pytest.raises(StorageError) as raised:
        behind.read("a.tar")
    url = f"{proxy.url}/{folder.name}/a.tar"
    assert str(raised.value).startswith(
        f"{url} cannot be reached after 4 tries: ClientResponseError: 503"
    )
    assert not proxy.faults


def test_a_server_that_refuses_is_not_asked_again(behind, proxy):
    proxy.faults.append(servers.answer("400 Bad Request"))
    with pytest.raises(StorageError, match=r"cannot be reached: ClientResponseError: 400"):
        behind.read("a.tar")
    assert proxy.connections == 1


def test_a_server_that_is_down_raises_after_its_tries(tmp_path):
    pytest.importorskip("aiohttp", reason="no aiohttp: pip install 'etc-data[http]'")
    storage = RemoteStorage(f"http://127.0.0.1:{servers.free_port()}/set", tries=2)
    asks = (
        lambda: storage.read("a"),
        lambda: storage.size("a"),
        storage.sizes,
        lambda: storage.download("a", tmp_path / "a"),
    )
    for ask in asks:
        with pytest.raises(
            StorageError, match=r"^http://[^ ]* cannot be reached after 2 tries: Client"
        ):
            ask()
    assert list(tmp_path.iterdir()) == []


def test_a_body_cut_short_is_fetched_again(behind, proxy, tmp_path):
    proxy.faults.append(1_000_000)
    behind.download("a.tar", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    proxy.faults.append(servers.answer("200 OK", CONTENT[:1000], length=len(CONTENT)))
    assert behind.read("a.tar") == CONTENT


def test_a_server_that_falls_silent_is_given_up(behind, proxy, monkeypatch):
    monkeypatch.setattr(storage_module, "_SILENCE_SECONDS", 0.3)
    proxy.faults.append(None)
    start = time.monotonic()
    assert behind.read("a.tar") == CONTENT
    assert time.monotonic() - start < 10
    assert proxy.connections == 2


def test_a_server_that_tells_no_size_raises(behind, proxy):
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    proxy.faults.extend([chunked, chunked + b"1\r\na\r\n0\r\n\r\n"])
    with pytest.raises(StorageError, match=r"a.tar: the server does not tell its size$"):
        behind.size("a.tar")


@pytest.fixture
def large(folder, proxy):
    """A file that does not fit into the buffers between server and client, sent slowly."""
    content = os.urandom(24_000_000)
    (folder / "large.tar").write_bytes(content)
    proxy.bytes_per_second = 3_000_000
    return content


def kill_in_the_middle(server, proxy) -> None:
    servers.wait_until(lambda: proxy.received > 500_000)
    server.kill()
    proxy.bytes_per_second = None


def test_a_server_killed_while_reading_is_waited_for(behind, proxy, http_server, large, tmp_path):
    downloading = threading.Thread(target=behind.download, args=("large.tar", tmp_path / "a"))
    downloading.start()
    kill_in_the_middle(http_server, proxy)
    http_server.start()
    downloading.join(20)
    assert (tmp_path / "a").read_bytes() == large
    assert proxy.connections > 1


def test_a_server_killed_for_good_raises_and_leaves_nothing(
    behind, proxy, http_server, large, tmp_path
):
    killing = threading.Thread(target=kill_in_the_middle, args=(http_server, proxy))
    killing.start()
    try:
        with pytest.raises(StorageError, match=r"large.tar cannot be reached after 4 tries: "):
            behind.download("large.tar", tmp_path / "a")
    finally:
        killing.join()
        http_server.start()
    assert list(tmp_path.iterdir()) == []


# -- the cache --------------------------------------------------------------------------------------


def test_a_shard_is_fetched_once(storage, folder, http_server, tmp_path):
    cache = ShardCache(tmp_path / "cache")
    for _ in range(3):
        with cache.open(storage, entry_of(CONTENT)) as file:
            assert file.read() == CONTENT
    assert asked_for(http_server, f"/{folder.name}/a.tar", 1)


def test_a_tampered_shard_is_fetched_again_and_then_named(storage, folder, http_server, tmp_path):
    tampered = bytearray(CONTENT)
    tampered[1_000_000] ^= 1
    (folder / "a.tar").write_bytes(tampered)
    with pytest.raises(DamagedShardError) as raised:
        ShardCache(tmp_path / "cache", fetches=3).open(storage, entry_of(CONTENT))
    assert str(raised.value) == (
        f"shard a.tar of {storage} is not what the manifest says: "
        "its size or SHA-256 differed in 3 fetches"
    )
    assert "upload it again" in raised.value.hint
    assert asked_for(http_server, f"/{folder.name}/a.tar", 3)
    assert {path.suffix for path in (tmp_path / "cache").iterdir()} == {".lock"}


def test_a_shard_cut_short_in_the_storage_is_named(storage, folder, tmp_path):
    (folder / "a.tar").write_bytes(CONTENT[:-512])
    with pytest.raises(DamagedShardError, match=r"^shard a.tar of http://[^ ]* is not what"):
        ShardCache(tmp_path / "cache", fetches=2).open(storage, entry_of(CONTENT))


def test_a_shard_that_came_damaged_once_is_fetched_again(behind, proxy, tmp_path):
    proxy.faults.append(servers.answer("200 OK", bytes(len(CONTENT))))
    proxy.faults.append(servers.answer("200 OK", CONTENT[:1000], length=len(CONTENT)))
    with ShardCache(tmp_path / "cache").open(behind, entry_of(CONTENT)) as file:
        assert file.read() == CONTENT
    assert proxy.connections == 3


def test_a_missing_shard_is_named(storage, tmp_path):
    with pytest.raises(DamagedShardError, match=r"^shard b.tar is missing in http://[^ ]*$"):
        ShardCache(tmp_path / "cache").open(storage, entry_of(CONTENT, "b.tar"))


OPEN_SHARD = """
import hashlib, sys
from etc_data.shards.cache import ShardCache
from etc_data.shards.manifest import ShardEntry
from etc_data.shards.storage import RemoteStorage
url, folder, size, sha256 = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
entry = ShardEntry("a.tar", "train", int(size), 1, sha256)
with ShardCache(folder).open(RemoteStorage(url), entry) as file:
    assert hashlib.sha256(file.read()).hexdigest() == sha256
"""


def start_openers(count: int, url: str, folder: Path, environment) -> list[subprocess.Popen]:
    """Starts processes that open the shard in a cache, all at the same moment."""
    entry = entry_of(CONTENT)
    command = [sys.executable, "-c", OPEN_SHARD, url, folder, str(entry.bytes), entry.sha256]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    processes = [subprocess.Popen(command, env=environment, **pipes) for _ in range(count)]
    for process in processes:
        assert process.stdout.readline() == b"ready\n"
    for process in processes:
        process.stdin.write(b"\n")
        process.stdin.flush()
    return processes


def test_processes_that_want_the_same_shard_fetch_it_once(
    storage, folder, http_server, tmp_path, environment
):
    processes = start_openers(6, storage.url, tmp_path / "cache", environment)
    for process in processes:
        process.communicate(timeout=30)
    assert [process.returncode for process in processes] == [0] * 6
    assert asked_for(http_server, f"/{folder.name}/a.tar", 1)


def test_a_fetching_process_that_is_killed_does_not_stop_the_others(
    behind, proxy, tmp_path, environment
):
    proxy.bytes_per_second = 1_000_000
    killed, *others = start_openers(3, behind.url, tmp_path / "cache", environment)
    servers.wait_until(lambda: proxy.received > 500_000)
    # Whichever of them fetches: the one that is killed first waits or fetches.
    killed.kill()
    killed.communicate()
    proxy.bytes_per_second = None
    for process in others:
        process.communicate(timeout=30)
    assert [process.returncode for process in others] == [0, 0]
    assert sorted(path.suffix for path in (tmp_path / "cache").iterdir()) == [".lock", ".tar"]


def test_all_processes_killed_while_fetching_leave_a_usable_cache(behind, proxy, tmp_path, environment):
    proxy.bytes_per_second = 1_000_000
    processes = start_openers(2, behind.url, tmp_path / "cache", environment)
    servers.wait_until(lambda: proxy.received > 500_000)
    for process in processes:
        process.kill()
        process.communicate()
    assert len(list((tmp_path / "cache").glob("*.partial"))) == 1
    proxy.bytes_per_second = None
    with ShardCache(tmp_path / "cache").open(behind, entry_of(CONTENT)) as file:
        assert file.read() == CONTENT
    assert sorted(path.suffix for path in (tmp_path / "cache").iterdir()) == [".lock", ".tar"]


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 2 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    options = ["-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if mount is None or subprocess.run([mount, *options], capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_raises_and_leaves_nothing(storage, folder, http_server, small_disk):
    with pytest.raises(StorageError) as raised:
        ShardCache(small_disk / "cache").open(storage, entry_of(CONTENT))
    assert str(raised.value) == f"{storage}/a.tar cannot be kept here: No space left on device"
    assert raised.value.hint == "make room, or name another folder"
    assert {path.suffix for path in (small_disk / "cache").iterdir()} == {".lock"}


# -- processes --------------------------------------------------------------------------------------


FORK = """
import gc, os, sys, time
from etc_data.shards.storage import RemoteStorage
storage = RemoteStorage(sys.argv[1], tries=1)
expected = storage.read("a.tar")
pid = os.fork()
if pid == 0:
    assert storage.read("a.tar") == expected
    del storage
    gc.collect()
    sys.exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
start = time.monotonic()
assert storage.read("a.tar") == expected
print(time.monotonic() - start)
"""


def test_a_forked_child_does_not_disturb_its_parent(storage, environment):
    # It would, if an idle connection were kept: both share one event queue.
    command = [sys.executable, "-c", FORK, storage.url]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=30, check=True
    )
    assert float(done.stdout) < 5
    assert done.stderr == ""
