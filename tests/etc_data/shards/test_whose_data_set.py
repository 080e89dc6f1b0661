"""Ledgers and data sets that do not belong together: nothing of another run is deleted or mixed."""

import os
import shutil
import sys
import tarfile

import pytest

from etc_data.cipher import Cipher
from etc_data.errors import EtcError, ManifestError, OutputExistsError, SourceError
from etc_data.shards import ShardWriter, write_shards
from etc_data.shards.ledger import Ledger
from etc_data.shards.output import prepare_output

OPTIONS = {"size": 48, "samples_per_shard": 4}
OTHER = {"size": 48, "samples_per_shard": 2}


@pytest.fixture(scope="module")
def cipher(key):
    return Cipher("etc-16", key)


@pytest.fixture
def out(source, cipher, tmp_path):
    write_shards(source, tmp_path / "out", cipher, **OPTIONS)
    return tmp_path / "out"


@pytest.fixture
def tree(tmp_path):
    """Reads all files below the test's folder."""
    return lambda: {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


@pytest.mark.parametrize("manifest", ["whole", "gone"])
def test_old_ledger_does_not_continue_the_data_set_that_replaced_its_own(
    out, source, cipher, tmp_path, tree, manifest
):
    write_shards(source, out, cipher, **OTHER, force=True, ledger=tmp_path / "second.ledger")
    if manifest == "gone":
        (out / "manifest.json").unlink()
    before = tree()
    with pytest.raises(
        OutputExistsError, match=r"its train-000007\.tar is of another run than"
    ) as caught:
        write_shards(source, out, cipher, **OPTIONS, resume=True)
    assert "--ledger" in caught.value.hint
    assert tree() == before


def test_old_ledger_does_not_continue_a_data_set_of_the_same_names(out, source, cipher, tmp_path, tree):
    options = OPTIONS | {"size": 64}
    write_shards(source, out, cipher, **options, force=True, ledger=tmp_path / "second.ledger")
    before = tree()
    with pytest.raises(OutputExistsError, match=r"its train-000000\.tar is of another run than"):
        write_shards(source, out, cipher, **OPTIONS, resume=True)
    assert tree() == before


def test_plan_alone_does_not_make_a_foreign_data_set_ours(out, source, cipher, tmp_path, tree):
    options = OPTIONS | {"size": 64}
    shutil.rmtree(tmp_path / "out.ledger" / "done")
    write_shards(source, out, cipher, **options, force=True, ledger=tmp_path / "second.ledger")
    before = tree()
    with pytest.raises(OutputExistsError, match="is of another run than"):
        write_shards(source, out, cipher, **OPTIONS, resume=True)
    assert tree() == before


def test_force_takes_no_ledger_of_a_data_set_that_is_still_there(out, source, cipher, tmp_path, tree):
    before = tree()
    for options in ({"force": True}, {}):
        with pytest.raises(OutputExistsError, match=r"out\.ledger"):
            write_shards(
                source, tmp_path / "new", cipher, **OPTIONS, **options, ledger=tmp_path / "out.ledger"
            )
    assert tree() == before
    assert not (tmp_path / "new").exists()


def test_data_set_that_was_moved_with_its_ledger_is_replaced_with_force(out, source, cipher, tmp_path):
    out.rename(tmp_path / "moved")
    (tmp_path / "out.ledger").rename(tmp_path / "moved.ledger")
    write_shards(source, tmp_path / "moved", cipher, **OTHER, force=True)
    assert Ledger.of(tmp_path / "moved").read_owner().out == os.path.realpath(tmp_path / "moved")


@pytest.mark.parametrize(
    "files",
    [
        {"README.txt": b"my notes"},
        {"run.json": b"{}", "samples/a.jsonl": b"years of work"},
        {"plan.json": b'{"format": "my-plan/1"}'},
        {"plan.json": b"the plan"},
        {"classes.json": b"[]", "README.txt": b""},
    ],
)
@pytest.mark.parametrize("content", [{}, {"train-000000.tar": b"years of work"}])
@pytest.mark.parametrize("options", [{}, {"force": True}, {"resume": True}])
def test_names_do_not_make_a_ledger(tmp_path, tree, files, content, options):
    for folder, members in (("notes", files), ("out", content)):
        for name, data in members.items():
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    before = tree()
    with pytest.raises((OutputExistsError, ManifestError)):
        prepare_output(tmp_path / "out", ledger=tmp_path / "notes", plan={}, **options)
    assert tree() == before


def test_link_to_a_folder_has_the_ledger_of_the_folder(out, source, cipher, tmp_path):
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "set"
    link.symlink_to(out)
    summary = write_shards(source, link, cipher, **OPTIONS, resume=True)
    assert summary.unchanged
    assert summary.ledger == tmp_path / "out.ledger"
    assert [path.name for path in (tmp_path / "links").iterdir()] == ["set"]


@pytest.mark.parametrize("half", [".README.txt.partial", ".out.json.partial"])
def test_half_written_note_does_not_stand_in_the_way(source, cipher, tmp_path, half):
    (tmp_path / "out.ledger").mkdir()
    (tmp_path / "out.ledger" / half).write_bytes(b"This")
    with ShardWriter(tmp_path / "out", cipher, size=48) as writer:
        writer.write(next(source.rglob("*.jpg")).read_bytes())
    assert (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize("options", [{"resume": True}, {"force": True}])
def test_left_over_ledger_does_not_make_foreign_shards_ours(
    out, source, cipher, tmp_path, tree, options
):
    shutil.rmtree(out)
    out.mkdir()
    with tarfile.open(out / "train-000000.tar", "w") as tar:
        tar.add(source, "photos")
    before = tree()
    with pytest.raises(OutputExistsError, match=r"train-000000\.tar is not of etc-data"):
        write_shards(source, out, cipher, **OPTIONS, **options)
    assert tree() == before


def test_claim_is_nothing_of_ours_in_a_folder(out, source, cipher, tree):
    (out / "unfinished.json").write_text('{"my": "todo"}')
    before = tree()
    with pytest.raises(OutputExistsError, match=r"such as unfinished\.json"):
        write_shards(source, out, cipher, **OPTIONS, force=True)
    assert tree() == before


def test_ledger_in_another_data_set_is_refused(out, source, cipher, tmp_path, tree):
    before = tree()
    with pytest.raises(OutputExistsError, match="lies inside the data set"):
        write_shards(source, tmp_path / "new", cipher, **OPTIONS, ledger=out / "ledger")
    assert tree() == before


def test_data_set_is_not_replaced_by_nothing(out, cipher, tmp_path, tree):
    (tmp_path / "photos").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "photos" / name).write_bytes(b"no picture")
    before = tree()
    with pytest.raises(SourceError, match="none of the 2 images could be taken"):
        write_shards(tmp_path / "photos", out, cipher, **OPTIONS, force=True)
    assert tree() == before


def test_data_set_is_not_deleted_for_an_engine_that_is_missing(out, source, cipher, tree, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    before = tree()
    with pytest.raises(EtcError, match="the engine ray needs Ray"):
        write_shards(source, out, cipher, **OPTIONS, force=True, engine="ray")
    assert tree() == before
