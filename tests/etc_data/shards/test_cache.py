"""The cache on its own; real servers and many processes are in test_http_server.py."""

import fcntl
import hashlib
import os
import pickle
import shutil
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from etc_data.errors import DamagedShardError, EtcError, StorageError
from etc_data.shards.cache import CACHE_VARIABLE, ShardCache
from etc_data.shards.manifest import ShardEntry

SHARD_BYTES = 1000


class Shelf:
    """A storage that counts what is asked of it."""

    def __init__(self, **contents: bytes) -> None:
        self.contents = contents
        self.downloads: list[str] = []

    def __str__(self) -> str:
        return "shelf://here"

    def download(self, name: str, target: Path) -> None:
        self.downloads.append(name)
        if name not in self.contents:
            raise FileNotFoundError(name)
        target.write_bytes(self.contents[name])


def content(name: str) -> bytes:
    return name.encode() * (SHARD_BYTES // len(name))


def entry(name: str, data: bytes | None = None) -> ShardEntry:
    data = content(name) if data is None else data
    return ShardEntry(name, "train", len(data), 1, hashlib.sha256(data).hexdigest())


@pytest.fixture
def shelf():
    return Shelf(**{name: content(name) for name in "abcde"})


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


def read(cache: ShardCache, shelf: Shelf, name: str) -> bytes:
    with cache.open(shelf, entry(name)) as file:
        return file.read()


def cached(folder: Path) -> list[str]:
    hashes = {entry(name).sha256: name for name in "abcde"}
    return sorted(hashes[path.stem] for path in folder.glob("*.tar"))


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.suffix not in (".tar", ".lock")]


# -- what it keeps ----------------------------------------------------------------------------------


def test_a_shard_is_fetched_once(shelf, folder):
    for _ in range(3):
        assert read(ShardCache(folder), shelf, "a") == content("a")
    assert shelf.downloads == ["a"]
    assert cached(folder) == ["a"]


def test_equal_shards_of_two_data_sets_are_kept_once(shelf, folder):
    other = Shelf(other=content("a"))
    read(ShardCache(folder), shelf, "a")
    with ShardCache(folder).open(other, entry("other", content("a"))) as file:
        assert file.read() == content("a")
    assert other.downloads == []


@pytest.mark.parametrize(
    "room", [0, SHARD_BYTES - 1, SHARD_BYTES, 2 * SHARD_BYTES, 3 * SHARD_BYTES - 1]
)
def test_it_never_holds_more_than_it_may(shelf, folder, room):
    cache = ShardCache(folder, max_bytes=room)
    for name in "abcabdcea":
        assert read(cache, shelf, name) == content(name)
        assert sum(path.stat().st_size for path in folder.iterdir()) <= room
    assert leftovers(folder) == []
    assert len(cached(folder)) == room // SHARD_BYTES


def test_there_is_room_before_a_shard_is_fetched(shelf, folder):
    cache = ShardCache(folder, max_bytes=2 * SHARD_BYTES)
    held = []
    download = shelf.download

    def watched(name, target):
        held.append(len(cached(folder)))
        download(name, target)

    shelf.download = watched
    for name in "abcd":
        read(cache, shelf, name)
    assert held == [0, 1, 1, 1]


def test_the_least_recently_used_shard_goes_first(shelf, folder):
    cache = ShardCache(folder, max_bytes=3 * SHARD_BYTES)
    for name in "abc":
        read(cache, shelf, name)
    read(cache, shelf, "a")
    read(cache, shelf, "d")
    assert cached(folder) == ["a", "c", "d"]
    read(cache, shelf, "c")
    read(cache, shelf, "e")
    assert cached(folder) == ["c", "d", "e"]


def test_a_smaller_limit_holds_from_the_next_open_on(shelf, folder):
    for name in "abcd":
        read(ShardCache(folder), shelf, name)
    read(ShardCache(folder, max_bytes=2 * SHARD_BYTES), shelf, "a")
    assert cached(folder) == ["a", "d"]


def test_a_shard_larger_than_the_cache_is_read_and_drives_nothing_out(shelf, folder):
    cache = ShardCache(folder, max_bytes=2 * SHARD_BYTES)
    read(cache, shelf, "a")
    large = content("b") * 3
    shelf.contents["large"] = large
    for _ in range(2):
        with cache.open(shelf, entry("large", large)) as file:
            assert file.read() == large
    assert shelf.downloads == ["a", "large", "large"]
    assert cached(folder) == ["a"]
    assert leftovers(folder) == []


def test_a_shard_stays_readable_for_who_has_it_open(shelf, folder):
    cache = ShardCache(folder, max_bytes=SHARD_BYTES)
    with cache.open(shelf, entry("a")) as file:
        read(cache, shelf, "b")
        assert cached(folder) == ["b"]
        assert file.read() == content("a")
        assert file.seek(0) == 0
        assert file.read() == content("a")


def test_other_files_in_the_folder_are_left_alone(shelf, folder):
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    read(ShardCache(folder, max_bytes=0), shelf, "a")
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_cache_can_be_pickled(shelf, folder):
    cache = pickle.loads(pickle.dumps(ShardCache(folder, max_bytes=5, fetches=7)))
    assert read(cache, shelf, "a") == content("a")
    assert (cache.folder, cache.max_bytes) == (folder, 5)


# -- what is damaged --------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "longer"])
def test_a_damaged_file_in_the_cache_is_fetched_again(shelf, folder, damage):
    cache = ShardCache(folder)
    read(cache, shelf, "a")
    path = folder / f"{entry('a').sha256}.tar"
    data = bytearray(content("a"))
    if damage == "flip":
        data[500] ^= 1
    path.write_bytes({"flip": data, "cut": data[:-1], "empty": b"", "longer": data + b"a"}[damage])
    assert read(cache, shelf, "a") == content("a")
    assert shelf.downloads == ["a", "a"]
    assert path.read_bytes() == content("a")


@pytest.mark.parametrize("fetches", [1, 3])
def test_a_shard_that_always_comes_damaged_is_named(shelf, folder, fetches):
    shelf.contents["a"] = content("b")
    with pytest.raises(DamagedShardError) as raised:
        ShardCache(folder, fetches=fetches).open(shelf, entry("a"))
    assert str(raised.value) == (
        "shard a of shelf://here is not what the manifest says: "
        f"its size or SHA-256 differed in {fetches} fetches"
    )
    assert raised.value.hint == "it was cut short or altered; upload it again from where it was written"
    assert shelf.downloads == ["a"] * fetches
    assert cached(folder) == leftovers(folder) == []


def test_a_damaged_fetch_drives_out_no_good_copy(shelf, folder):
    cache = ShardCache(folder)
    read(cache, shelf, "a")
    shelf.contents["a"] = content("b")
    assert read(cache, shelf, "a") == content("a")


def test_a_missing_shard_is_named(shelf, folder):
    with pytest.raises(DamagedShardError, match=r"^shard f is missing in shelf://here$"):
        ShardCache(folder).open(shelf, entry("f"))
    assert shelf.downloads == ["f"]


def test_an_error_of_the_storage_is_passed_on_and_leaves_nothing(shelf, folder):
    def failing(name, target):
        target.write_bytes(b"half")
        raise StorageError("shelf://here/a cannot be reached", "hint")

    shelf.download = failing
    with pytest.raises(StorageError, match=r"^shelf://here/a cannot be reached$") as raised:
        ShardCache(folder).open(shelf, entry("a"))
    assert raised.value.hint == "hint"
    assert leftovers(folder) == []


# -- who was killed ---------------------------------------------------------------------------------


def test_what_a_killed_process_left_is_removed(shelf, folder):
    folder.mkdir()
    for name in "bcd":
        (folder / f"{entry(name).sha256}.partial").write_bytes(b"half")
    read(ShardCache(folder), shelf, "a")
    assert leftovers(folder) == []
    (folder / f"{entry('a').sha256}.partial").write_bytes(b"half")
    read(ShardCache(folder), shelf, "a")
    assert leftovers(folder) == []


def test_what_another_process_is_fetching_is_not_removed(shelf, folder):
    folder.mkdir()
    sha256 = entry("b").sha256
    (folder / f"{sha256}.partial").write_bytes(b"half")
    with (folder / f"{sha256[:2]}.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        read(ShardCache(folder), shelf, "a")
        assert leftovers(folder) == [f"{sha256}.partial"]


def test_a_cached_shard_does_not_wait_for_one_that_is_fetched(shelf, folder):
    cache = ShardCache(folder)
    read(cache, shelf, "a")
    with (folder / f"{entry('a').sha256[:2]}.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert read(cache, shelf, "a") == content("a")


def test_threads_that_want_the_same_shard_fetch_it_once(shelf, folder):
    cache = ShardCache(folder)
    start = threading.Barrier(8)
    found = []

    def want():
        start.wait()
        found.append(read(cache, shelf, "a"))

    threads = [threading.Thread(target=want) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [content("a")] * 8
    assert shelf.downloads == ["a"]


def test_a_child_forked_during_a_fetch_does_not_keep_the_lock(shelf, folder):
    # It has the lock's file open as well, for as long as it lives.
    download = shelf.download
    read_end, write_end = os.pipe()
    children = []

    def forking(name, target):
        if not children:
            children.append(os.fork())
            if children[0] == 0:
                os.read(read_end, 1)
                os._exit(0)
        download(name, target)

    shelf.download = forking
    cache = ShardCache(folder, max_bytes=0)  # each open takes the lock
    try:
        read(cache, shelf, "a")
        waiting = threading.Thread(target=read, args=(cache, shelf, "a"), daemon=True)
        waiting.start()
        waiting.join(10)
        assert not waiting.is_alive()
    finally:
        os.write(write_end, b"1")
        os.waitpid(children[0], 0)


CHURN = """
import hashlib, random, sys
from pathlib import Path
from etc_data.shards.cache import ShardCache
from etc_data.shards.manifest import ShardEntry

class Shelf:
    def download(self, name, target):
        target.write_bytes(name.encode() * 1000)

cache = ShardCache(sys.argv[1], max_bytes=5_000)
choose = random.Random(int(sys.argv[2]))
for _ in range(400):
    name = choose.choice("abcdefgh")
    data = name.encode() * 1000
    entry = ShardEntry(name, "train", 1000, 1, hashlib.sha256(data).hexdigest())
    with cache.open(Shelf(), entry) as file:
        assert file.read() == data
"""


def test_processes_that_crowd_each_other_out_read_what_they_want(folder, environment):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CHURN, folder, str(seed)],
            env=environment,
            stderr=subprocess.PIPE,
        )
        for seed in range(4)
    ]
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert errors == [b""] * 4
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 5_000
    assert leftovers(folder) == []


# -- folders that do not serve ----------------------------------------------------------------------


def test_the_environment_names_the_folder(shelf, tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "named"))
    assert ShardCache().folder == tmp_path / "named"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(CACHE_VARIABLE, "~/named")
    assert ShardCache().folder == tmp_path / "named"
    monkeypatch.delenv(CACHE_VARIABLE)
    assert ShardCache().folder == tmp_path / ".cache" / "etc-data"
    assert list(tmp_path.iterdir()) == []


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(
        StorageError, match=r"^there is no home folder for the cache of shards$"
    ) as raised:
        ShardCache()
    assert raised.value.hint == "set ETC_DATA_CACHE to a folder"


def assert_unusable(folder: Path, shelf: Shelf, reason: str) -> None:
    with pytest.raises(EtcError) as raised:
        ShardCache(folder).open(shelf, entry("a"))
    assert str(raised.value) == f"the cache {folder} cannot be used: {reason}"
    assert raised.value.hint == "name another folder, for example with ETC_DATA_CACHE"
    assert shelf.downloads == []


def test_a_folder_that_is_a_file_raises(shelf, tmp_path):
    (tmp_path / "file").touch()
    assert_unusable(tmp_path / "file", shelf, "File exists")
    assert_unusable(tmp_path / "file" / "cache", shelf, "Not a directory")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("made", [True, False])
def test_a_folder_that_may_not_be_written_raises(shelf, tmp_path, made):
    home = tmp_path / "home"
    home.mkdir()
    folder = home / "cache"
    if made:
        folder.mkdir()
    for path in (folder, home):
        if path.exists():
            path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert_unusable(folder, shelf, "Permission denied")
    finally:
        home.chmod(stat.S_IRWXU)


def test_a_disk_that_is_read_only_raises(shelf, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    options = ["-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", str(disk)]
    if mount is None or subprocess.run([mount, *options], capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a disk")
    try:
        assert_unusable(disk / "cache", shelf, "Read-only file system")
        assert_unusable(disk, shelf, "Read-only file system")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("options", [{"max_bytes": -1}, {"fetches": 0}])
def test_numbers_that_are_too_small_raise(folder, options):
    with pytest.raises(ValueError, match=r"must be at least"):
        ShardCache(folder, **options)
