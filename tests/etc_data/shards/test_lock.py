"""Two runs never write the same data set at once; one wins and the other says so."""

import gc
import os
import signal
import subprocess
import sys
import threading

import pytest

from etc_data.cipher import Cipher
from etc_data.errors import EtcError, OutputExistsError
from etc_data.shards import ShardWriter, verify_shards, write_shards
from etc_data.shards.lock import FolderLock

OPTIONS = {"size": 48, "samples_per_shard": 4}
HELD = "another run is writing this data set: it holds "

PROGRAM = """
import os, sys
from pathlib import Path
from etc_data.shards.lock import FolderLock
lock = FolderLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def cipher(key):
    return Cipher("etc-16", key)


@pytest.fixture
def holder(tmp_path, environment):
    """A process that holds the lock of a folder."""
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "folder")]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


# -- the lock ---------------------------------------------------------------------------------------


def test_one_holder_at_a_time(tmp_path):
    first = FolderLock(tmp_path / "folder")
    with pytest.raises(OutputExistsError, match=f"{HELD}{tmp_path}/folder$") as caught:
        FolderLock(tmp_path / "folder")
    assert caught.value.hint == "wait for it, or stop it first"
    first.release()
    FolderLock(tmp_path / "folder").release()
    assert os.listdir(tmp_path / "folder") == []


def test_folders_have_locks_of_their_own(tmp_path):
    locks = [FolderLock(tmp_path / name) for name in ("a", "b")]
    assert len(locks) == 2


def test_forgotten_lock_is_released(tmp_path):
    lock = FolderLock(tmp_path / "folder")
    del lock
    gc.collect()
    FolderLock(tmp_path / "folder").release()


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
def test_lock_ends_with_its_process(holder, tmp_path, sent):
    with pytest.raises(OutputExistsError, match=HELD):
        FolderLock(tmp_path / "folder")
    holder.send_signal(sent)
    holder.wait(timeout=30)
    FolderLock(tmp_path / "folder").release()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_released_lock_is_free_although_a_forked_child_has_it_open(tmp_path):
    lock = FolderLock(tmp_path / "folder")
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(write_end)
        os.read(read_end, 1)
        os._exit(0)
    lock.release()
    FolderLock(tmp_path / "folder").release()
    os.close(write_end)
    os.close(read_end)
    os.waitpid(child, 0)


def test_folder_removed_by_its_holder_is_made_again(tmp_path):
    for _ in range(50):
        results = []

        def compete(results=results):
            try:
                lock = FolderLock(tmp_path / "folder")
            except OutputExistsError:
                results.append(None)
                return
            results.append((tmp_path / "folder").stat().st_ino)
            (tmp_path / "folder").rmdir()
            lock.release()

        threads = [threading.Thread(target=compete) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(results) == 4
        assert any(results)
        assert not (tmp_path / "folder").exists()


# -- runs -------------------------------------------------------------------------------------------


def write(way, source, out, cipher, **more):
    """A run, in one of the ways there are."""
    if way != "ShardWriter":
        options = {} if way == "plain" else {way: True}
        return write_shards(source, out, cipher, **OPTIONS, **options, **more)
    with ShardWriter(out, cipher, size=48, force=True, **more) as writer:
        for path in sorted(source.rglob("*.jpg")):
            writer.write(path.read_bytes())
    return None


@pytest.mark.parametrize("second", ["plain", "force", "resume", "ShardWriter"])
@pytest.mark.parametrize("first", ["plain", "force", "resume"])
@pytest.mark.parametrize("ledgers", ["one ledger", "two ledgers"])
def test_second_run_is_refused_and_harms_nothing(
    tmp_path, source, cipher, contents, first, second, ledgers
):
    out = tmp_path / "out"
    more = {"ledger": tmp_path / "another"} if ledgers == "two ledgers" else {}
    refused = []

    def start(total):
        def tick(_):
            if not refused:
                with pytest.raises(OutputExistsError, match=HELD):
                    write(second, source, out, cipher, **more)
                refused.append(sorted(os.listdir(tmp_path)))

        return tick

    write(first, source, out, cipher, progress=start)
    assert refused == [["out", "out.ledger"]]
    assert verify_shards(out).samples == 33
    write_shards(source, tmp_path / "alone", cipher, **OPTIONS)
    assert contents(out) == contents(tmp_path / "alone")


@pytest.mark.parametrize("second", ["plain", "force", "resume", "ShardWriter"])
def test_nobody_writes_beside_a_shard_writer(tmp_path, source, cipher, photo, second):
    with ShardWriter(tmp_path / "out", cipher, size=48) as writer:
        writer.write(photo(0))
        with pytest.raises(OutputExistsError, match=HELD):
            write(second, source, tmp_path / "out", cipher)
        writer.write(photo(1))
    assert verify_shards(tmp_path / "out").samples == 2


def test_refusal_leaves_no_folder_behind(tmp_path, source, cipher):
    ledger = tmp_path / "out.ledger"
    ledger.mkdir()
    (ledger / "notes.txt").write_bytes(b"mine")
    with pytest.raises(OutputExistsError, match="files that are not of a ledger"):
        write_shards(source, tmp_path / "out", cipher, **OPTIONS, resume=True)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["notes.txt", "out.ledger"]


def test_finished_run_leaves_no_lock_behind(tmp_path, source, cipher):
    write_shards(source, tmp_path / "out", cipher, **OPTIONS)
    (tmp_path / "out").rename(tmp_path / "moved")
    (tmp_path / "out.ledger").rename(tmp_path / "moved.ledger")
    write_shards(source, tmp_path / "out", cipher, **OPTIONS)
    write_shards(source, tmp_path / "moved", cipher, **OPTIONS, resume=True)


@pytest.mark.parametrize("ways", [("plain", "plain"), ("force", "resume"), ("resume", "resume")])
def test_of_two_runs_that_start_together_one_wins(tmp_path, source, environment, key, ways):
    key.save(tmp_path / "key")
    command = [sys.executable, "-m", "etc_data", "encrypt", str(source), str(tmp_path / "out")]
    command += ["--key", str(tmp_path / "key"), "--size", "48", "--samples-per-shard", "1"]
    runs = [
        subprocess.Popen(
            [*command, *([] if way == "plain" else [f"--{way}"])],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for way in ways
    ]
    said = [run.communicate(timeout=120)[1] for run in runs]
    codes = [run.returncode for run in runs]
    # The slower may also come when all is done: it is refused, or continues, or replaces it.
    assert 0 in codes
    for code, text in zip(codes, said, strict=True):
        assert code == 0 or (code == 1 and ("another run is writing" in text or "not empty" in text))
        assert "Traceback" not in text
    assert verify_shards(tmp_path / "out").samples == 33


def test_folder_on_a_disk_that_is_not_there_is_one_error(tmp_path):
    (tmp_path / "disk").symlink_to(tmp_path / "not-mounted")
    with pytest.raises(EtcError, match="cannot be written"):
        FolderLock(tmp_path / "disk" / "out.ledger")
