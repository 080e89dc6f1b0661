"""What decryption gives back: every pixel without loss, and with JPEG what plain JPEG would give."""

import shutil

import numpy as np
import pytest

from etc_data.cipher import Cipher
from etc_data.codecs import JpegCodec, PngCodec, decode
from etc_data.fitting import prepare_image
from etc_data.schemes import PRESET_NAMES
from etc_data.shards import open_shards, write_shards
from etc_data.shards.ledger import Ledger
from etc_data.shards.manifest import Manifest
from etc_data.sources import load_rgb

JPEG_FRIENDLY = ["etc-16", "com-16", "ind-16", "com-16/8", "ind-16/8", "etc-8"]
LARGEST_LOSS_DB = 0.3


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    error = np.mean((one.astype(float) - other.astype(float)) ** 2)
    return float(10 * np.log10(255**2 / error))


@pytest.fixture(scope="module")
def photos(pictures, tmp_path_factory):
    """Real photos: 60 of Imagenette in class folders, and 20 others in one, as one source."""
    root = tmp_path_factory.mktemp("photos")
    for folder in sorted((pictures / "imagenette224" / "train").iterdir()):
        (root / folder.name).mkdir(parents=True)
        for path in sorted(folder.glob("*.JPEG"))[:6]:
            shutil.copy(path, root / folder.name)
    (root / "other").mkdir()
    for path in sorted((pictures / "photos").glob("*.JPEG"))[:20]:
        shutil.copy(path, root / "other")
    return root


def decrypted(out, key):
    """Yields (item, label, pixels) of every sample."""
    manifest = Manifest.read(out)
    cipher = manifest.cipher(key)
    ledger = Ledger.of(out)
    items = {}
    for shard in manifest.shards:
        items |= ledger.read_items(shard.name)
    for sample in open_shards(out, form="sample", key=key):
        yield (
            items[sample.key],
            sample.label,
            cipher.decrypt(decode(sample.image), nonce=sample.nonce()),
        )


def mean_psnr(photos, size, out, key):
    """Returns the mean PSNR of decrypted images and of plain JPEG, both against the pixels coded."""
    classes = Ledger.of(out).read_class_names()
    found, plain, seen = [], [], set()
    for item, label, pixels in decrypted(out, key):
        assert classes[label] == item.split("/")[0]
        prepared = np.asarray(prepare_image(load_rgb(photos / item), 16, size=(size, size)))
        found.append(psnr(pixels, prepared))
        plain.append(psnr(decode(JpegCodec().encode(prepared)), prepared))
        seen.add(item)
    assert seen == {path.relative_to(photos).as_posix() for path in photos.rglob("*.JPEG")}
    assert len(found) == len(seen)
    return float(np.mean(found)), float(np.mean(plain))


@pytest.mark.parametrize("key_scope", ["dataset", pytest.param("image", marks=pytest.mark.slow)])
@pytest.mark.parametrize("scheme", JPEG_FRIENDLY)
def test_jpeg_costs_no_more_than_on_plain_photos(tmp_path, photos, key, scheme, key_scope):
    out = tmp_path / "out"
    write_shards(photos, out, Cipher(scheme, key, key_scope=key_scope), size=208)
    found, plain = mean_psnr(photos, 208, out, key)
    print(f"{scheme} {key_scope}: decrypted {found:.2f} dB, plain JPEG {plain:.2f} dB")
    assert abs(found - plain) < LARGEST_LOSS_DB
    assert plain > 38


def test_pixels_of_a_jpeg_file_on_its_own_grid_cost_more(tmp_path, photos, key):
    # Coding what a JPEG decoder gave, on the same grid, is nearly free for plain JPEG, since the
    # coefficients are multiples of the old steps already. Other colors end that: about 1 dB.
    shutil.copytree(photos, tmp_path / "in")
    shutil.rmtree(tmp_path / "in" / "other")
    out = tmp_path / "out"
    write_shards(tmp_path / "in", out, Cipher("etc-16", key), size=224)
    found, plain = mean_psnr(tmp_path / "in", 224, out, key)
    assert found > 45
    assert 0.5 < plain - found < 2


@pytest.mark.parametrize("scheme", PRESET_NAMES)
def test_lossless_shards_give_every_pixel_back(tmp_path, photos, key, scheme):
    few = tmp_path / "few"
    shutil.copytree(photos / "other", few / "other")
    for path in sorted((few / "other").iterdir())[4:]:
        path.unlink()
    out = tmp_path / "out"
    write_shards(few, out, Cipher(scheme, key), size=224, codec=PngCodec(1))
    seen = 0
    for item, label, pixels in decrypted(out, key):
        assert label == 0
        prepared = prepare_image(load_rgb(photos / item), 16, size=(224, 224))
        assert np.array_equal(pixels, np.asarray(prepared))
        seen += 1
    assert seen == 4


@pytest.mark.parametrize("fit", ["pad", "crop", "resize"])
def test_large_photos_of_every_size_come_back(tmp_path, pictures, key, fit):
    source = tmp_path / "in"
    source.mkdir()
    for path in sorted((pictures / "photos").glob("*.JPEG"))[20:26]:
        shutil.copy(path, source)
    for path in sorted((pictures / "kodak24").glob("*.png"))[:2]:
        shutil.copy(path, source)
    out = tmp_path / "out"
    write_shards(source, out, Cipher("etc-16", key, key_scope="image"), fit=fit, codec=PngCodec(1))
    seen = set()
    for item, label, pixels in decrypted(out, key):
        assert label == -1
        assert np.array_equal(pixels, np.asarray(prepare_image(load_rgb(source / item), 16, fit=fit)))
        seen.add(item)
    assert seen == {path.name for path in source.iterdir()}
