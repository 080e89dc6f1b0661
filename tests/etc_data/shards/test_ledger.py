import json
import os
import stat
from pathlib import Path

import pytest

from etc_data.errors import EtcError, ManifestError, OutputExistsError
from etc_data.shards.job import Failure, ShardResult
from etc_data.shards.ledger import Ledger, Owner
from etc_data.shards.manifest import ShardEntry


@pytest.fixture
def ledger(tmp_path):
    return created(tmp_path / "out")


def created(out):
    ledger = Ledger.of(out)
    ledger.lock()
    ledger.create({"key": "0123"}, Owner(str(out), None))
    return ledger


def result_of(shard, rows):
    entry = ShardEntry(shard, "train", 10_240, len(rows), "00" * 32)
    return ShardResult(entry, tuple(rows), (Failure("dog/7.jpg", "no picture"),), 1234)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_ledger_lies_beside_the_data_set(tmp_path, monkeypatch):
    assert Ledger.of(tmp_path / "out").folder == tmp_path / "out.ledger"
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    assert Ledger.of(Path(".")).folder == tmp_path / "out.ledger"
    assert Ledger.of(Path("../out/")).folder == tmp_path / "out.ledger"


@pytest.mark.skipif(os.name == "nt", reason="file modes of POSIX")
@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_only_the_owner_may_look_into_it(tmp_path, mask):
    before = os.umask(mask)
    try:
        ledger = created(tmp_path / "out")
        ledger.write_json("classes.json", ["cat"])
        ledger.write_lines("failures.jsonl", [])
        ledger.write_result(result_of("train-000000.tar", [("train-000000000", "cat/1.jpg", 0)]))
    finally:
        os.umask(before)
    folders = [path for path in ledger.folder.rglob("*") if path.is_dir()]
    assert {mode(path) for path in (ledger.folder, *folders)} == {0o700}
    files = [path for path in ledger.folder.rglob("*") if path.is_file()]
    assert len(files) == 7
    assert {mode(path) for path in files} == {0o600}


def test_open_folder_of_an_earlier_run_is_closed(tmp_path):
    (tmp_path / "out.ledger").mkdir(mode=0o755)
    ledger = created(tmp_path / "out")
    assert mode(ledger.folder) == 0o700


ODD = [
    "caf\\xe9.jpg",
    "a b/ü☀.png",
    'say "cheese".jpg',
    "line\nend",
    "\u2028\x85\x1c",
    "\ud83d half",
    "",
]


def test_every_item_name_is_read_back(ledger):
    rows = [(f"train-{i:09d}", item, i - 1) for i, item in enumerate(ODD)]
    ledger.write_result(result_of("train-000003.tar", rows))
    assert ledger.read_items("train-000003.tar") == {key: item for key, item, _ in rows}
    lines = (ledger.folder / "samples" / "train-000003.jsonl").read_bytes().split(b"\n")[:-1]
    assert [json.loads(line)["label"] for line in lines] == [-1, 0, 1, 2, 3, 4, 5]


def test_class_names_are_read_back(ledger):
    ledger.write_json("classes.json", ODD)
    assert ledger.read_class_names() == ODD


def test_missing_ledger_tells_nothing(tmp_path):
    ledger = Ledger.of(tmp_path / "nowhere")
    assert ledger.read_items("train-000000.tar") == {}
    assert ledger.read_class_names() == []
    assert ledger.foreign_file() is None
    assert ledger.read_plan() is None
    assert ledger.is_empty()
    assert not ledger.folder.exists()


DEEP = b"[" * 100_000


@pytest.mark.parametrize(
    "content",
    [b"no json", b"{}\n", b"[]\n", b"7\n", b'{"sample": "a"}\n', b"\xff\xfe\n", b"\x00", DEEP],
)
def test_damaged_list_of_samples_is_named(ledger, content):
    (ledger.folder / "samples" / "train-000000.jsonl").write_bytes(content)
    with pytest.raises(ManifestError, match=r"the ledger's samples/train-000000.jsonl is damaged"):
        ledger.read_items("train-000000.tar")


@pytest.mark.parametrize("content", [b"", b"no json", b"{}", b'"cat"', b"\xff", DEEP])
def test_damaged_list_of_classes_is_named(ledger, content):
    (ledger.folder / "classes.json").write_bytes(content)
    with pytest.raises(ManifestError, match=r"the ledger's classes.json is damaged"):
        ledger.read_class_names()


def test_foreign_files_are_found(ledger):
    ledger.write_json("classes.json", [])
    ledger.write_json("run.json", {})
    ledger.write_lines("failures.jsonl", [])
    ledger.write_result(result_of("train-000000.tar", []))
    assert ledger.foreign_file() is None
    for name in ("tax.xls", "samples/notes.txt", "samples/deeper/a.jsonl", "classes.json.bak"):
        path = ledger.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
        assert ledger.foreign_file() in (name, "samples/deeper")
        path.unlink()


def test_refusal_of_the_disk_is_our_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(EtcError, match=r"out\.ledger cannot be written: Not a directory"):
        Ledger.of(tmp_path / "file" / "out").lock()
    ledger = created(tmp_path / "out")
    (ledger.folder / "run.json").mkdir()
    with pytest.raises(EtcError, match=r"run\.json cannot be written: Is a directory"):
        ledger.write_json("run.json", {})


def test_results_are_read_back(ledger):
    result = result_of("train-000003.tar", [("train-000000003", "cat/1.jpg", 0)])
    assert ledger.read_result("train-000003.tar") is None
    ledger.write_result(result)
    assert ledger.read_result("train-000003.tar") == result
    assert ledger.foreign_file() is None


@pytest.mark.parametrize("name", ["done/train-000003.json", "samples/train-000003.jsonl"])
@pytest.mark.parametrize("content", [b"", b"no json", b"{}", b"[]", b'{"entry": {}}', b"\xff", DEEP])
def test_damaged_result_is_none(ledger, name, content):
    ledger.write_result(result_of("train-000003.tar", [("train-000000003", "cat/1.jpg", 0)]))
    (ledger.folder / name).write_bytes(content)
    assert ledger.read_result("train-000003.tar") is None


@pytest.mark.parametrize("content", [b"", b"no json", b"[]", b"7", b"\xff", DEEP])
def test_damaged_plan_is_named(ledger, content):
    (ledger.folder / "plan.json").write_bytes(content)
    with pytest.raises(ManifestError, match=r"the ledger's plan.json is damaged"):
        ledger.read_plan()


def test_one_run_at_a_time(tmp_path, ledger):
    for _ in range(2):
        with pytest.raises(OutputExistsError, match="another run is writing this data set"):
            Ledger.of(tmp_path / "out").lock()
    ledger.unlock()
    Ledger.of(tmp_path / "out").lock()


def test_lock_ends_with_the_run_that_forgot_it(tmp_path):
    created(tmp_path / "out")
    created(tmp_path / "out")


def test_empty_ledger_is_not_left_behind(tmp_path):
    for _ in range(2):
        ledger = Ledger.of(tmp_path / "out")
        ledger.lock()
        assert ledger.folder.is_dir()
        ledger.unlock()
        assert not ledger.folder.exists()
