"""`etc-data encrypt SOURCE OUT`: what is written, what is said, and what is refused."""

import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from etc_data import Cipher, SecretKey
from etc_data.shards.ledger import Ledger
from etc_data.shards.manifest import Manifest
from etc_data.shards.reader import open_shards
from etc_data.shards.verify import verify_shards


@pytest.fixture
def encrypt(etc, photos, key, tmp_path):
    """encrypt(options) writes `photos` to tmp_path/"out" and returns the result."""

    def run(*options, source=photos, out=tmp_path / "out", runner=etc):
        return runner("encrypt", source, out, "--key", key, *options)

    return run


def samples(out):
    return list(open_shards(out, form="sample"))


def assert_nothing_was_written(folder):
    assert [path.name for path in folder.iterdir()] == []


def test_all_documented_options_together(command, photos, tmp_path, key):
    out = tmp_path / "OUT"
    result = command(
        *("encrypt", photos, out, "--key", key, "--scheme", "etc-16"),
        *("--size", "224", "--quality", "95", "--workers", "2"),
    )
    assert (result.code, result.out) == (0, "")
    manifest = verify_shards(out, key=SecretKey.load(key))
    assert (manifest.samples, manifest.classes, manifest.size) == (8, 2, (224, 224))
    assert manifest.codec == {"name": "jpeg", "quality": 95, "subsampling": "4:4:4"}
    assert manifest.scheme.name == "etc-16"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["OUT", "OUT.ledger"]


def test_summary_tells_counts_what_to_upload_and_what_to_keep(encrypt, tmp_path):
    out = tmp_path / "out"
    result = encrypt()
    lines = result.err.splitlines()
    assert lines[0].startswith("wrote 8 samples (train 8) in 1 shard")
    assert "images/s" in lines[0]
    assert lines[1] == f"  upload   {out}"
    assert lines[2] == f"  keep     {out}.ledger (which sample is which photo: for you alone)"
    assert lines[3].startswith(f"  next     etc-data verify {out}    etc-data preview ")
    assert len(lines) == 4


def test_json_summary_is_one_object_on_standard_output(encrypt, tmp_path, key):
    result = encrypt("--json", "--size", "64", "--samples-per-shard", "3")
    record = json.loads(result.out)
    manifest = Manifest.read(tmp_path / "out")
    assert record.pop("seconds") > 0
    assert record.pop("images_per_second") > 0
    assert record.pop("megabytes_per_second") > 0
    assert record.pop("source_bytes") > 8_000
    assert record == {
        "out": str(tmp_path / "out"),
        "ledger": str(tmp_path / "out.ledger"),
        "scheme": "etc-16",
        "key_id": SecretKey.load(key).id,
        "key_scope": "dataset",
        "samples": 8,
        "resumed": 0,
        "classes": 2,
        "shards": 3,
        "splits": {"train": {"samples": 8, "shards": 3}},
        "bytes": manifest.total_bytes,
        "failures": 0,
        "strays": 0,
    }


def test_number_of_workers_does_not_change_a_byte(encrypt, command, contents, tmp_path):
    options = ["--size", "48", "--samples-per-shard", "3", "--key-scope", "image"]
    assert encrypt(*options, out=tmp_path / "one").code == 0
    assert encrypt(*options, "--workers", "2", out=tmp_path / "two", runner=command).code == 0
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_samples_are_the_encrypted_photos(encrypt, tmp_path, photos, key):
    encrypt("--lossless")
    names = Ledger.of(tmp_path / "out").read_items("train-000000.tar")
    cipher = Cipher("etc-16", SecretKey.load(key))
    for sample in samples(tmp_path / "out"):
        plain = np.asarray(Image.open(photos / names[sample.key]))
        encrypted = np.asarray(Image.open(io.BytesIO(sample.image)))
        assert np.array_equal(encrypted, cipher.encrypt(plain))
        assert sample.label == names[sample.key].startswith("bob")


def test_class_and_file_names_stay_with_the_owner(encrypt, contents, tmp_path):
    encrypt()
    everything = b"".join(contents(tmp_path / "out").values())
    assert not any(name in everything for name in (b"ana", b"bob", b"sick", b"png"))
    assert (tmp_path / "out.ledger").stat().st_mode & 0o777 == 0o700
    assert json.loads((tmp_path / "out.ledger" / "classes.json").read_text()) == [
        "ana-sick",
        "bob-well",
    ]


def test_labels_can_be_left_out(encrypt, tmp_path):
    assert encrypt("--labels", "none").code == 0
    assert {sample.label for sample in samples(tmp_path / "out")} == {-1}
    manifest = Manifest.read(tmp_path / "out")
    assert (manifest.labels, manifest.classes) == ("none", 0)
    assert b".cls" not in (tmp_path / "out" / "train-000000.tar").read_bytes()


def test_image_scope_gives_every_sample_its_nonce(encrypt, tmp_path):
    assert encrypt("--key-scope", "image").code == 0
    assert len({sample.nonce() for sample in samples(tmp_path / "out")} - {None}) == 8
    assert Manifest.read(tmp_path / "out").key_scope == "image"


def test_context_is_recorded_and_changes_the_pixels(encrypt, tmp_path):
    encrypt(out=tmp_path / "a")
    encrypt("--context", "ward 7, Größe", out=tmp_path / "b")
    assert Manifest.read(tmp_path / "b").context == "ward 7, Größe"
    images = [{sample.image for sample in samples(tmp_path / name)} for name in "ab"]
    assert not images[0] & images[1]


@pytest.mark.parametrize(
    ("options", "codec", "magic"),
    [
        (["--quality", "70"], {"name": "jpeg", "quality": 70, "subsampling": "4:4:4"}, b"\xff\xd8"),
        (
            ["--subsampling", "4:2:0"],
            {"name": "jpeg", "quality": 95, "subsampling": "4:2:0"},
            b"\xff\xd8",
        ),
        (["--lossless"], {"name": "png", "level": 1}, b"\x89PNG"),
    ],
)
def test_coding_is_as_asked_for(encrypt, tmp_path, options, codec, magic):
    assert encrypt(*options).code == 0
    recorded = Manifest.read(tmp_path / "out").codec
    assert recorded["name"] == codec["name"]
    assert codec["name"] == "png" or recorded == codec
    assert all(sample.image.startswith(magic) for sample in samples(tmp_path / "out"))


@pytest.mark.parametrize(
    ("options", "size"),
    [
        (["--size", "224x112"], (224, 112)),
        (["--size", "32×48"], (32, 48)),
        (["--size", "64", "--resize", "exact"], (64, 64)),
        (["--size", "100", "--fit", "pad"], (112, 112)),
        (["--size", "100", "--fit", "crop"], (96, 96)),
        (["--size", "100", "--fit", "resize"], (96, 96)),
        ([], (64, 96)),
    ],
)
def test_size_is_height_and_width(encrypt, tmp_path, options, size):
    assert encrypt(*options).code == 0
    for sample in samples(tmp_path / "out"):
        assert Image.open(io.BytesIO(sample.image)).size == size[::-1]


@pytest.mark.parametrize("scheme", ["etc-8", "ind-16/8", "com-32"])
def test_scheme_is_as_asked_for(encrypt, tmp_path, scheme):
    assert encrypt("--scheme", scheme).code == 0
    assert Manifest.read(tmp_path / "out").scheme.name == scheme


def test_noise_scheme_is_refused_for_jpeg_with_the_ways_out(encrypt, tmp_path):
    result = encrypt("--scheme", "vit-16/8")
    assert (result.code, result.out) == (1, "")
    assert result.error.startswith("scheme vit-16/8 looks like noise to JPEG")
    assert "--lossless" in result.hint
    assert "--allow-noise" in result.hint
    assert_nothing_was_written(tmp_path)


@pytest.mark.parametrize("option", ["--lossless", "--allow-noise"])
def test_noise_scheme_is_written_by_either_way_out(encrypt, tmp_path, option):
    assert encrypt("--scheme", "vit-16/8", option).code == 0
    verify_shards(tmp_path / "out")


def test_unknown_scheme_is_refused_with_the_known_ones(encrypt, tmp_path):
    result = encrypt("--scheme", "etc16")
    assert result.code == 1
    assert result.error.startswith("there is no scheme 'etc16'; there are etc-16, com-16,")
    assert result.hint == "etc-data schemes explains them"
    assert_nothing_was_written(tmp_path)


def test_size_that_does_not_fit_the_blocks_is_refused_with_the_ways_out(encrypt, tmp_path):
    result = encrypt("--size", "100")
    assert (result.code, result.out) == (1, "")
    assert "100 is not a multiple of block_size 16" in result.error
    assert "96 or 112" in result.error
    assert "--fit" in result.hint
    assert_nothing_was_written(tmp_path)


def test_folder_that_is_not_empty_is_refused(encrypt, tmp_path, contents):
    encrypt()
    before = contents(tmp_path)
    result = encrypt("--scheme", "com-16")
    assert (result.code, result.out) == (1, "")
    assert result.error == f"folder {tmp_path / 'out'} is not empty"
    assert "--force" in result.hint
    assert contents(tmp_path) == before


def test_force_replaces_a_data_set_and_its_ledger(encrypt, tmp_path, make_photo):
    encrypt("--samples-per-shard", "2")
    source = make_photo(tmp_path / "new" / "x.png").parent
    assert encrypt("--force", source=source).code == 0
    assert verify_shards(tmp_path / "out").samples == 1
    ledger = tmp_path / "out.ledger" / "samples"
    assert [path.name for path in ledger.iterdir()] == ["train-000000.jsonl"]


@pytest.mark.parametrize("options", [[], ["--force"]])
def test_files_of_someone_else_are_never_deleted(encrypt, tmp_path, options):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    result = encrypt(*options)
    assert result.code == 1
    assert "holds files that are not of a data set, such as thesis.tex" in result.error
    assert (tmp_path / "out" / "thesis.tex").read_text() == "years of work"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_failed_force_keeps_the_old_data_set(encrypt, tmp_path, contents):
    encrypt()
    before = contents(tmp_path)
    assert encrypt("--force", "--size", "100").code == 1
    assert encrypt("--force", "--scheme", "pe").code == 1
    assert encrypt("--force", source=tmp_path / "out.ledger" / "samples").code == 1
    assert contents(tmp_path) == before


@pytest.fixture
def mixed(photos, tmp_path):
    """A folder of eight photos, three files that only look like photos, and a text."""
    folder = shutil.copytree(photos, tmp_path / "mixed")
    whole = (folder / "ana-sick" / "0.png").read_bytes()
    (folder / "ana-sick" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "bob-well" / "empty.jpg").touch()
    (folder / "bob-well" / "text.jpg").write_text("no photo")
    (folder / "notes.txt").write_text("call back")
    return folder


def test_bad_images_are_listed_and_the_rest_is_whole(encrypt, mixed, tmp_path, key):
    result = encrypt(source=mixed)
    assert (result.code, result.out) == (1, "")
    assert "wrote 8 samples" in result.err
    assert "  3 could not be taken:\n    ana-sick/cut.png: cannot be read: " in result.err
    assert "    bob-well/empty.jpg: the file is empty\n" in result.err
    assert "were passed over:\n    notes.txt: has no extension of a picture\n" in result.err
    assert "3 of 11 images could not be taken" in result.error
    assert "ana-sick/cut.png" in result.error
    assert "--skip-bad accepts that" in result.hint
    assert verify_shards(tmp_path / "out", key=SecretKey.load(key)).samples == 8
    noted = (tmp_path / "out.ledger" / "failures.jsonl").read_text().splitlines()
    assert [json.loads(line)["item"] for line in noted] == [
        "ana-sick/cut.png",
        "bob-well/empty.jpg",
        "bob-well/text.jpg",
        "notes.txt",
    ]


def test_skip_bad_accepts_bad_images(encrypt, mixed, tmp_path):
    result = encrypt("--skip-bad", source=mixed)
    assert (result.code, result.out) == (0, "")
    assert "  3 could not be taken:\n" in result.err
    assert "etc-data: error" not in result.err
    verify_shards(tmp_path / "out")


def test_json_summary_is_printed_when_images_are_bad_too(encrypt, mixed):
    result = encrypt("--json", source=mixed)
    assert result.code == 1
    record = json.loads(result.out)
    assert (record["samples"], record["failures"], record["strays"]) == (8, 3, 1)


def test_only_the_first_bad_images_are_listed(encrypt, mixed):
    for number in range(20):
        (mixed / "ana-sick" / f"bad-{number:02d}.jpg").touch()
    result = encrypt("--skip-bad", source=mixed)
    assert "  23 could not be taken:\n" in result.err
    assert result.err.count("the file is empty") == 5
    assert "failures.jsonl" in result.err


def test_folder_without_any_good_image_is_an_error(encrypt, tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a.jpg").write_text("no photo")
    result = encrypt("--skip-bad", source=tmp_path / "source")
    assert (result.code, result.out) == (1, "")
    assert result.error.startswith("none of the 1 images could be ")
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert not list(tmp_path.rglob("*.tar"))
