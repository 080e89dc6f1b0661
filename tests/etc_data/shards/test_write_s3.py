"""Encrypting straight to rclone's S3 server: upload, check, then commit; also when it is killed."""

import importlib.util
import json
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from etc_data.cipher import Cipher
from etc_data.errors import DamagedShardError, OutputExistsError, StorageError
from etc_data.shards import ShardWriter, decrypt_shards, open_shards, urls, write_shards
from etc_data.shards import storage as storage_module
from etc_data.shards.cache import ShardCache
from etc_data.shards.destination import CLAIM_NAME

_spec = importlib.util.spec_from_file_location("servers", Path(__file__).with_name("servers.py"))
servers = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(servers)
s3_server, settings = servers.s3_server, servers.writing_settings
name, url = servers.data_set_name, servers.data_set_url
proxy = servers.s3_proxy

OPTIONS = {"size": 48, "samples_per_shard": 4}
SHARDS = 9
SOON_SECONDS = 30


def files_of(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def cipher(key):
    return Cipher("etc-16", key)


@pytest.fixture(scope="module")
def local(tmp_path_factory, source, cipher):
    """The data set that a local run writes, beside its ledger."""
    out = tmp_path_factory.mktemp("local") / "out"
    write_shards(source, out, cipher, **OPTIONS)
    return out


@pytest.fixture
def bucket_folder(s3_server, name):
    """What the server keeps of the data set."""
    return s3_server.bucket / name


@pytest.fixture
def ledger(tmp_path, name):
    return tmp_path / f"{name}.ledger"


@pytest.fixture
def check_equal(local, bucket_folder, ledger):
    """Compares the server's files, and the ledger, with those of a local run."""

    def check():
        assert files_of(bucket_folder) == files_of(local)
        written, expected = files_of(ledger), files_of(local.with_name("out.ledger"))
        assert json.loads(written["out.json"])["out"].startswith("s3://")
        for files in (written, expected):
            files.pop("run.json")
            files.pop("out.json")
            for name in [name for name in files if name.startswith("done/")]:
                record = json.loads(files[name])
                assert bool(record.pop("mark")) == (files is written)
                del record["check"]
                files[name] = record
        assert written == expected

    return check


@pytest.fixture
def uploads(monkeypatch):
    """The names of the files uploaded so far by this process."""
    seen = []
    upload = storage_module.RemoteStorage.upload

    def record(storage, source, name):
        mark = upload(storage, source, name)
        seen.append(name)
        return mark

    monkeypatch.setattr(storage_module.RemoteStorage, "upload", record)
    return seen


# -- when all is well -------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_objects_equal_the_files_of_a_local_run(source, url, cipher, check_equal, workers, tmp_path):
    summary = write_shards(source, url, cipher, **OPTIONS, workers=workers)
    check_equal()
    assert not list(summary.ledger.glob("staging/.*"))
    assert sorted(path.name for path in tmp_path.iterdir()) == [summary.ledger.name]


def test_command_writes_to_a_deep_prefix(
    source, url, key, tmp_path, environment, bucket_folder, local, ledger
):
    key.save(tmp_path / "key")
    command = [sys.executable, "-m", "etc_data", "encrypt", str(source), f"{url}/a/b/", "--size", "48"]
    command += ["--key", str(tmp_path / "key"), "--samples-per-shard", "4", "--workers", "2", "--json"]
    result = subprocess.run(
        [*command, "--ledger", str(ledger)],
        check=False,
        capture_output=True,
        text=True,
        env=environment | dict(os.environ),
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert files_of(bucket_folder / "a" / "b") == files_of(local)
    assert json.loads(result.stdout)["out"] == f"{url}/a/b"
    assert ledger.is_dir()
    assert servers.SECRET_KEY not in result.stdout + result.stderr


def test_data_set_written_there_is_read_from_there(source, url, cipher, tmp_path):
    write_shards(source, url, cipher, **OPTIONS)
    samples = list(open_shards(url, split="train", cache=ShardCache(tmp_path / "cache")))
    assert len(samples) == 27


def test_shard_writer_uploads_too(url, cipher, bucket_folder, tmp_path, photo):
    for out in (url, tmp_path / "out"):
        with ShardWriter(out, cipher, size=48, samples_per_shard=2) as writer:
            for number in range(5):
                writer.write(photo(number), number % 2)
    assert files_of(bucket_folder) == files_of(tmp_path / "out")


def test_manifest_comes_last(source, url, cipher, proxy, bucket_folder):
    proxy.bytes_per_second = 1_000_000
    seen, end = [], threading.Event()

    def watch():
        while not end.is_set():
            seen.append(frozenset(os.listdir(bucket_folder)) if bucket_folder.is_dir() else frozenset())
            time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()
    write_shards(source, url, cipher, **OPTIONS)
    end.set()
    watcher.join()
    whole = frozenset(os.listdir(bucket_folder))
    with_manifest = [names for names in seen if "manifest.json" in names]
    assert set(with_manifest) <= {whole}
    assert len(set(seen)) > SHARDS


def test_finished_data_set_is_left_alone(source, url, cipher, bucket_folder, ledger, uploads):
    write_shards(source, url, cipher, **OPTIONS)
    uploads.clear()
    times = {path: path.stat().st_mtime_ns for path in [*bucket_folder.iterdir(), *ledger.rglob("*")]}
    assert write_shards(source, url, cipher, **OPTIONS, resume=True).unchanged
    assert uploads == []
    assert {path: path.stat().st_mtime_ns for path in times} == times


# -- what stands there ------------------------------------------------------------------------------


def test_force_replaces_and_nothing_else_does(source, url, cipher, check_equal, uploads):
    write_shards(source, url, cipher, **OPTIONS | {"samples_per_shard": 2})
    with pytest.raises(OutputExistsError, match="is not empty"):
        write_shards(source, url, cipher, **OPTIONS)
    with pytest.raises(OutputExistsError, match="cannot be resumed: shards train was 14 and is 7"):
        write_shards(source, url, cipher, **OPTIONS, resume=True)
    write_shards(source, url, cipher, **OPTIONS, force=True)
    check_equal()


@pytest.mark.parametrize("options", [{}, {"force": True}, {"resume": True}])
@pytest.mark.parametrize("foreign", ["photo.jpg", "train-000000.tar"])
def test_foreign_objects_are_never_deleted(
    source, url, cipher, bucket_folder, ledger, options, foreign
):
    bucket_folder.mkdir(exist_ok=True)
    (bucket_folder / foreign).write_bytes(b"years of work")
    with pytest.raises(OutputExistsError, match=r"that are not of a data set|no manifest of etc-data"):
        write_shards(source, url, cipher, **OPTIONS, **options)
    assert files_of(bucket_folder) == {foreign: b"years of work"}
    assert not ledger.exists()


def test_objects_below_the_prefix_are_left_alone(source, url, cipher, bucket_folder):
    (bucket_folder / "other").mkdir(parents=True)
    (bucket_folder / "other" / "train-000000.tar").write_bytes(b"years of work")
    write_shards(source, url, cipher, **OPTIONS)
    write_shards(source, url, cipher, **OPTIONS, force=True)
    assert (bucket_folder / "other" / "train-000000.tar").read_bytes() == b"years of work"


@pytest.mark.parametrize("options", [{}, {"force": True}, {"resume": True}])
def test_ledger_of_another_bucket_is_not_replaced(source, url, cipher, ledger, options, s3_server):
    write_shards(source, url, cipher, **OPTIONS)
    (s3_server.root / "second").mkdir(exist_ok=True)
    before = files_of(ledger)
    with pytest.raises(OutputExistsError, match=f"is the ledger of {url}$") as caught:
        write_shards(source, url.replace(servers.BUCKET, "second", 1), cipher, **OPTIONS, **options)
    assert caught.value.hint == "name another folder with --ledger"
    assert files_of(ledger) == before


def test_tampered_shard_is_found_by_who_reads(source, url, cipher, bucket_folder, tmp_path):
    write_shards(source, url, cipher, **OPTIONS)
    shard = bucket_folder / "train-000003.tar"
    data = bytearray(shard.read_bytes())
    data[5000] ^= 1
    shard.write_bytes(data)
    with pytest.raises(DamagedShardError, match=r"train-000003\.tar"):
        list(open_shards(url, split="train", cache=ShardCache(tmp_path / "cache")))
    # Its size says nothing, but its mark is another.
    assert not write_shards(source, url, cipher, **OPTIONS, resume=True).unchanged
    assert len(list(open_shards(url, split="train", cache=ShardCache(tmp_path / "cache")))) == 27


def test_shard_cut_short_is_uploaded_again(source, url, cipher, bucket_folder, check_equal, uploads):
    write_shards(source, url, cipher, **OPTIONS)
    uploads.clear()
    shard = bucket_folder / "train-000003.tar"
    shard.write_bytes(shard.read_bytes()[:-512])
    write_shards(source, url, cipher, **OPTIONS, resume=True)
    check_equal()
    assert uploads == [CLAIM_NAME, "train-000003.tar", "manifest.json"]


# -- refused, killed --------------------------------------------------------------------------------


def test_wrong_credentials_end_it_before_the_work(
    source, url, cipher, ledger, monkeypatch, bucket_folder, caplog
):
    caplog.set_level(logging.DEBUG, "etc_data")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    with pytest.raises(StorageError, match=f"access to {url} is denied") as caught:
        write_shards(source, url, cipher, **OPTIONS, progress=lambda _: pytest.fail("work began"))
    assert caught.value.hint == "check the credentials in your environment"
    assert not ledger.exists()
    assert not bucket_folder.exists()
    assert "not-the-secret" not in caplog.text + str(caught.value)


def test_credentials_are_written_nowhere(source, url, cipher, bucket_folder, ledger, caplog):
    caplog.set_level(logging.DEBUG, "etc_data")
    write_shards(source, url, cipher, **OPTIONS)
    for place in (bucket_folder, ledger):
        for data in files_of(place).values():
            assert servers.SECRET_KEY.encode() not in data
            assert servers.ACCESS_KEY.encode() not in data
    assert servers.SECRET_KEY not in caplog.text


def test_missing_bucket_is_one_clear_error(source, cipher, tmp_path):
    begin = time.monotonic()
    with pytest.raises(StorageError, match="s3://nowhere/set does not exist") as caught:
        write_shards(source, "s3://nowhere/set", cipher, **OPTIONS)
    assert "make the bucket first" in caught.value.hint
    assert time.monotonic() - begin < SOON_SECONDS


def test_server_that_comes_back_in_time_is_waited_for(
    source, url, cipher, s3_server, check_equal, monkeypatch
):
    monkeypatch.setattr(storage_module, "_FIRST_WAIT_SECONDS", 0.3)
    killed = threading.Event()

    def start(total):
        def tick(_):
            nonlocal total
            total -= 1
            if total == 18:
                s3_server.kill()
                threading.Timer(1.0, s3_server.start).start()
                killed.set()

        return tick

    write_shards(source, url, cipher, **OPTIONS, progress=start)
    assert killed.is_set()
    check_equal()


@pytest.mark.parametrize("workers", [1, 2])
def test_server_killed_for_good_is_one_error_and_resume_uploads_the_rest(
    source, url, cipher, s3_server, bucket_folder, check_equal, uploads, monkeypatch, workers
):
    if workers == 2:
        # Workers are processes of their own, with the library's pauses: 15 seconds in all.
        pytest.importorskip("resource")

    def start(total):
        def tick(_):
            if bucket_folder.is_dir() and len(os.listdir(bucket_folder)) >= 3:
                s3_server.kill()

        return tick

    begin = time.monotonic()
    with pytest.raises(
        StorageError, match=r"/(train-00000\d\.tar|unfinished\.json) cannot be reached after 6 tries"
    ) as caught:
        write_shards(source, url, cipher, **OPTIONS, workers=workers, progress=start)
    assert time.monotonic() - begin < 3 * SOON_SECONDS
    assert caught.value.hint == "put that right, and continue with --resume"
    begin = time.monotonic()
    with pytest.raises(StorageError, match="cannot be reached after 6 tries"):
        write_shards(source, url, cipher, **OPTIONS, resume=True)
    assert time.monotonic() - begin < SOON_SECONDS
    s3_server.start()
    standing = {path.name for path in bucket_folder.iterdir() if path.stat().st_size}
    uploads.clear()
    summary = write_shards(source, url, cipher, **OPTIONS, resume=True)
    check_equal()
    shards = [name for name in uploads if name.endswith(".tar")]
    assert len(set(shards)) == len(shards) == SHARDS - summary.resumed // 4 - (summary.resumed % 4 > 0)
    assert uploads[-1] == "manifest.json"
    assert summary.resumed > 0
    assert set(shards) | standing >= {f"train-00000{i}.tar" for i in range(7)}


def test_upload_that_is_cut_off_is_repeated(source, url, cipher, proxy, check_equal):
    proxy.faults.extend(["none", *[20, "none"] * 8])
    write_shards(source, url, cipher, **OPTIONS)
    check_equal()


def test_interrupted_run_is_continued_from_its_objects(
    write_until, source, url, cipher, check_equal, uploads
):
    write_until(14, source, url, cipher, **OPTIONS)
    assert uploads == [CLAIM_NAME, *(f"train-00000{i}.tar" for i in range(3))]
    uploads.clear()
    assert write_shards(source, url, cipher, **OPTIONS, resume=True, workers=1).resumed == 11
    shards = [name for name in uploads if name.endswith(".tar")]
    assert len(shards) == SHARDS - 3
    check_equal()


def test_plain_images_get_their_names_from_the_ledger_of_their_shards_alone(
    source, url, cipher, key, ledger, tmp_path
):
    write_shards(source, url, cipher, **OPTIONS)
    summary = decrypt_shards(url.replace("s3", "S3", 1), tmp_path / "one", key)
    assert summary.named_by_ledger
    ledger.rename(tmp_path / "mine")
    # Its ledger is called the same.
    write_shards(source, f"{url}/{ledger.stem}", cipher, **OPTIONS | {"size": 64})
    assert not decrypt_shards(url, tmp_path / "two", key).named_by_ledger
    assert decrypt_shards(url, tmp_path / "three", key, ledger=tmp_path / "mine").named_by_ledger
    names = {path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.png")}
    assert names == {
        path.relative_to(tmp_path / "three") for path in (tmp_path / "three").rglob("*.png")
    }


def test_read_only_credentials_end_it_before_the_work(source, url, cipher, ledger, proxy):
    proxy.faults.append(servers.answer("403 Forbidden"))
    with pytest.raises(StorageError, match=f"^{url} cannot be written to: access to {url} is denied$"):
        write_shards(source, url, cipher, **OPTIONS, progress=lambda _: pytest.fail("work began"))
    assert not ledger.exists()


def test_missing_bucket_ends_it_before_the_work(source, cipher, tmp_path):
    with pytest.raises(StorageError, match=r"^s3://missing/set cannot be .* does not exist$") as caught:
        write_shards(source, "s3://missing/set", cipher, **OPTIONS)
    assert caught.value.hint == "make the bucket first"
    assert list(tmp_path.iterdir()) == []


# -- other places -----------------------------------------------------------------------------------


def test_http_is_refused_at_once(source, cipher, tmp_path):
    with pytest.raises(StorageError, match="can only be read"):
        write_shards(source, "http://127.0.0.1:9/set", cipher, **OPTIONS)
    assert list(tmp_path.iterdir()) == []


def test_file_urls_are_folders(source, cipher, tmp_path, local):
    out = tmp_path / "deep" / "set"
    summary = write_shards(source, f"file://{out}", cipher, **OPTIONS)
    assert files_of(out) == files_of(local)
    assert summary.ledger == tmp_path / "deep" / "set.ledger"


@pytest.fixture
def memory_taken(monkeypatch):
    """Lets fsspec's file system in memory stand for the services that no server is at hand for."""
    monkeypatch.setattr(urls, "_OF_THIS_MACHINE", ())


def test_other_file_systems_are_places_too(write_until, source, cipher, local, tmp_path, memory_taken):
    import fsspec

    write_until(14, source, "memory://set", cipher, **OPTIONS)
    assert write_shards(source, "memory://set", cipher, **OPTIONS, resume=True).resumed == 11
    written = fsspec.filesystem("memory")
    assert {
        Path(path).name: written.cat(path) for path in written.ls("/set", detail=False)
    } == files_of(local)


def test_passwords_in_a_url_are_not_shown(source, cipher, tmp_path, memory_taken):
    # The memory file system takes any URL, as others do that have a password in it.
    summary = write_shards(source, "memory://user:secret-word@host/private", cipher, **OPTIONS)
    assert summary.ledger == tmp_path / "private.ledger"
    assert not [name for name, data in files_of(tmp_path).items() if b"secret-word" in data]
