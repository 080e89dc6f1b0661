"""Reading from and writing to rclone's S3 server, also when it is killed, refuses or fails."""

import hashlib
import importlib.util
import os
import pickle
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
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
s3_server = servers.s3_server
proxy = servers.s3_proxy

CONTENT = os.urandom(3_000_000)
AT_ONCE_SECONDS = 20  # on a busy machine too; tries at several layers would take minutes


@pytest.fixture(autouse=True)
def settings(s3_server, monkeypatch, tmp_path):
    """Short pauses, and the server's credentials in the environment."""
    servers.use_s3_server(s3_server, monkeypatch, tmp_path)
    monkeypatch.setattr(storage_module, "_FIRST_WAIT_SECONDS", 0.05)


@pytest.fixture
def folder(s3_server, request):
    """What the server keeps of a folder; it is made by the first upload."""
    return s3_server.bucket / request.node.name.replace("[", "-").rstrip("]")


@pytest.fixture
def storage(folder):
    return RemoteStorage(f"s3://{servers.BUCKET}/{folder.name}")


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def large(tmp_path, proxy):
    """A file that does not fit into the buffers between server and client, sent slowly."""
    path = tmp_path / "large"
    path.write_bytes(os.urandom(24_000_000))
    proxy.bytes_per_second = 3_000_000
    return path


# -- when all is well -------------------------------------------------------------------------------


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_files_go_there_and_back(storage, folder, source, tmp_path, monkeypatch, variable):
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setenv(variable, endpoint)
    assert sorted(storage.sizes()) == []
    assert storage.size("a.tar") is None
    storage.upload(source, "b.tar")
    storage.upload(source, "a.tar")
    assert (folder / "a.tar").read_bytes() == CONTENT
    assert sorted(storage.sizes()) == ["a.tar", "b.tar"]
    assert storage.size("a.tar") == len(CONTENT)
    assert storage.read("a.tar") == CONTENT
    storage.download("a.tar", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == CONTENT
    storage.delete("a.tar")
    storage.delete("a.tar")
    assert sorted(storage.sizes()) == ["b.tar"]


def test_a_bucket_is_a_folder_too(s3_server, source):
    (s3_server.root / "whole").mkdir()
    storage = RemoteStorage("s3://whole")
    assert sorted(storage.sizes()) == []
    storage.upload(source, "a.tar")
    assert sorted(storage.sizes()) == ["a.tar"]


def test_an_upload_replaces_what_was_there(storage, folder, source):
    storage.upload(source, "a.tar")
    source.write_bytes(b"new")
    storage.upload(source, "a.tar")
    assert (folder / "a.tar").read_bytes() == b"new"
    assert storage.size("a.tar") == 3


def test_an_empty_file_goes_there_and_back(storage, tmp_path):
    (tmp_path / "empty").touch()
    storage.upload(tmp_path / "empty", "empty")
    assert storage.size("empty") == 0
    assert storage.read("empty") == b""


def test_only_files_of_the_folder_itself_have_names(storage, source):
    storage.upload(source, "a")
    RemoteStorage(f"{storage.url}/inner").upload(source, "b")
    assert sorted(storage.sizes()) == ["a"]
    assert storage.size("inner") is None


def test_files_of_many_parts_go_there_and_back(storage, folder, tmp_path):
    content = os.urandom(2**20) * 101  # of 50 MiB, from twice that on
    (tmp_path / "source").write_bytes(content)
    storage.upload(tmp_path / "source", "a.tar")
    assert (folder / "a.tar").stat().st_size == len(content)
    storage.download("a.tar", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == content


def test_a_missing_file_is_not_found(storage, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^s3://[^ ]*/a.tar does not exist$"):
        storage.read("a.tar")
    with pytest.raises(FileNotFoundError):
        storage.download("a.tar", tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_bucket_holds_nothing_and_takes_nothing(source, tmp_path):
    storage = RemoteStorage("s3://missing/set")
    assert sorted(storage.sizes()) == []
    assert storage.size("a") is None
    with pytest.raises(FileNotFoundError):
        storage.read("a")
    with pytest.raises(FileNotFoundError):
        storage.download("a", tmp_path / "a")
    with pytest.raises(StorageError, match=r"^s3://missing/set does not exist$") as raised:
        storage.upload(source, "a")
    assert raised.value.hint == "make the bucket first"


def test_a_check_writes_and_deletes(storage, folder, proxy):
    storage.check_writable()
    assert proxy.connections == 3
    assert not folder.exists() or list(folder.iterdir()) == []
    proxy.faults.extend(["none", 20, "none", 20])  # the answers of the second and third are cut off
    storage.check_writable()
    assert not folder.exists() or list(folder.iterdir()) == []


def test_a_check_names_a_missing_bucket():
    with pytest.raises(StorageError, match=r"^s3://missing/set cannot be .* does not exist$") as raised:
        RemoteStorage("s3://missing/set").check_writable()
    assert raised.value.hint == "make the bucket first"


def test_a_check_finds_a_server_that_only_reads(tmp_path, monkeypatch):
    server = servers.S3Server(tmp_path / "server", "--read-only")
    server.start()
    try:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.port}")
        storage = RemoteStorage(f"s3://{servers.BUCKET}/set", tries=2)
        assert storage.sizes() == {}
        with pytest.raises(StorageError, match=r"/set cannot be written to: s3://[^ ]*/set cannot be"):
            storage.check_writable()
    finally:
        server.kill()


def test_a_check_without_credentials_or_with_wrong_ones_raises_at_once(storage, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StorageError, match=r"access to s3://[^ ]* is denied$"):
        RemoteStorage(storage.url).check_writable()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StorageError, match=r"NoCredentialsError: Unable to locate"):
        RemoteStorage(storage.url).check_writable()


def test_a_bucket_that_cannot_be_is_refused_at_once():
    start = time.monotonic()
    with pytest.raises(
        StorageError, match=r"^s3://a b/a cannot be reached: Param.*Invalid bucket name"
    ):
        RemoteStorage("s3://a b").read("a")
    assert time.monotonic() - start < AT_ONCE_SECONDS


# -- credentials ------------------------------------------------------------------------------------


def asks(storage, source, tmp_path):
    return (
        lambda: storage.read("a"),
        lambda: storage.size("a"),
        storage.sizes,
        lambda: storage.download("a", tmp_path / "copy"),
        lambda: storage.upload(source, "a"),
        lambda: storage.delete("a"),
    )


@pytest.mark.parametrize("variable", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_wrong_credentials_raise_at_once_and_are_not_shown(
    storage, source, tmp_path, monkeypatch, variable, capfd, folder
):
    monkeypatch.setenv(variable, "wrong")
    start = time.monotonic()
    for ask in asks(storage, source, tmp_path):
        with pytest.raises(StorageError, match=r"^access to s3://[^ ]* is denied$") as raised:
            ask()
        assert raised.value.hint == "check the credentials in your environment"
        for secret in (servers.ACCESS_KEY, servers.SECRET_KEY, "wrong"):
            assert secret not in str(raised.value).replace(folder.name, "")
    assert time.monotonic() - start < AT_ONCE_SECONDS
    assert "".join(capfd.readouterr()) == ""
    assert not folder.exists()


def test_no_credentials_raise_at_once(storage, source, tmp_path, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    start = time.monotonic()
    for ask in asks(storage, source, tmp_path):
        with pytest.raises(StorageError, match=r"NoCredentialsError: Unable to locate") as raised:
            ask()
        assert raised.value.hint == "check the credentials in your environment"
    assert time.monotonic() - start < AT_ONCE_SECONDS


def test_a_profile_holds_the_credentials(storage, source, tmp_path, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(
        f"[mine]\naws_access_key_id = {servers.ACCESS_KEY}\n"
        f"aws_secret_access_key = {servers.SECRET_KEY}\n"
    )
    monkeypatch.setenv("AWS_PROFILE", "mine")
    storage.upload(source, "a")
    assert storage.read("a") == CONTENT


def test_a_missing_profile_is_named_at_once(storage, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_PROFILE", "missing")
    start = time.monotonic()
    with pytest.raises(StorageError, match=r"ProfileNotFound: .*\(missing\)") as raised:
        storage.read("a")
    assert raised.value.hint == "check the credentials in your environment"
    assert time.monotonic() - start < AT_ONCE_SECONDS


# -- servers that fail ------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["500 Error", "503 Unavailable"])
def test_a_server_that_fails_for_a_while_is_asked_again(storage, proxy, status, source, tmp_path):
    failures = [servers.answer(status)] * 2
    proxy.faults.extend(failures)
    storage.upload(source, "a.tar")
    for ask, expected in (
        (lambda: storage.read("a.tar"), CONTENT),
        (lambda: storage.size("a.tar"), len(CONTENT)),
        (storage.sizes, {"a.tar": len(CONTENT)}),
        (lambda: storage.download("a.tar", tmp_path / "copy"), None),
        (lambda: storage.delete("a.tar"), None),
    ):
        proxy.faults.extend(failures)
        assert ask() == expected
        assert not proxy.faults
    assert (tmp_path / "copy").read_bytes() == CONTENT
    assert sorted(storage.sizes()) == []


def test_a_server_that_goes_on_failing_is_asked_as_often_as_said(proxy, folder):
    storage = RemoteStorage(f"s3://{servers.BUCKET}/{folder.name}", tries=3)
    proxy.faults.extend([servers.answer("503 Unavailable")] * 9)
    with pytest.raises(StorageError, match=r"a cannot be reached after 3 tries: OSError"):
        storage.read("a")
    assert proxy.connections == 3


def test_a_server_that_is_down_raises_after_its_tries(source, tmp_path, monkeypatch, folder):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{servers.free_port()}")
    storage = RemoteStorage(f"s3://{servers.BUCKET}/{folder.name}", tries=2)
    start = time.monotonic()
    for ask in asks(storage, source, tmp_path):
        with pytest.raises(
            StorageError, match=r"^s3://[^ ]* cannot be reached after 2 tries: Endpoint"
        ):
            ask()
    assert time.monotonic() - start < AT_ONCE_SECONDS
    assert not (tmp_path / "copy").exists()


def test_a_server_that_falls_silent_is_given_up(storage, proxy, source, monkeypatch):
    storage.upload(source, "a")
    monkeypatch.setattr(storage_module, "_SILENCE_SECONDS", 0.5)
    proxy.faults.append(None)
    start = time.monotonic()
    assert RemoteStorage(storage.url).read("a") == CONTENT
    assert time.monotonic() - start < AT_ONCE_SECONDS


def test_a_silent_server_is_asked_as_often_as_said(proxy, monkeypatch, folder):
    monkeypatch.setattr(storage_module, "_SILENCE_SECONDS", 0.2)
    storage = RemoteStorage(f"s3://{servers.BUCKET}/{folder.name}", tries=2)
    proxy.faults.extend([None] * 9)
    with pytest.raises(StorageError, match=r"a cannot be reached after 2 tries: ReadTimeoutError"):
        storage.read("a")
    assert proxy.connections == 2


def test_an_answer_cut_short_is_fetched_again(storage, proxy, source, tmp_path):
    storage.upload(source, "a")
    proxy.faults.append(1_000_000)
    assert storage.read("a") == CONTENT
    proxy.faults.append(1_000_000)
    storage.download("a", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == CONTENT


def kill_in_the_middle(server, proxy, count: str) -> None:
    servers.wait_until(lambda: getattr(proxy, count) > 500_000)
    server.kill()
    proxy.bytes_per_second = None


def test_a_server_killed_while_reading_is_waited_for(storage, proxy, s3_server, large, tmp_path):
    proxy.bytes_per_second = None
    storage.upload(large, "a")
    proxy.bytes_per_second = 3_000_000
    downloading = threading.Thread(target=storage.download, args=("a", tmp_path / "copy"))
    downloading.start()
    kill_in_the_middle(s3_server, proxy, "received")
    s3_server.start()
    downloading.join(20)
    assert (tmp_path / "copy").read_bytes() == large.read_bytes()


def test_a_server_killed_while_writing_is_waited_for(storage, proxy, s3_server, large, folder):
    with ThreadPoolExecutor() as pool:
        uploading = pool.submit(storage.upload, large, "a")
        kill_in_the_middle(s3_server, proxy, "sent")
        assert not (folder / "a").exists()
        s3_server.start()
        uploading.result(20)
    assert (folder / "a").read_bytes() == large.read_bytes()
    assert sorted(storage.sizes()) == ["a"]


def test_a_server_killed_for_good_while_writing_raises(proxy, s3_server, large, folder):
    storage = RemoteStorage(f"s3://{servers.BUCKET}/{folder.name}", tries=3)
    with ThreadPoolExecutor() as pool:
        uploading = pool.submit(storage.upload, large, "a")
        kill_in_the_middle(s3_server, proxy, "sent")
        try:
            with pytest.raises(StorageError, match=r"/a cannot be reached after 3 tries: "):
                uploading.result(20)
        finally:
            s3_server.start()
    assert storage.size("a") is None


# -- the cache --------------------------------------------------------------------------------------


def test_a_tampered_object_is_fetched_again_and_then_named(storage, folder, source, tmp_path):
    storage.upload(source, "a.tar")
    entry = ShardEntry("a.tar", "train", len(CONTENT), 1, hashlib.sha256(CONTENT).hexdigest())
    cache = ShardCache(tmp_path / "cache")
    with cache.open(storage, entry) as file:
        assert file.read() == CONTENT
    (folder / "a.tar").write_bytes(CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]))
    with cache.open(storage, entry) as file:  # what is cached is not asked for again
        assert file.read() == CONTENT
    with pytest.raises(DamagedShardError, match=r"^shard a.tar of s3://[^ ]* is not what the manifest"):
        ShardCache(tmp_path / "other").open(storage, entry)


# -- processes and threads --------------------------------------------------------------------------


def test_threads_share_a_storage(storage, source):
    storage.upload(source, "a")
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(storage.read, ["a"] * 16))
    assert read == [CONTENT] * 16


def test_a_used_storage_can_be_pickled_and_holds_no_secret(storage, source):
    storage.upload(source, "a")
    data = pickle.dumps(storage)
    assert servers.SECRET_KEY.encode() not in data
    assert pickle.loads(data).read("a") == CONTENT


WORKERS = """
import multiprocessing, sys
from etc_data.shards.storage import RemoteStorage

if __name__ == "__main__":
    storage = RemoteStorage(sys.argv[1])
    expected = storage.read("a")  # the parent uses it first
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            assert pool.map(storage.read, ["a"] * 8) == [expected] * 8
        assert storage.read("a") == expected  # and afterwards
    print("done")
"""

LOADER = """
import sys
from torch.utils.data import DataLoader, Dataset
from etc_data.shards.storage import RemoteStorage

class Lengths(Dataset):
    def __init__(self, storage):
        self.storage = storage
    def __len__(self):
        return 8
    def __getitem__(self, index):
        return len(self.storage.read("a")) + index

if __name__ == "__main__":
    lengths = Lengths(RemoteStorage(sys.argv[1]))
    expected = [lengths[index] for index in range(8)]
    for context in ("fork", "spawn"):
        loader = DataLoader(lengths, batch_size=None, num_workers=2, multiprocessing_context=context)
        for _ in range(2):
            assert list(loader) == expected
            assert lengths[0] == expected[0]
    print("done")
"""

FORK = """
import gc, os, sys
from etc_data.shards.storage import RemoteStorage
storage = RemoteStorage(sys.argv[1], tries=1)
expected = storage.read("a")
pid = os.fork()
if pid == 0:
    assert storage.read("a") == expected
    del storage
    gc.collect()
    sys.exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert storage.read("a") == expected
print("done")
"""


@pytest.mark.parametrize(
    "program",
    [WORKERS, FORK, pytest.param(LOADER, marks=pytest.mark.slow)],
    ids=["pool", "fork", "loader"],
)
def test_children_use_the_storage_that_their_parent_has_used(
    program, storage, source, tmp_path, environment
):
    storage.upload(source, "a")
    path = tmp_path / "program.py"
    path.write_text(program)
    # The fixture was made before this test's settings.
    environment = os.environ | {"PYTHONPATH": environment["PYTHONPATH"]}
    command = [sys.executable, str(path), storage.url]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=90, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
