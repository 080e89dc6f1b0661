"""Where `etc-data encrypt` reads and writes: missing, unwritable, overlapping and odd names."""

import os
from pathlib import Path

import pytest

from etc_data import SecretKey
from etc_data.shards.verify import verify_shards

as_user = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may write everywhere"
)


def test_missing_source_is_refused(etc, tmp_path, key):
    result = etc("encrypt", tmp_path / "nowhere", tmp_path / "out", "--key", key)
    assert (result.code, result.out) == (1, "")
    assert result.error == f"'{tmp_path}/nowhere' does not exist"
    assert list(tmp_path.iterdir()) == []


def test_folder_without_out_is_wrong_usage(etc, photos, key, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for arguments in (["encrypt", photos], ["encrypt", photos, "-o", "x.jpg"]):
        result = etc(*arguments, "--key", key)
        assert result.code == 2
        assert "etc-data encrypt SOURCE OUT" in result.error
    assert list(tmp_path.iterdir()) == []


def test_empty_source_is_refused(etc, tmp_path, key):
    (tmp_path / "source").mkdir()
    result = etc("encrypt", tmp_path / "source", tmp_path / "out", "--key", key)
    assert result.code == 1
    assert "holds no image" in result.error
    assert "folders of images by class" in result.hint
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_source_that_is_a_data_set_holds_no_image(etc, written, tmp_path, key):
    result = etc("encrypt", written, tmp_path / "out", "--key", key)
    assert result.code == 1
    assert "encrypted" in result.error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("out", ["", "out", "ana-sick/out", "..", "../.."])
def test_out_and_source_may_not_overlap(etc, photos, key, contents, out):
    before = contents(photos)
    result = etc("encrypt", photos, photos / out, "--key", key, "--force")
    assert result.code == 1
    assert "overlap; uploading one would upload the other" in result.error
    assert contents(photos) == before


def test_out_that_is_a_file_is_refused(etc, photos, key, tmp_path):
    (tmp_path / "out").write_text("precious")
    result = etc("encrypt", photos, tmp_path / "out", "--key", key, "--force")
    assert (result.code, result.error) == (1, f"{tmp_path}/out exists and is no folder")
    assert (tmp_path / "out").read_text() == "precious"


def test_out_below_a_file_cannot_be_made(etc, photos, key, tmp_path):
    (tmp_path / "file").write_text("precious")
    result = etc("encrypt", photos, tmp_path / "file" / "out", "--key", key)
    assert (result.code, result.out) == (1, "")
    assert "file" in result.error
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@as_user
def test_out_in_a_folder_without_write_permission_cannot_be_made(etc, photos, key, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    result = etc("encrypt", photos, tmp_path / "locked" / "out", "--key", key)
    assert (result.code, result.out) == (1, "")
    assert "Permission denied" in result.error
    assert list((tmp_path / "locked").iterdir()) == []


def test_parents_of_out_are_made(etc, photos, key, tmp_path):
    assert etc("encrypt", photos, tmp_path / "a" / "b" / "out", "--key", key).code == 0
    verify_shards(tmp_path / "a" / "b" / "out")


@pytest.mark.parametrize("name", ["o ut", "Größe 鍵 📷", "-out", "--force", "it's", "a.b.c"])
def test_odd_names_work_from_end_to_end(etc, make_photo, key, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    make_photo(tmp_path / f"{name}-in" / f"{name} class" / f"{name} .png")
    result = etc("encrypt", "--key", key, "--", f"{name}-in", name)
    assert result.code == 0, result.err
    assert f"\n  upload   {name}\n" in result.err
    assert etc("verify", "--key", key, "--", name).code == 0
    assert etc("inspect", "--", name).code == 0
    assert etc("decrypt", "--key", key, "--", name, f"{name}-plain").code == 0
    plain = [path.name for path in (tmp_path / f"{name}-plain").rglob("*.png")]
    assert plain == [f"{name} .png.png"]


def test_name_that_is_not_utf8_works_and_is_shown_escaped(command, make_photo, key, tmp_path):
    odd = Path(os.fsdecode(bytes(tmp_path) + b"/caf\xe9"))
    try:
        make_photo(odd / "x.png")
    except OSError:
        pytest.skip("this file system takes only UTF-8")
    out = odd.with_name(odd.name + "-out")
    result = command("encrypt", odd, out, "--key", key)
    assert result.code == 0, result.err
    assert r"caf\udce9-out" in result.err
    assert command("verify", out).code == 0


def test_command_proposed_next_can_be_pasted_into_a_shell(etc, photos, key, tmp_path):
    out = tmp_path / "two words"
    result = etc("encrypt", photos, out, "--key", key)
    assert f"etc-data verify '{out}'" in result.err


def test_trailing_slashes_and_relative_paths_work(etc, photos, key, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert etc("encrypt", f"{photos}/", "./out/", "--key", key).code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.ledger"]
    verify_shards("out", key=SecretKey.load(key))


def test_ledger_of_the_current_folder_lies_beside_it(etc, photos, key, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert etc("encrypt", photos, ".", "--key", key).code == 0
    assert (tmp_path / "here" / "manifest.json").exists()
    assert (tmp_path / "here.ledger").is_dir()
    assert not list((tmp_path / "here").glob("*ledger*"))


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("s3:/bucket/set", "s3:/bucket/set is neither a path nor a URL"),
        ("https:/host/set", "https:/host/set is neither a path nor a URL"),
        ("zip::s3://bucket/set", "zip::s3://bucket/set chains several file systems"),
        ("local:///set", "local:// leads to this machine"),
        ("file://set", "file://set does not tell the whole path of a folder"),
        ("s3://", "s3:// names no bucket"),
        (
            "S3://bucket/../set",
            "s3://bucket/../set has '..' in its path, where a folder's name should be",
        ),
    ],
)
def test_what_is_nearly_a_url_is_refused_and_never_a_folder(
    etc, photos, key, tmp_path, monkeypatch, place, message
):
    monkeypatch.chdir(tmp_path)
    for arguments in (
        ["encrypt", photos, place, "--key", key],
        ["decrypt", place, "plain", "--key", key],
        ["verify", place],
        ["inspect", place],
    ):
        result = etc(*arguments)
        assert (result.code, result.out, result.error) == (1, "", message)
    assert list(tmp_path.iterdir()) == []


def test_file_url_with_a_space_is_the_folder(etc, photos, key, tmp_path):
    url = f"file://{tmp_path}/my%20shards"
    assert etc("encrypt", photos, url, "--key", key).code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my shards", "my shards.ledger"]
    assert etc("verify", url, "--key", key).code == 0
    assert etc("decrypt", url, tmp_path / "plain", "--key", key).code == 0
