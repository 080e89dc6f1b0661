import json
import shutil

import numpy as np
import pytest
from PIL import Image

from etc_data.cipher import Cipher
from etc_data.codecs import JpegCodec, PngCodec, decode
from etc_data.errors import (
    DamagedShardError,
    EtcError,
    ManifestError,
    OutputExistsError,
    SourceError,
    WrongKeyError,
)
from etc_data.keys import SecretKey
from etc_data.shards import ShardWriter, decrypt_shards, write_shards
from etc_data.sources import load_rgb


@pytest.fixture(scope="module")
def lossless(tmp_path_factory, source, key):
    out = tmp_path_factory.mktemp("lossless") / "out"
    write_shards(source, out, Cipher("ind-16/8", key), size=48, codec=PngCodec(), samples_per_shard=10)
    return out


def files_of(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def prepared(path):
    return np.asarray(load_rgb(path).resize((61, 48), Image.Resampling.BICUBIC))[:, 6:54]


def test_images_are_called_like_their_sources(tmp_path, lossless, source, key):
    seen = []
    summary = decrypt_shards(lossless, tmp_path / "plain", key, tick=seen.append)
    assert (summary.images, summary.named_by_ledger) == (33, True)
    assert seen == [1] * 33
    names = {p.relative_to(source).as_posix() for p in source.rglob("*.jpg")}
    assert files_of(tmp_path / "plain") == {f"{name}.png" for name in names}
    for name in names:
        found = decode((tmp_path / "plain" / f"{name}.png").read_bytes())
        assert np.array_equal(found, prepared(source / name))


def test_images_are_called_by_their_keys_without_a_ledger(tmp_path, lossless, key):
    folder = shutil.copytree(lossless, tmp_path / "copy")
    summary = decrypt_shards(folder, tmp_path / "plain", key)
    assert (summary.images, summary.named_by_ledger) == (33, False)
    names = sorted(files_of(tmp_path / "plain"))
    assert len(names) == 33
    assert all(name.split("/")[0] == name.split("/")[2].split("-")[0] for name in names)
    assert {name.split("/")[1] for name in names} == {"0000", "0001", "0002"}
    assert {name[-4:] for name in names} == {".png"}


def test_ledger_is_found_beside_the_current_folder(tmp_path, lossless, key, monkeypatch):
    monkeypatch.chdir(lossless)
    assert decrypt_shards(".", tmp_path / "plain", key).named_by_ledger


def test_unlabeled_images_are_told_apart(tmp_path, photo, key):
    with ShardWriter(tmp_path / "out", Cipher("etc-16", key), size=32) as writer:
        writer.write(photo(0))
    summary = decrypt_shards(tmp_path / "out", tmp_path / "plain", key)
    assert not summary.named_by_ledger
    assert files_of(tmp_path / "plain") == {"train/unlabeled/train-000000000.png"}


def test_decrypted_jpeg_is_named_and_coded_so(tmp_path, lossless, key):
    decrypt_shards(lossless, tmp_path / "plain", key, codec=JpegCodec(80))
    paths = [path for path in (tmp_path / "plain").rglob("*") if path.is_file()]
    assert len(paths) == 33
    assert all(p.name.endswith(".jpg.jpg") and p.read_bytes()[:3] == b"\xff\xd8\xff" for p in paths)


def written_with(tmp_path, photo, key, items):
    with ShardWriter(tmp_path / "out", Cipher("etc-16", key), size=32) as writer:
        for number, item in enumerate(items):
            writer.write(photo(number), item=item)
    return tmp_path / "out"


def test_samples_of_one_source_do_not_overwrite_each_other(tmp_path, photo, key):
    out = written_with(tmp_path, photo, key, ["scan", "scan", "other", "scan", "scan.png"])
    assert decrypt_shards(out, tmp_path / "plain", key).images == 5
    assert files_of(tmp_path / "plain") == {
        *("scan.png", "scan.train-000000001.png", "other.png"),
        *("scan.train-000000003.png", "scan.png.png"),
    }


HOSTILE = ["../up", "/etc/passwd", "a/../../up", "..", ".", "./", "/", "", "nul\0byte", "a/..", "//x"]


@pytest.mark.parametrize("item", HOSTILE)
def test_item_never_leads_out_of_the_folder(tmp_path, photo, key, item):
    out = written_with(tmp_path, photo, key, [item])
    before = files_of(tmp_path)
    summary = decrypt_shards(out, tmp_path / "plain", key)
    assert not summary.named_by_ledger
    assert files_of(tmp_path) - before == {"plain/train/unlabeled/train-000000000.png"}


@pytest.mark.parametrize(
    "item", ["a/b c/ü☀.jpg", "x\ny", "a\u2028b", "caf\\xe9", "a//b/./c", "-o", "a."]
)
def test_odd_item_names_are_kept(tmp_path, photo, key, item):
    out = written_with(tmp_path, photo, key, [item])
    assert decrypt_shards(out, tmp_path / "plain", key).named_by_ledger
    assert len(files_of(tmp_path / "plain")) == 1
    expected = (tmp_path / "plain" / item).with_name(item.split("/")[-1] + ".png")
    assert expected.is_file()


# --- what is refused --------------------------------------------------------------------------


def test_wrong_key_is_refused_before_anything_is_written(tmp_path, lossless):
    with pytest.raises(WrongKeyError):
        decrypt_shards(lossless, tmp_path / "plain", SecretKey(bytes(32)))
    assert not (tmp_path / "plain").exists()


def test_altered_manifest_is_refused_before_anything_is_written(tmp_path, lossless, key):
    folder = shutil.copytree(lossless, tmp_path / "copy")
    value = json.loads((folder / "manifest.json").read_bytes())
    value["context"] = "another"
    (folder / "manifest.json").write_text(json.dumps(value))
    with pytest.raises(ManifestError, match="altered"):
        decrypt_shards(folder, tmp_path / "plain", key)
    assert not (tmp_path / "plain").exists()


def test_damaged_shard_gives_none_of_its_images(tmp_path, lossless, key):
    folder = shutil.copytree(lossless, tmp_path / "copy")
    path = folder / "train-000001.tar"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedShardError, match=r"train-000001\.tar was altered"):
        decrypt_shards(folder, tmp_path / "plain", key)
    assert len(files_of(tmp_path / "plain")) == 9


def test_full_folder_is_refused(tmp_path, lossless, key):
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "mine").write_bytes(b"")
    with pytest.raises(OutputExistsError, match="not an empty folder"):
        decrypt_shards(lossless, tmp_path / "plain", key)
    with pytest.raises(OutputExistsError, match="not an empty folder"):
        decrypt_shards(lossless, tmp_path / "plain" / "mine", key)
    with pytest.raises(OutputExistsError, match="not an empty folder"):
        decrypt_shards(lossless, lossless, key)
    assert files_of(tmp_path) == {"plain/mine"}


def test_plain_images_are_never_put_into_the_folder_that_is_uploaded(data_set, key):
    before = files_of(data_set)
    for out in (data_set / "plain", data_set / "deep" / "plain"):
        with pytest.raises(SourceError, match="overlap"):
            decrypt_shards(data_set, out, key)
    assert files_of(data_set) == before


def test_folder_that_cannot_be_made_is_our_error(tmp_path, lossless, key):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(EtcError, match="plain cannot be written: Not a directory"):
        decrypt_shards(lossless, tmp_path / "file" / "plain", key)


def test_damaged_ledger_is_named(tmp_path, lossless, key):
    shutil.copytree(lossless, tmp_path / "copy")
    ledger = shutil.copytree(lossless.with_name("out.ledger"), tmp_path / "copy.ledger")
    (ledger / "samples" / "train-000002.jsonl").write_text("{}\n")
    with pytest.raises(ManifestError, match=r"the ledger's samples/train-000002\.jsonl is damaged"):
        decrypt_shards(tmp_path / "copy", tmp_path / "plain", key)


@pytest.mark.parametrize("out", ["s3://bucket/plain", "s3:/bucket/plain", "https://host/x"])
def test_plain_images_do_not_go_to_a_folder_that_looks_like_a_url(written, key, out):
    with pytest.raises(EtcError, match="must be a folder of this machine"):
        decrypt_shards(written, out, key)


def test_names_too_long_for_a_file_system_give_way_to_sample_keys(tmp_path, photo, key):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / ("a" * 240 + ".jpg")).write_bytes(photo(0))
    (tmp_path / "in" / "b.jpg").write_bytes(photo(1))
    write_shards(tmp_path / "in", tmp_path / "out", Cipher("etc-16", key), size=48)
    summary = decrypt_shards(tmp_path / "out", tmp_path / "plain", key)
    assert (summary.images, summary.named_by_ledger) == (2, False)
    names = sorted(path.name for path in (tmp_path / "plain").rglob("*.png"))
    assert names[0] == "b.jpg.png"
    assert names[1].startswith("train-00000000")
