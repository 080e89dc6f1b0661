"""`etc-data compress-study`: tables, figures, a recommendation that holds, and clear errors."""

import re
import tarfile

import numpy as np
import pytest
from PIL import Image

from etc_data import Cipher, SecretKey
from etc_data.codecs import JpegCodec, decode

FILES = ["curves.png", "curves.svg", "images.csv", "means.csv"]


@pytest.fixture(scope="module")
def kodak(pictures, tmp_path_factory):
    """A folder of three small pieces of real photos, under names that must not get out."""
    folder = tmp_path_factory.mktemp("patients") / "scans"
    folder.mkdir()
    files = sorted((pictures / "kodak24").glob("*.png"))[:3]
    if not files:
        pytest.skip("no Kodak photos")
    for file in files:
        Image.open(file).crop((200, 200, 328, 296)).save(folder / f"anna-{file.name}")
    return folder


def study(etc, source, *options):
    return etc("compress-study", source, *options)


def test_folder_gets_tables_and_figures_without_names(etc, kodak, tmp_path, contents):
    pytest.importorskip("matplotlib")
    out = tmp_path / "deep" / "study"
    result = study(etc, kodak, "-o", out, "--schemes", "etc-16,etc-gray-8", "--size", "96x128")
    assert (result.code, result.out) == (0, ""), result.err
    assert re.match(rf"wrote {out}: \d+ codings of 3 images\n", result.err)
    files = contents(out)
    assert sorted(files) == FILES
    for data in files.values():
        assert b"anna" not in data
        assert b"kodim" not in data
    assert files["means.csv"].startswith(b"treatment,coder,quality,images,height,width,bytes,")
    treatments = {line.split(b",")[0] for line in files["means.csv"].splitlines()[1:]}
    assert treatments == {b"plain", b"etc-16", b"etc-gray-8"}
    Image.open(out / "curves.png").load()


@pytest.mark.parametrize("decibels", [34, 38])
def test_recommended_command_reaches_the_psnr_on_the_photos(etc, kodak, decibels):
    options = ("--size", "96x128", "--schemes", "etc-16,ind-16/8,com-16", "--target-psnr", decibels)
    result = study(etc, kodak, *options)
    assert result.code == 0, result.err
    name = re.search(r"^recommended: (\S+), blocks of 16 pixels$", result.out, re.MULTILINE)[1]
    quality, sampling = re.search(r"--quality (\d+) --subsampling (\S+)$", result.out.rstrip()).groups()
    assert f"--scheme {name} --size 96x128 " in result.out
    assert name in ("etc-16", "ind-16/8")
    codec, cipher = JpegCodec(int(quality), sampling), Cipher(name, SecretKey.generate())
    ratios = []
    for file in sorted(kodak.iterdir()):
        plain = np.asarray(Image.open(file))
        restored = cipher.decrypt(decode(codec.encode(cipher.encrypt(plain))))
        ratios.append(10 * np.log10(255**2 / np.mean((plain.astype(float) - restored) ** 2)))
    # Another key than that of the study moves the mean by hundredths.
    assert np.mean(ratios) > decibels - 0.1


def jpegs_of(shard):
    with tarfile.open(shard) as archive:
        members = [member for member in archive if member.name.endswith(".jpg")]
        return [archive.extractfile(member).read() for member in members]


def test_recommended_command_writes_files_of_that_size(etc, kodak, tmp_path, key):
    found = study(etc, kodak, "--size", 96, "--schemes", "etc-8", "--target-bytes", 7000)
    command = found.out.splitlines()[-1].split()
    assert command[:3] == ["etc-data", "encrypt", str(kodak)]
    arguments = [{"OUT": tmp_path / "out", "KEY": key}.get(word, word) for word in command[1:]]
    result = etc(*arguments)
    assert result.code == 0, result.err
    files = [sample for shard in (tmp_path / "out").glob("*.tar") for sample in jpegs_of(shard)]
    # Another key than that of the study moves sizes by a hundredth.
    assert len(files) == 3
    assert np.mean([len(file) for file in files]) < 1.02 * 7000


def test_lossless_files_and_noise_are_recommended_as_such(etc, kodak):
    options = ("--size", 96, "--target-psnr")
    result = study(etc, kodak, "--schemes", "ele-4", *options, 50)
    assert result.out.rstrip().endswith("--scheme ele-4 --size 96 --lossless")
    result = study(etc, kodak, "--schemes", "shuffle-ind-16", *options, 30)
    assert result.out.rstrip().endswith("--subsampling 4:4:4 --allow-noise")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--size", 32, "--target-psnr", 30, "--schemes", "etc-16"], "has a key space above 2^256"),
        (["--size", 96, "--target-psnr", 60, "--schemes", "etc-gray-8"], "reaches the target"),
        (["--size", 96, "--target-bytes", 10, "--schemes", "etc-8"], "reaches the target"),
    ],
)
def test_no_recommendation_has_a_reason(etc, kodak, options, reason):
    result = study(etc, kodak, *options)
    assert result.code == 0
    assert "recommended" not in result.out
    assert f"no recommendation: no scheme of these {reason} at this size\n" in result.err


def test_limit_takes_fewer_and_enlarged_images_are_told(etc, photos):
    result = study(etc, photos, "--size", 128, "--limit", 2, "--schemes", "etc-16", "--target-psnr", 30)
    assert result.code == 0
    assert result.out.startswith("2 images, target 30 dB\n")
    assert result.err.startswith("2 of 2 images are smaller than the size and were enlarged; ")


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ([], 2, "there is nothing to do: give -o FOLDER, --target-psnr or --target-bytes"),
        (["--target-psnr", 30, "--target-bytes", 9], 2, "--target-psnr and --target-bytes exclude"),
        (["--target-psnr", 10], 2, "invalid value for '--target-psnr'"),
        (["--target-bytes", 0], 2, "invalid value for '--target-bytes'"),
        (["--target-psnr", 30, "--limit", 0], 2, "invalid value for '--limit'"),
        (["--target-psnr", 30, "--size", 8], 2, "--size is 8x8; it must be at least 16"),
        (
            ["--target-psnr", 30, "--size", 100],
            1,
            "image height 100 is not a multiple of block_size 16",
        ),
        (["--target-psnr", 30, "--schemes", "etc-16,bogus"], 1, "there is nothing called 'bogus'"),
        (["--target-psnr", 30, "--schemes", " , "], 1, "no scheme is named"),
    ],
)
def test_wrong_use_is_refused_before_any_image_is_read(etc, tmp_path, options, code, message):
    # The source does not even exist: its absence would be told if it were looked for.
    result = study(etc, tmp_path / "nowhere", *options)
    assert (result.code, result.out) == (code, "")
    assert result.error.startswith(message)


def test_source_that_is_missing_or_no_picture_is_refused(etc, tmp_path, key):
    result = study(etc, tmp_path / "nowhere", "--target-psnr", 30)
    assert (result.code, result.error) == (1, f"'{tmp_path / 'nowhere'}' does not exist")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "a.png").write_bytes(b"no picture")
    result = study(etc, broken, "-o", tmp_path / "study", "--target-psnr", 30)
    assert result.code == 1
    assert result.error.startswith("a.png: cannot be read")
    assert not (tmp_path / "study").exists()


def test_folder_that_holds_something_is_refused(etc, photos, tmp_path):
    (tmp_path / "precious").write_text("precious")
    result = study(etc, photos, "-o", tmp_path)
    assert (result.code, result.error) == (1, f"{tmp_path} is not empty")
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_folder_that_cannot_be_is_refused_before_any_image_is_read(etc, photos, tmp_path):
    (tmp_path / "file").write_text("precious")
    result = study(etc, tmp_path / "nowhere", "-o", tmp_path / "file" / "study")
    assert result.code == 1
    assert result.error.endswith(f"{tmp_path}/file is no folder that can be written to")
    result = study(etc, tmp_path / "nowhere", "-o", "s3://bucket/study")
    assert result.error == "the study's folder must be a folder of this machine, not s3:/bucket/study"
    result = study(etc, photos, "-o", photos / "study")
    assert result.error.startswith(f"{photos}/study lies in {photos}")
    assert not (photos / "study").exists()


def test_encrypted_data_set_is_refused(etc, written):
    result = study(etc, written, "--target-psnr", 30)
    assert result.code == 1
    assert "recommended" not in result.out


def test_terminal_shows_progress(terminal, photos):
    result = terminal(
        "compress-study", photos, "--size", 64, "--schemes", "etc-16", "--target-psnr", 30
    )
    assert result.code == 0
    assert "searching" in result.out
