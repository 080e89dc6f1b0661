"""What goes into the folder that is uploaded, and what only the owner keeps."""

import hashlib
import io
import os
import stat
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from etc_data.cipher import Cipher
from etc_data.codecs import PngCodec, decode
from etc_data.shards import ShardWriter, open_shards, write_shards
from etc_data.shards.ledger import Ledger
from etc_data.sources import load_rgb

CLASSES = ("Krankheitsbild-Alpha", "zz-top-secret-diagnosis")
AUTHOR = "Dr. Ada Q. Photographer"
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def exif_segment(orientation: int, thumbnail: bytes) -> bytes:
    """An EXIF segment with author, orientation and a JPEG thumbnail, as cameras write it."""
    author = AUTHOR.encode() + b"\0"
    first = 8 + 2 + 2 * 12 + 4
    second = first + len(author)
    place = second + 2 + 3 * 12 + 4
    entry = struct.Struct("<HHII").pack
    short = struct.Struct("<HHIHH").pack
    data = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 2)
    data += short(0x0112, 3, 1, orientation, 0) + entry(0x013B, 2, len(author), first)
    data += struct.pack("<I", second) + author + struct.pack("<H", 3)
    data += short(0x0103, 3, 1, 6, 0) + entry(0x0201, 4, 1, place)
    data += entry(0x0202, 4, 1, len(thumbnail)) + bytes(4) + thumbnail
    return b"\xff\xe1" + struct.pack(">H", len(data) + 8) + b"Exif\0\0" + data


def camera_jpeg(image: Image.Image, orientation: int) -> tuple[bytes, bytes]:
    """Returns (file, thumbnail)."""
    small, large = io.BytesIO(), io.BytesIO()
    image.resize((40, 32)).save(small, "JPEG")
    image.save(large, "JPEG", quality=95, subsampling=0, icc_profile=ICC, comment=b"taken in ward 7")
    body = large.getvalue()
    return body[:2] + exif_segment(orientation, small.getvalue()) + body[2:], small.getvalue()


@pytest.fixture(scope="module")
def camera(tmp_path_factory, photo):
    """A folder of photos as they come from cameras, with all their metadata."""
    folder = tmp_path_factory.mktemp("camera")
    thumbnails = []
    for number in range(16):
        image = Image.open(io.BytesIO(photo(number)))
        data, thumbnail = camera_jpeg(image, number % 8 + 1)
        path = folder / CLASSES[number % 2] / f"patient-{number:04d}-Müller.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        thumbnails.append(thumbnail)
    return folder, thumbnails


def test_camera_file_is_read_as_such(camera):
    folder, thumbnails = camera
    path = sorted(folder.rglob("*-0005-*.jpg"))[0]
    with Image.open(path) as image:
        assert image.getexif()[0x0112] == 6
        assert image.getexif()[0x013B] == AUTHOR
        assert image.info["icc_profile"] == ICC
    assert thumbnails[5] in path.read_bytes()


@pytest.fixture(scope="module", params=["dataset", "image", "png"])
def out(request, camera, tmp_path_factory, key):
    folder, _ = camera
    out = tmp_path_factory.mktemp("out") / "shards"
    scope = "image" if request.param == "image" else "dataset"
    codec = PngCodec() if request.param == "png" else None
    cipher = Cipher("etc-16", key, key_scope=scope)
    write_shards(folder, out, cipher, size=48, samples_per_shard=6, codec=codec)
    return out


def test_nothing_of_the_plain_files_is_in_the_folder(camera, out, key):
    folder, thumbnails = camera
    secrets = [b"Exif", b"ICC_PROFILE", ICC[100:132], b"taken in ward 7", AUTHOR.encode(), b"patient"]
    secrets += [b"M\xc3\xbcller", b"M\\u00fcller", str(folder).encode(), folder.name.encode()]
    secrets += [name.encode() for name in CLASSES]
    secrets += [key._secret, key._secret.hex().encode()]
    secrets += [key.subkey(name) for name in ("draws", "nonces", "manifest", "sample-order")]
    for path in folder.rglob("*.jpg"):
        data = path.read_bytes()
        for digest in (hashlib.sha256(data), hashlib.md5(data), hashlib.sha1(data)):
            secrets += [digest.digest(), digest.hexdigest().encode()]
        secrets += [path.name.encode(), path.stem.encode()]
        secrets += [str(path.stat().st_mtime_ns).encode()[:8], data[-200:-100]]
    for thumbnail in thumbnails:
        body = thumbnail[thumbnail.index(b"\xff\xda") + 14 :]
        secrets += [body[i : i + 24] for i in range(0, len(body) - 24, 24)]
    for path in out.iterdir():
        data = path.read_bytes()
        for secret in secrets:
            assert secret not in data, (path.name, secret)
            assert secret.hex().encode() not in data, (path.name, secret)


def test_files_in_the_folder_have_no_names_but_ours(out):
    assert {path.name for path in out.iterdir()} == {
        *("manifest.json", "_info.json", "train.wids"),
        *(f"train-{i:06d}.tar" for i in range(3)),
    }


def test_images_carry_no_metadata(out):
    for sample in open_shards(out, form="sample"):
        with Image.open(io.BytesIO(sample.image)) as image:
            allowed = {"jfif", "jfif_version", "jfif_density", "jfif_unit"}
            assert set(image.info) <= allowed
            assert dict(image.getexif()) == {}


def test_order_of_the_shards_does_not_tell_the_classes(out):
    labels = [sample.label for sample in open_shards(out, form="sample")]
    assert sorted(labels) == [0] * 8 + [1] * 8
    assert labels != sorted(labels) and labels != [i % 2 for i in range(16)]


def test_rotated_photos_decrypt_upright(camera, tmp_path, key):
    folder, _ = camera
    cipher = Cipher("etc-16", key)
    out = tmp_path / "out"
    write_shards(folder, out, cipher, size=(48, 32), codec=PngCodec(), resize="exact")
    items = Ledger.of(out).read_items("train-000000.tar")
    for sample in open_shards(out, form="sample"):
        number = int(items[sample.key].split("-")[-2])
        with Image.open(folder / items[sample.key]) as stored:
            pixels = np.asarray(stored.convert("RGB"))
        if number % 8 >= 4:  # orientations 5 to 8 exchange the sides
            pixels = pixels.transpose(1, 0, 2)
        turns = {1: (1, -1), 2: (-1, -1), 3: (-1, 1), 5: (1, -1), 6: (-1, -1), 7: (-1, 1)}
        down, right = turns.get(number % 8, (1, 1))
        upright = Image.fromarray(np.ascontiguousarray(pixels[::down, ::right]))
        assert np.array_equal(np.asarray(load_rgb(folder / items[sample.key])), np.asarray(upright))
        expected = np.asarray(upright.resize((32, 48), Image.Resampling.BICUBIC))
        assert np.array_equal(cipher.decrypt(decode(sample.image)), expected)


# --- the owner's ledger -----------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="file modes of POSIX")
def test_ledger_is_for_the_owner_alone(out):
    ledger = out.with_name("shards.ledger")
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (ledger, *ledger.rglob("*"))}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}
    assert len(modes) == 16


def test_ledger_tells_names_and_classes_but_no_key(out, camera, key):
    folder, _ = camera
    ledger = Ledger.of(out)
    assert tuple(ledger.read_class_names()) == CLASSES
    items = [item for i in range(3) for item in ledger.read_items(f"train-{i:06d}.tar").values()]
    assert sorted(items) == sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.jpg"))
    secrets = [key._secret, *(key.subkey(name) for name in ("draws", "nonces", "manifest"))]
    for path in ledger.folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            for secret in secrets:
                assert secret not in data and secret.hex().encode() not in data


def test_nothing_in_the_folder_depends_on_where_it_lies(camera, tmp_path, key, contents):
    folder, _ = camera
    cipher = Cipher("com-16", key)
    for name in ("one", "another place"):
        write_shards(folder, tmp_path / name / "out", cipher, size=48)
    assert contents(tmp_path / "one" / "out") == contents(tmp_path / "another place" / "out")


def test_hand_made_shards_carry_no_item_names_either(tmp_path, camera, key):
    folder, _ = camera
    with ShardWriter(tmp_path / "out", Cipher("etc-16", key), size=48) as writer:
        for path in sorted(folder.rglob("*.jpg")):
            writer.write(path.read_bytes(), 0, item=path.name)
    for path in (tmp_path / "out").iterdir():
        data = path.read_bytes()
        assert b"patient" not in data and b"Exif" not in data and b"ICC_PROFILE" not in data
    assert len(Ledger.of(tmp_path / "out").read_items("train-000000.tar")) == 16
