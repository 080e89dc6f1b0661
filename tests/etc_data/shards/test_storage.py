"""What holds for every storage; real servers are met in test_s3_server.py and test_http_server.py."""

import errno
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from etc_data.errors import StorageError
from etc_data.shards import storage as storage_module
from etc_data.shards.storage import LocalStorage, RemoteStorage, is_url, open_storage, with_retries


@pytest.fixture
def pauses(monkeypatch):
    """The pauses between tries, which are not made but noted."""
    made = []
    monkeypatch.setattr(storage_module.time, "sleep", made.append)
    return made


@pytest.fixture
def memory(request):
    """A storage inside this process, empty."""
    return RemoteStorage(f"memory://{request.node.name}/set", tries=2)


class Failing:
    """A request that raises the given errors, one each time, and then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self, *_):
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return b"answer"


class HttpError(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(f"{status}, message='no', url='http://user:secret@host/a?signature=secret'")
        self.status = status


def s3_error(status: int, code: str, kind: type[Exception] = OSError) -> Exception:
    cause = Exception(code)
    cause.response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    error = kind(code)
    error.__cause__ = cause
    return error


# -- places -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("s3://bucket/set", True),
        ("https://host/set", True),
        ("file:///set", True),
        ("/set", False),
        ("set", False),
        ("C:/set", False),
        ("a://b", True),
        ("://b", False),
        ("s3:/bucket", True),  # nearly: whoever opens it is told so
        ("zip::s3://bucket/a.zip", True),
        ("./s3:/bucket", False),
        (Path("s3://bucket"), False),
    ],
)
def test_is_url(place, expected):
    assert is_url(place) is expected


def test_paths_and_file_urls_open_a_local_storage(tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    for place in (tmp_path, str(tmp_path), f"file://{tmp_path}"):
        storage = open_storage(place)
        assert isinstance(storage, LocalStorage)
        assert storage.read("a") == b"content"
        assert str(storage) == str(tmp_path)


def test_a_url_opens_a_remote_storage_without_its_last_slash():
    storage = open_storage("s3://a/b/")
    assert isinstance(storage, RemoteStorage)
    assert str(storage) == "s3://a/b"


@pytest.mark.parametrize(
    ("place", "one_form"),
    [
        ("S3://Bucket/Set", "s3://Bucket/Set"),
        ("HTTPS://Host/a", "https://Host/a"),
        ("s3://bucket/a::b", "s3://bucket/a::b"),
        ("s3://bucket/a%20b/%2e%2e", "s3://bucket/a%20b/%2e%2e"),  # in S3 these are names
        ("hdfs:///user/set", "hdfs:///user/set"),
    ],
)
def test_a_scheme_is_in_lower_case_and_all_else_as_it_was(place, one_form):
    assert str(open_storage(place)) == one_form


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:///with%20space/a", "/with space/a"),
        ("FILE:///a/", "/a"),
        ("file:///100%25", "/100%"),
        ("file:///caf%C3%A9", "/café"),
        ("file:///caf%E9", "/caf\udce9"),  # a name that is not UTF-8
    ],
)
def test_file_urls_are_percent_decoded(url, path):
    assert open_storage(url) == LocalStorage(Path(path))


@pytest.mark.parametrize(
    ("place", "complaint"),
    [
        ("file://relative", "file://relative does not tell the whole path of a folder"),
        ("file://host/set", "does not tell the whole path"),
        ("file://", "does not tell the whole path"),
        ("file:///", "does not tell the whole path"),
        ("s3://", "s3:// names no bucket"),
        ("s3:///set", "s3:///set names no bucket"),
        ("S3A://", "names no bucket"),
        ("https:///set", "names no host"),
        ("s3://bucket/../other", r"has '\.\.' in its path"),
        ("s3://bucket/./set", r"has '\.' in its path"),
        ("s3://bucket//set", "has '' in its path"),
        ("s3://bucket/set//", "has '' in its path"),
        ("https://host/a/%2e%2e/b", r"has '\.\.' in its path"),
        ("file:///a/%2E%2E/b", r"has '\.\.' in its path"),
        ("file:///a%00b", r"has 'a\\x00b' in its path"),
        ("https://host/set#part", "names one file, not a folder"),
        ("s3:/bucket/set", "s3:/bucket/set is neither a path nor a URL"),
        (Path("s3://bucket/set"), "s3:/bucket/set is neither a path nor a URL"),
        ("https:/host", "is neither a path nor a URL"),
        ("file:/set", "is neither a path nor a URL"),
        ("simplecache::s3://bucket/set", "chains several file systems"),
        ("zip://set::s3://bucket/a.zip", "chains several file systems"),
        ("filecache::/set", "chains several file systems"),
        ("async_wrapper::file:///set", "chains several file systems"),
        ("", "the name of a data set's folder is empty"),
        ("local:///set", "local:// leads to this machine"),
        ("Memory://set", "memory:// leads to this machine"),
        ("generic://set", "generic:// leads to this machine"),
    ],
)
def test_what_is_no_place_for_a_data_set_is_refused(place, complaint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StorageError, match=complaint):
        open_storage(place)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["C:/set", "./s3:/set", "a:b", "2026:/set", "/s3://bucket"])
def test_a_path_with_a_colon_is_a_path(place):
    assert open_storage(place) == LocalStorage(Path(place))


def test_a_missing_local_file_is_not_found(tmp_path):
    with pytest.raises(FileNotFoundError):
        LocalStorage(tmp_path).read("a")


def test_an_unreadable_local_file_raises(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(StorageError, match=r"a cannot be read: Is a directory$"):
        LocalStorage(tmp_path).read("a")


def test_a_local_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "a")
    with pytest.raises(StorageError, match=r"a cannot be read: it is no regular file$"):
        LocalStorage(tmp_path).read("a")


# -- a whole life, inside this process --------------------------------------------------------------


def test_files_go_there_and_back(memory, tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    assert memory.sizes() == {}
    assert memory.size("a.tar") is None
    memory.upload(tmp_path / "a", "b.tar")
    memory.upload(tmp_path / "a", "a.tar")
    assert sorted(memory.sizes()) == ["a.tar", "b.tar"]
    assert memory.size("a.tar") == 7
    assert memory.read("a.tar") == b"content"
    memory.download("a.tar", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"content"
    memory.delete("a.tar")
    memory.delete("a.tar")
    assert sorted(memory.sizes()) == ["b.tar"]


def test_only_files_of_the_folder_itself_have_names(memory, tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    memory.upload(tmp_path / "a", "a")
    RemoteStorage(f"{memory.url}/inner").upload(tmp_path / "a", "b")
    assert sorted(memory.sizes()) == ["a"]
    assert memory.size("inner") is None


def test_a_check_leaves_nothing(memory):
    memory.check_writable()
    assert memory._files.find(memory.url) == []


def test_what_a_killed_check_left_is_not_shown(memory, tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    memory.upload(tmp_path / "a", ".etc-data-probe-0123456789abcdef")
    assert memory.sizes() == {}


def test_a_place_that_loses_what_is_written_is_refused(memory, monkeypatch):
    monkeypatch.setattr(memory._files, "pipe_file", lambda path, data: None)
    with pytest.raises(StorageError, match=r"set does not keep what is written there$"):
        memory.check_writable()


def test_a_missing_file_is_not_found_at_once(memory, tmp_path, pauses):
    with pytest.raises(FileNotFoundError, match=r"set/a does not exist$"):
        memory.read("a")
    with pytest.raises(FileNotFoundError, match=r"set/a does not exist$"):
        memory.download("a", tmp_path / "a")
    assert list(tmp_path.iterdir()) == []
    assert pauses == []


def test_an_upload_that_arrives_short_raises(memory, tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"content")
    files = memory._files
    monkeypatch.setattr(files, "put_file", lambda _, path: files.pipe_file(path, b"cont"))
    with pytest.raises(StorageError, match=r"set/a did not arrive whole: 4 bytes of 7$"):
        memory.upload(tmp_path / "a", "a")


def test_an_upload_of_nothing_raises(memory, tmp_path):
    with pytest.raises(StorageError, match=r"a cannot be read: No such file or directory$"):
        memory.upload(tmp_path / "a", "a")


def test_a_target_that_cannot_be_written_is_not_blamed_on_the_server(memory, tmp_path):
    with pytest.raises(StorageError, match=r"missing/a cannot be written: No such file or directory$"):
        memory.download("a", tmp_path / "missing" / "a")


def test_a_full_disk_is_final_and_leaves_nothing(memory, tmp_path, monkeypatch, pauses):
    monkeypatch.setattr(memory._files, "get_file", Failing(OSError(errno.ENOSPC, "No space left")))
    with pytest.raises(StorageError, match=r"a cannot be kept here: No space left$") as raised:
        memory.download("a", tmp_path / "a")
    assert raised.value.hint == "make room, or name another folder"
    assert list(tmp_path.iterdir()) == []
    assert pauses == []


def test_a_failed_download_leaves_nothing(memory, tmp_path, monkeypatch, pauses):
    def half(_, target):
        Path(target).write_bytes(b"half")
        raise ConnectionResetError

    monkeypatch.setattr(memory._files, "get_file", half)
    with pytest.raises(StorageError, match=r"after 2 tries: ConnectionResetError$"):
        memory.download("a", tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_tells_no_size_raises(memory, monkeypatch):
    monkeypatch.setattr(memory._files, "info", lambda _: {"type": "file", "size": None})
    with pytest.raises(StorageError, match=r"the server does not tell its size$"):
        memory.size("a")


def test_a_used_storage_can_be_pickled(memory, tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    memory.upload(tmp_path / "a", "a")
    copy = pickle.loads(pickle.dumps(memory))
    assert copy._connection is None
    assert copy.read("a") == b"content"


def test_threads_share_a_storage(memory, tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    memory.upload(tmp_path / "a", "a")
    fresh = RemoteStorage(memory.url)
    read = []
    threads = [threading.Thread(target=lambda: read.append(fresh.read("a"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read == [b"content"] * 8


# -- what is missing --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "module", "extra"),
    [
        ("s3://bucket", "s3fs", "s3"),
        ("https://host", "aiohttp", "http"),
        ("http://host", "aiohttp", "http"),
    ],
)
def test_a_missing_package_names_the_extra(url, module, extra, environment):
    script = f"""
import sys
sys.modules[{module!r}] = None
from etc_data.errors import StorageError
from etc_data.shards.storage import RemoteStorage
try:
    RemoteStorage({url!r}).read("a")
except StorageError as error:
    print(error)
    print(error.hint)
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    message, hint = done.stdout.splitlines()
    assert message.startswith(f"{url.partition(':')[0]}:// cannot be reached: ")
    assert module in message
    assert hint == f"pip install 'etc-data[{extra}]'"


def test_an_unknown_protocol_raises():
    with pytest.raises(
        StorageError, match=r"^nothing:// cannot be reached: Protocol not known"
    ) as raised:
        RemoteStorage("nothing://host/set").read("a")
    assert raised.value.hint is None


def test_a_protocol_that_needs_more_than_a_url_raises():
    for protocol in ("async_wrapper", "dir", "reference", "simplecache", "zip"):
        with pytest.raises(StorageError, match=rf"^{protocol}:// cannot be reached: ."):
            open_storage(f"{protocol}://set").read("a")


# -- secrets ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["https://user:p@ss@host/set", "https://token@host/set"])
def test_credentials_of_a_url_are_not_shown(url):
    storage = RemoteStorage(url)
    assert str(storage) == "https://host/set"
    assert repr(storage) == "RemoteStorage('https://host/set')"


def test_an_at_sign_in_a_path_is_shown():
    assert str(RemoteStorage("s3://bucket/a@b")) == "s3://bucket/a@b"


@pytest.mark.parametrize(
    "place",
    [
        "https:/user:secret@host/set",
        "zip::https://user:secret@host/set",
        "local://user:secret@host/set",
    ],
)
def test_credentials_of_what_is_refused_are_not_shown(place):
    with pytest.raises(StorageError) as raised:
        open_storage(place)
    assert "secret" not in str(raised.value) + str(raised.value.hint)


@pytest.mark.parametrize("url", ["s3://KEY:SECRET@bucket/set", "s3a://KEY:SEC/RET@bucket"])
def test_s3_credentials_in_a_url_are_refused(url):
    with pytest.raises(StorageError, match=r"^s3a?:// takes no credentials in its URL$") as raised:
        open_storage(url)
    assert "AWS_SECRET_ACCESS_KEY" in raised.value.hint


def test_a_signed_url_is_refused_without_its_signature():
    with pytest.raises(StorageError, match=r"^https://host/set names one file") as raised:
        open_storage("https://host/set?signature=SECRET")
    assert "SECRET" not in str(raised.value)


def test_secrets_in_the_error_of_a_service_are_not_shown(pauses):
    with pytest.raises(StorageError) as raised:
        with_retries(Failing(HttpError(400)), "it", 1)
    assert str(raised.value) == "it cannot be reached: HttpError: 400, message='no', url='http://host/a"


def test_an_error_is_one_short_line(pauses):
    with pytest.raises(StorageError) as raised:
        with_retries(Failing(OSError("many\nlines " * 100)), "it", 1)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 300


# -- trying again -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(errno.ECONNRESET, "reset"),
        TimeoutError(),
        HttpError(500),
        HttpError(503),
        HttpError(429),
        s3_error(503, "SlowDown"),
        s3_error(400, "RequestTimeout", TimeoutError),
        s3_error(400, "IncompleteBody"),
        RuntimeError("a kind of error that nobody knows"),
    ],
)
def test_what_may_pass_is_tried_again(error, pauses):
    request = Failing(error)
    assert with_retries(request, "it", 2) == b"answer"
    assert request.calls == 2
    assert len(pauses) == 1


@pytest.mark.parametrize(
    "error",
    [
        HttpError(405),
        HttpError(416),
        s3_error(400, "InvalidBucketName"),
        ValueError("no such bucket name"),
        NotImplementedError(),
        OSError(errno.ENOSPC, "No space left"),
    ],
)
def test_what_cannot_pass_is_final(error, pauses):
    request = Failing(error)
    with pytest.raises(StorageError, match=r"^it cannot be"):
        with_retries(request, "it", 5)
    assert request.calls == 1


@pytest.mark.parametrize(
    "error",
    [PermissionError("no"), HttpError(401), HttpError(403), s3_error(403, "Else")],
)
def test_denied_access_is_final_and_has_a_hint(error, pauses):
    request = Failing(error)
    with pytest.raises(StorageError, match=r"^access to it is denied$") as raised:
        with_retries(request, "it", 5)
    assert request.calls == 1
    assert raised.value.hint == "check the credentials in your environment"


def test_a_file_that_the_server_says_is_missing_is_missing(pauses):
    with pytest.raises(FileNotFoundError, match=r"^it does not exist$"):
        with_retries(Failing(s3_error(404, "NoSuchKey", FileNotFoundError)), "it", 2)
    assert pauses == []


def test_pauses_grow_up_to_a_limit(pauses):
    with pytest.raises(StorageError, match=r"^it cannot be reached after 9 tries: OSError: no$"):
        with_retries(Failing(*[OSError("no")] * 9), "it", 9)
    assert pauses == [0.5, 1, 2, 4, 8, 16, 20, 20]


def test_an_interrupt_is_not_caught():
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        with_retries(interrupted, "it", 5)
