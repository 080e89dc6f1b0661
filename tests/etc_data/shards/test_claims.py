"""Two runs and one URL, on rclone's S3 server: one writes a whole data set, the other stops."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from etc_data.cipher import Cipher
from etc_data.errors import OutputExistsError, SourceError, StorageError
from etc_data.keys import SecretKey
from etc_data.shards import ShardWriter, verify_shards, write_shards
from etc_data.shards.destination import CLAIM_NAME

_spec = importlib.util.spec_from_file_location("servers", Path(__file__).with_name("servers.py"))
servers = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(servers)
s3_server, settings = servers.s3_server, servers.writing_settings
name, url = servers.data_set_name, servers.data_set_url

OPTIONS = {"size": 48, "samples_per_shard": 4}
OTHER = {"size": 64, "samples_per_shard": 4}


def at_item(number, act):
    """A progress callback that does something once, when so many items are done."""

    def start(total):
        done = 0

        def tick(count):
            nonlocal done
            if done < number <= done + count:
                act()
            done += count

        return tick

    return start


@pytest.fixture(scope="module")
def cipher(key):
    return Cipher("etc-16", key)


@pytest.fixture
def objects(s3_server, name):
    """Reads what the server keeps of the data set."""
    folder = s3_server.bucket / name
    return lambda: (
        {path.name: path.read_bytes() for path in folder.iterdir()} if folder.is_dir() else {}
    )


@pytest.fixture
def expected(source, cipher, tmp_path):
    """Returns the files of a data set written with such options into a folder."""

    def write(options):
        write_shards(source, tmp_path / "local", cipher, **options, force=True)
        return {path.name: path.read_bytes() for path in (tmp_path / "local").iterdir()}

    return write


def test_claim_stands_while_a_run_writes_and_says_nothing(source, url, cipher, objects, key):
    seen = []
    write_shards(source, url, cipher, **OPTIONS, progress=at_item(9, lambda: seen.append(objects())))
    claim = json.loads(seen[0][CLAIM_NAME])
    assert sorted(claim) == ["format", "run"]
    assert re.fullmatch("[0-9a-f]{32}", claim["run"])
    assert CLAIM_NAME not in objects()
    again = []
    write_shards(
        source, url, cipher, **OPTIONS, force=True, progress=at_item(9, lambda: again.append(objects()))
    )
    assert json.loads(again[0][CLAIM_NAME])["run"] != claim["run"]


def test_second_run_is_refused_while_the_first_writes(source, url, cipher, objects, expected, tmp_path):
    met = []

    def start_second():
        for options in ({}, {"resume": True}):
            with pytest.raises(OutputExistsError) as caught:
                write_shards(source, url, cipher, **OTHER, **options, ledger=tmp_path / "second.ledger")
            met.append(str(caught.value))

    write_shards(source, url, cipher, **OPTIONS, progress=at_item(1, start_second))
    assert "is not empty" in met[0]
    assert "does not tell what was written" in met[1]
    assert objects() == expected(OPTIONS)
    assert not (tmp_path / "second.ledger").exists()


@pytest.mark.parametrize("item", [1, 10, 26, 33])
def test_run_that_was_replaced_with_force_stops(source, url, cipher, objects, expected, tmp_path, item):
    def replace_it():
        write_shards(source, url, cipher, **OTHER, force=True, ledger=tmp_path / "second.ledger")

    with pytest.raises(OutputExistsError, match=f"another run writes to {url} since this one began"):
        write_shards(source, url, cipher, **OPTIONS, progress=at_item(item, replace_it))
    assert objects() == expected(OTHER)
    # And it does not come back either.
    with pytest.raises(OutputExistsError, match="is of another run than"):
        write_shards(source, url, cipher, **OPTIONS, resume=True)
    assert objects() == expected(OTHER)


def test_unfinished_run_that_was_replaced_by_an_unfinished_one_is_not_continued(
    write_until, source, url, cipher, objects, tmp_path
):
    second = {"force": True, "ledger": tmp_path / "second.ledger"}
    for options in ({}, second):
        write_until(9, source, url, cipher, **OPTIONS, **options)
    before = objects()
    with pytest.raises(OutputExistsError, match="another run writes there, or was cut off"):
        write_shards(source, url, cipher, **OPTIONS, resume=True)
    assert objects() == before
    second.pop("force")
    assert write_shards(source, url, cipher, **OPTIONS, **second, resume=True).resumed == 7


def test_interrupted_run_is_replaced_from_elsewhere_with_force(
    write_until, source, url, cipher, objects, expected, tmp_path
):
    write_until(1, source, url, cipher, **OPTIONS)
    assert list(objects()) == [CLAIM_NAME]
    write_shards(source, url, cipher, **OTHER, force=True, ledger=tmp_path / "second.ledger")
    assert objects() == expected(OTHER)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("force", [False, True])
def test_runs_that_start_together_end_with_one_data_set(
    source, url, key, tmp_path, environment, objects, force, workers
):
    key.save(tmp_path / "key")
    processes = []
    for number, size in enumerate((48, 64, 80)):
        folder = tmp_path / f"machine-{number}"
        folder.mkdir()
        command = [sys.executable, "-m", "etc_data", "encrypt", str(source), url, "--size", str(size)]
        command += ["--key", str(tmp_path / "key"), "--samples-per-shard", "4"]
        command += ["--workers", str(workers), *(["--force"] if force else [])]
        processes.append(
            subprocess.Popen(
                command,
                cwd=folder,
                env=environment | dict(os.environ),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    outcomes = [(process.communicate(timeout=240), process.returncode) for process in processes]
    # With force, one that begins when another has ended replaces it.
    assert sum(code == 0 for _, code in outcomes) in ((1, 2, 3) if force else (1,)), outcomes
    assert all("Traceback" not in texts[1] for texts, _ in outcomes)
    assert CLAIM_NAME not in objects()
    verify_shards(url, key=key)


def test_nothing_is_left_where_nothing_could_be_taken(tmp_path, url, cipher, objects):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(SourceError, match="none of the 1 images could be taken"):
        write_shards(tmp_path / "photos", url, cipher, **OPTIONS)
    assert objects() == {}


def test_shard_writer_lays_a_claim_too(source, url, cipher, objects, tmp_path):
    photo = next(source.rglob("*.jpg")).read_bytes()
    first = ShardWriter(url, cipher, size=48, samples_per_shard=2)
    first.write(photo)
    with ShardWriter(url, cipher, size=64, force=True, ledger=tmp_path / "second.ledger") as second:
        second.write(photo)
    before = objects()
    with pytest.raises(OutputExistsError, match="another run writes to"):
        first.close()
    assert objects() == before


@pytest.fixture
def objects_folder(s3_server, name):
    """Where the server keeps the data set."""
    return s3_server.bucket / name


def test_upload_that_lands_late_over_a_new_shard_is_found(
    source, url, cipher, key, objects_folder, tmp_path
):
    # An upload of the replaced run was under way: same name, and often the same size.
    write_shards(source, url, cipher, **OPTIONS)
    late = (objects_folder / "train-000000.tar").read_bytes()
    other = Cipher("etc-16", SecretKey(b"another key of exactly 32 bytes!"))

    def land():
        new = (objects_folder / "train-000000.tar").read_bytes()
        (objects_folder / "train-000000.tar").write_bytes(late[: len(new)].ljust(len(new), b"\0"))

    options = {"force": True, "ledger": tmp_path / "second.ledger"}
    with pytest.raises(StorageError, match=r"train-000000\.tar is not as it was written"):
        write_shards(source, url, other, **OPTIONS, **options, progress=at_item(9, land))
    del options["force"]
    write_shards(source, url, other, **OPTIONS, **options, resume=True)
    verify_shards(url, key=SecretKey(b"another key of exactly 32 bytes!"))


def test_shards_that_a_stopped_run_uploads_late_are_deleted(
    source, url, cipher, objects, objects_folder, expected
):
    def land():
        (objects_folder / "train-000077.tar").write_bytes(b"late")

    write_shards(source, url, cipher, **OPTIONS, progress=at_item(9, land))
    assert objects() == expected(OPTIONS)


def test_own_shards_that_another_run_replaced_are_written_again(
    write_until, source, url, cipher, key, objects, expected, objects_folder
):
    write_until(20, source, url, cipher, **OPTIONS)
    # The other run died after it had dropped its claim, and before its manifest.
    (objects_folder / CLAIM_NAME).unlink()
    for shard in objects_folder.glob("*.tar"):
        shard.write_bytes(bytes(reversed(shard.read_bytes())))
    # A tar that does not begin as ours does is nobody's to overwrite.
    with pytest.raises(OutputExistsError, match="is not of etc-data"):
        write_shards(source, url, cipher, **OPTIONS, resume=True)
    for shard in objects_folder.glob("*.tar"):
        shard.write_bytes(bytes(reversed(shard.read_bytes()))[:-1] + b"x")
    assert write_shards(source, url, cipher, **OPTIONS, resume=True).resumed == 0
    assert objects() == expected(OPTIONS)
    verify_shards(url, key=key)
