import json
import os
import shutil

import pytest

from etc_data.errors import EtcError, OutputExistsError, SourceError
from etc_data.shards.output import prepare_output

OURS = ["manifest.json", "_info.json", "train.wids", "train-000000.tar", ".val-000001.tar.partial"]


def files_of(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.fixture
def finished(tmp_path):
    """A folder that looks like a data set with its ledger."""
    out = tmp_path / "out"
    prepare_output(out, force=False)
    for name in OURS:
        is_shard = name.endswith(".tar")
        content = "train-000000000.jpg" if is_shard else json.dumps({"format": "etc-data-shards/1"})
        (out / name).write_text(content)
    return out


def test_folder_and_ledger_are_made(tmp_path):
    prepare_output(tmp_path / "a" / "b" / "out", force=False)
    assert sorted(files_of(tmp_path / "a")) == ["b/out.ledger/README.txt", "b/out.ledger/out.json"]
    assert (tmp_path / "a" / "b" / "out").is_dir()


def test_empty_folder_is_taken(tmp_path):
    (tmp_path / "out").mkdir()
    prepare_output(tmp_path / "out", force=False)


def test_current_folder_is_taken(tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    _, ledger = prepare_output(type(tmp_path)("."), force=False)
    assert ledger.folder == tmp_path / "out.ledger"
    assert ledger.folder.is_dir()


def test_data_set_is_kept_without_force(finished):
    before = files_of(finished.parent)
    with pytest.raises(OutputExistsError, match="out is not empty"):
        prepare_output(finished, force=False)
    assert files_of(finished.parent) == before


def test_force_replaces_data_set_and_ledger(finished):
    ledger = finished.with_name("out.ledger")
    (ledger / "samples" / "train-000000.jsonl").write_text("{}\n")
    prepare_output(finished, force=True)
    assert files_of(finished) == {}
    assert sorted(files_of(ledger)) == ["README.txt", "out.json"]


def test_ledger_alone_is_kept_without_force(finished):
    shutil.rmtree(finished)
    with pytest.raises(OutputExistsError, match=r"out\.ledger exists"):
        prepare_output(finished, force=False)
    prepare_output(finished, force=True)


@pytest.mark.parametrize(
    "name",
    [
        "photo.jpg",
        ".hidden",
        "index.json",
        "train.tar",
        "train-00000.tar",
        "train-0000000.tar",
        "my-train-000000.tar",
        "trän-000000.tar",
        ".movie.partial",
        ".notes.txt.partial",
        "folder/",
        "train-000009.tar/",
        "manifest.json.bak",
    ],
)
@pytest.mark.parametrize("force", [False, True])
def test_foreign_files_are_never_deleted(finished, name, force):
    path = finished / name
    if name.endswith("/"):
        path.mkdir()
    else:
        path.write_bytes(b"mine")
    before = files_of(finished.parent)
    with pytest.raises(OutputExistsError, match="files that are not of a data set, such as"):
        prepare_output(finished, force=force)
    assert files_of(finished.parent) == before
    assert path.exists()


@pytest.mark.parametrize("manifest", [None, b"", b"[]", b'{"format": "litdata/1"}', b"[" * 100_000])
def test_shards_of_another_program_are_never_deleted(tmp_path, manifest):
    out = tmp_path / "out"
    out.mkdir()
    (out / "train-000000.tar").write_bytes(b"years of work")
    if manifest is not None:
        (out / "manifest.json").write_bytes(manifest)
    before = files_of(out)
    with pytest.raises(OutputExistsError, match="no manifest of etc-data and no ledger"):
        prepare_output(out, force=True)
    assert files_of(out) == before


def test_unfinished_data_set_is_replaced_with_force(finished):
    (finished / "manifest.json").unlink()
    prepare_output(finished, force=True)
    assert files_of(finished) == {}


@pytest.mark.parametrize("format_name", ["etc-data-shards/1", "etc-data-shards/2"])
def test_data_set_without_its_ledger_is_replaced_with_force(finished, format_name):
    shutil.rmtree(finished.with_name("out.ledger"))
    (finished / "manifest.json").write_text(json.dumps({"format": format_name}))
    prepare_output(finished, force=True)
    assert files_of(finished) == {}


@pytest.mark.parametrize("name", ["accounts.xls", "samples/notes.txt", "2026/"])
def test_foreign_files_in_the_ledger_are_never_deleted(finished, name):
    path = finished.with_name("out.ledger") / name
    if name.endswith("/"):
        path.mkdir()
    else:
        path.write_bytes(b"mine")
    before = files_of(finished.parent)
    with pytest.raises(OutputExistsError, match="files that are not of a ledger"):
        prepare_output(finished, force=True)
    assert files_of(finished.parent) == before


def test_link_that_poses_as_a_shard_loses_the_link_alone(finished, tmp_path):
    (tmp_path / "precious").write_bytes(b"mine")
    (finished / "train-000007.tar").symlink_to(tmp_path / "precious")
    prepare_output(finished, force=True)
    assert (tmp_path / "precious").read_bytes() == b"mine"
    assert files_of(finished) == {}


@pytest.mark.parametrize("name", ["out", "out.ledger"])
@pytest.mark.parametrize("force", [False, True])
def test_file_in_the_way_is_refused(tmp_path, name, force):
    (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(OutputExistsError, match=f"{name} exists and is no folder"):
        prepare_output(tmp_path / "out", force=force)
    assert files_of(tmp_path) == {name: b"mine"}


@pytest.mark.parametrize(
    ("out", "source"),
    [
        ("photos", "photos"),
        ("photos/out", "photos"),
        ("photos/deep/out", "photos"),
        ("all", "all/photos"),
        ("x/../photos", "photos"),
        ("link", "photos"),
        ("link/out", "photos"),
        ("photos", "photos.ledger"),
        ("photos", "photos.ledger/samples"),
    ],
)
def test_overlap_with_the_source_is_refused_before_anything_is_made(tmp_path, out, source):
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    (tmp_path / source).mkdir(parents=True, exist_ok=True)
    (tmp_path / source / "1.jpg").write_bytes(b"plain")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SourceError, match="overlap"):
        prepare_output(tmp_path / out, force=True, source=tmp_path / source)
    assert sorted(tmp_path.rglob("*")) == before


def test_folders_side_by_side_do_not_overlap(tmp_path):
    (tmp_path / "photos").mkdir()
    prepare_output(tmp_path / "photos-out", force=False, source=tmp_path / "photos")


def test_folder_that_cannot_be_made_is_our_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(EtcError, match=r"out(\.ledger)? cannot be written: "):
        prepare_output(tmp_path / "file" / "out", force=False)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs to become another user")
@pytest.mark.skipif(getattr(os, "geteuid", lambda: 1)() != 0, reason="only root can become another")
def test_folder_that_belongs_to_someone_else_is_our_error(tmp_path):
    (tmp_path / "mine").mkdir(mode=0o755)
    (tmp_path / "mine").chmod(0o755)
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.chdir(tmp_path / "mine")
            os.setuid(65534)
            prepare_output(type(tmp_path)("out"), force=False)
        except EtcError as error:
            os.write(write_end, str(error).encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as file:
        assert file.read() == b"out cannot be written: Permission denied"
    os.waitpid(child, 0)
