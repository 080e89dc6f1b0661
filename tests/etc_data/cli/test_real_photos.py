"""The way of a user with real photos: encrypt, verify, decrypt, compare."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from etc_data.cli.contact_sheet import psnr
from etc_data.sources.images import load_rgb, resize_to


@pytest.fixture(scope="module")
def imagenette(pictures, tmp_path_factory):
    """Five photos of each of ten classes, under splits."""
    folder = tmp_path_factory.mktemp("imagenette")
    for split in ("train", "val"):
        for path in (pictures / "imagenette224" / split).glob("n*"):
            (folder / split / path.name).mkdir(parents=True)
            for photo in sorted(path.iterdir())[: 3 if split == "train" else 2]:
                shutil.copy(photo, folder / split / path.name)
    if not any(folder.iterdir()):
        pytest.skip("no Imagenette here")
    return folder


@pytest.fixture(scope="module")
def holidays(pictures, tmp_path_factory):
    """Ten photos of many sizes, in a folder without classes."""
    folder = tmp_path_factory.mktemp("holidays")
    found = sorted((pictures / "photos").glob("*.JPEG"))[:10]
    if not found:
        pytest.skip("no photos here")
    for path in found:
        shutil.copy(path, folder)
    return folder


@pytest.mark.parametrize(
    ("options", "least"),
    [
        (["--quality", "95"], 34),
        (["--key-scope", "image", "--scheme", "ind-16/8"], 34),
        (["--scheme", "vit-16/8", "--lossless"], np.inf),
    ],
)
def test_imagenette_comes_back(command, etc, imagenette, key, tmp_path, options, least):
    result = command(
        *("encrypt", imagenette, tmp_path / "out", "--key", key, "--size", 224),
        *("--workers", 2, "--json", *options),
    )
    assert result.code == 0, result.err
    record = json.loads(result.out)
    assert (record["samples"], record["classes"], record["failures"]) == (50, 10, 0)
    assert list(record["splits"]) == ["train", "val"]
    assert etc("verify", tmp_path / "out", "--key", key).code == 0
    assert etc("decrypt", tmp_path / "out", tmp_path / "plain", "--key", key).code == 0
    decrypted = sorted((tmp_path / "plain").rglob("*.png"))
    assert len(decrypted) == 50
    for path in decrypted:
        source = imagenette / path.relative_to(tmp_path / "plain").with_suffix("")
        plain = np.asarray(resize_to(load_rgb(source), 224, 224))
        assert psnr(plain, np.asarray(Image.open(path))) >= least


@pytest.mark.parametrize("fit", ["pad", "crop", "resize"])
def test_photos_of_many_sizes_come_back(etc, holidays, key, tmp_path, fit):
    refused = etc("encrypt", holidays, tmp_path / "refused", "--key", key)
    assert refused.code == 1
    assert "is not a multiple of block_size 16" in refused.error
    options = ["--key", key, "--fit", fit, "--lossless", "--key-scope", "image"]
    assert etc("encrypt", holidays, tmp_path / "out", *options).code == 0
    assert etc("decrypt", tmp_path / "out", tmp_path / "plain", "--key", key).code == 0
    for path in sorted(holidays.iterdir()):
        plain = np.asarray(load_rgb(path))
        decrypted = np.asarray(Image.open(tmp_path / "plain" / f"{path.name}.png"))
        assert all(side % 16 == 0 for side in decrypted.shape[:2])
        if fit == "pad":
            assert np.array_equal(decrypted[: plain.shape[0], : plain.shape[1]], plain)
        else:
            assert np.abs(np.subtract(decrypted.shape, plain.shape)).max() < 16


@pytest.mark.parametrize(
    ("scheme", "name"), [("ind-16", "q.jpg"), ("etc-16", "q.png"), ("pe", "q.png")]
)
def test_query_of_a_client_comes_back(etc, holidays, key, tmp_path, scheme, name):
    photo = min(holidays.iterdir())
    options = ["--key", key, "--scheme", scheme, "--size", 224]
    assert etc("encrypt", photo, "-o", tmp_path / name, *options).code == 0
    assert etc("decrypt", tmp_path / name, "-o", tmp_path / "plain.png", "--key", key).code == 0
    plain = np.asarray(resize_to(load_rgb(photo), 224, 224))
    decrypted = np.asarray(Image.open(tmp_path / "plain.png"))
    assert psnr(plain, decrypted) > (33 if name == "q.jpg" else 1000)
    assert psnr(plain, np.asarray(Image.open(tmp_path / name))) < 15


def test_preview_of_a_real_photo(etc, holidays, key, tmp_path):
    result = etc("preview", min(holidays.iterdir()), "--key", key, "-o", tmp_path / "sheet.png")
    assert result.code == 0
    Image.open(tmp_path / "sheet.png").load()
