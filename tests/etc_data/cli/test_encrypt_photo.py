"""`etc-data encrypt PHOTO -o FILE`: one encrypted image, what a client sends."""

import io
import os

import numpy as np
import pytest
from PIL import Image

from etc_data import Cipher, SecretKey
from etc_data.shards.single import ImageNote, decrypt_photo


@pytest.fixture
def encrypt(etc, photo, key, tmp_path):
    """encrypt("q.jpg", options) writes to tmp_path/"q.jpg" and returns the result."""

    def run(name, *options, source=photo, runner=etc, stdin=b""):
        out = name if name == "-" else tmp_path / name
        return runner("encrypt", source, "-o", out, "--key", key, *options, stdin=stdin)

    return run


def decrypted(data, key) -> np.ndarray:
    return np.asarray(decrypt_photo(data, SecretKey.load(key)))


def test_client_command_of_the_documentation(encrypt, command, tmp_path, key):
    result = encrypt("query.jpg", "--scheme", "ind-16", "--size", "224", runner=command)
    assert (result.code, result.out) == (0, "")
    data = (tmp_path / "query.jpg").read_bytes()
    identity = SecretKey.load(key).id
    assert result.err.startswith(f"wrote {tmp_path}/query.jpg: ")
    assert result.err.endswith(f" KiB, ind-16, key {identity}\n")
    assert Image.open(io.BytesIO(data)).size == (224, 224)
    assert ImageNote.read(data).scheme.name == "ind-16"
    assert [path.name for path in tmp_path.iterdir()] == ["query.jpg"]


def test_lossless_image_is_the_cipher_of_the_photo(encrypt, tmp_path, photo, key):
    assert encrypt("q.png").code == 0
    encrypted = np.asarray(Image.open(tmp_path / "q.png"))
    plain = np.asarray(Image.open(photo))
    assert np.array_equal(encrypted, Cipher("etc-16", SecretKey.load(key)).encrypt(plain))
    assert np.array_equal(decrypted((tmp_path / "q.png").read_bytes(), key), plain)


@pytest.mark.parametrize(
    ("name", "magic"),
    [
        ("q.jpg", b"\xff\xd8"),
        ("q.jpeg", b"\xff\xd8"),
        ("q.JPG", b"\xff\xd8"),
        ("q.png", b"\x89PNG"),
        ("q.PNG", b"\x89PNG"),
        ("my.holiday.jpg", b"\xff\xd8"),
    ],
)
def test_extension_tells_the_coding(encrypt, tmp_path, name, magic):
    assert encrypt(name).code == 0
    assert (tmp_path / name).read_bytes().startswith(magic)


@pytest.mark.parametrize("name", ["q", "q.gif", "q.webp", "q.jpg.bak", ".jpg", "q.tar"])
def test_other_extensions_are_refused(encrypt, tmp_path, name):
    result = encrypt(name)
    assert (result.code, result.out) == (1, "")
    assert result.error == f"{tmp_path / name} must end with .jpg or .png, which tells the coding"
    assert list(tmp_path.iterdir()) == []


def test_lossless_into_a_jpeg_name_is_refused(encrypt, tmp_path):
    result = encrypt("q.jpg", "--lossless")
    assert (result.code, result.out) == (1, "")
    assert result.error == f"--lossless writes PNG, but {tmp_path}/q.jpg ends with .jpg"
    assert list(tmp_path.iterdir()) == []


def test_pipe_in_and_out(command, encrypt, photo, key):
    result = encrypt("-", "--size", "32x48", source="-", runner=command, stdin=photo.read_bytes())
    assert (result.code, result.err) == (0, "")
    assert result.raw.startswith(b"\xff\xd8")
    assert decrypted(result.raw, key).shape == (32, 48, 3)


@pytest.mark.parametrize(
    ("options", "magic"), [([], b"\xff\xd8"), (["--lossless"], b"\x89PNG")], ids=["jpeg", "png"]
)
def test_standard_output_gets_nothing_but_the_image(encrypt, options, magic, tmp_path):
    result = encrypt("-", *options)
    assert (result.code, result.err) == (0, "")
    assert result.raw.startswith(magic)
    assert list(tmp_path.iterdir()) == []


def test_standard_input_goes_into_a_file(encrypt, photo, tmp_path, key):
    assert encrypt("q.png", source="-", stdin=photo.read_bytes()).code == 0
    assert decrypted((tmp_path / "q.png").read_bytes(), key).shape == (64, 96, 3)


def test_existing_file_is_refused_before_any_work(encrypt, tmp_path):
    (tmp_path / "q.jpg").write_text("precious")
    result = encrypt("q.jpg", source="-", stdin=b"no photo")
    assert (result.code, result.out) == (1, "")
    assert result.error == f"{tmp_path}/q.jpg exists already"
    assert result.hint == "choose another name, or use --force"
    assert (tmp_path / "q.jpg").read_text() == "precious"


def test_force_replaces_a_file(encrypt, tmp_path, key):
    (tmp_path / "q.jpg").write_text("old")
    assert encrypt("q.jpg", "--force").code == 0
    assert decrypted((tmp_path / "q.jpg").read_bytes(), key).shape == (64, 96, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["q.jpg"]


def test_failed_force_keeps_the_old_file(encrypt, tmp_path):
    (tmp_path / "q.jpg").write_text("old")
    assert encrypt("q.jpg", "--force", "--size", "100").code == 1
    assert (tmp_path / "q.jpg").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["q.jpg"]


def test_force_does_not_replace_a_folder(encrypt, tmp_path):
    (tmp_path / "q.jpg").mkdir()
    result = encrypt("q.jpg", "--force")
    assert (result.code, result.error) == (1, f"{tmp_path}/q.jpg exists and is no file")


def test_missing_folder_of_the_output_is_named(encrypt, tmp_path):
    result = encrypt("no/q.jpg")
    assert (result.code, result.out) == (1, "")
    assert result.error == f"{tmp_path}/no/q.jpg cannot be written: there is no folder {tmp_path}/no"


def test_names_that_are_not_utf8_work_and_are_shown_escaped(command, photo, key, tmp_path):
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    coding = ["--key", key, "--size", 64]
    result = command("encrypt", photo, "-o", f"{odd}.png", *coding)
    if "Invalid or incomplete multibyte" in result.err:
        pytest.skip("this file system takes only UTF-8")
    assert (result.code, result.out) == (0, "")
    assert result.err.startswith(f"wrote {tmp_path}/caf\\udce9.png: ")
    assert command("decrypt", f"{odd}.png", "-o", f"{odd}-plain.png", "--key", key).code == 0
    for name, message in [
        (f"{odd}.png", "udce9.png exists already"),
        (f"{odd}.gif", r"udce9.gif must end with .jpg or .png, which tells the coding"),
        (f"{odd}/x.png", r"udce9/x.png cannot be written: there is no folder"),
    ]:
        result = command("encrypt", photo, "-o", name, *coding)
        assert result.code == 1
        assert f"{tmp_path}/caf\\{message}" in result.error
    result = command("encrypt", photo, "-o", f"{tmp_path}/x.png", "--key", f"{odd}.key")
    assert result.hint == f"make one with: etc-data keygen {tmp_path}/caf\\udce9.key"


def test_photo_can_be_encrypted_in_its_own_place(etc, make_photo, key, tmp_path):
    path = make_photo(tmp_path / "x.png")
    plain = np.asarray(Image.open(path))
    assert etc("encrypt", path, "-o", path, "--key", key, "--force").code == 0
    assert np.array_equal(decrypted(path.read_bytes(), key), plain)


def test_image_scope_draws_a_fresh_nonce_each_time(encrypt, tmp_path, key):
    encrypt("a.png", "--key-scope", "image")
    encrypt("b.png", "--key-scope", "image")
    first, second = ((tmp_path / name).read_bytes() for name in ("a.png", "b.png"))
    assert ImageNote.read(first).nonce != ImageNote.read(second).nonce
    assert np.array_equal(decrypted(first, key), decrypted(second, key))


def test_dataset_scope_gives_the_same_bytes_each_time(encrypt, tmp_path):
    encrypt("a.jpg")
    encrypt("b.jpg")
    assert (tmp_path / "a.jpg").read_bytes() == (tmp_path / "b.jpg").read_bytes()


def test_pe_takes_a_key_per_image_by_itself(encrypt, tmp_path, key, photo):
    assert encrypt("q.png", "--scheme", "pe").code == 0
    data = (tmp_path / "q.png").read_bytes()
    assert ImageNote.read(data).key_scope == "image"
    assert np.array_equal(decrypted(data, key), np.asarray(Image.open(photo)))


def test_context_stands_in_the_note(encrypt, tmp_path):
    encrypt("q.png", "--context", "ward 7, Größe")
    assert ImageNote.read((tmp_path / "q.png").read_bytes()).context == "ward 7, Größe"


def test_nothing_of_the_photo_but_its_pixels_gets_into_the_file(etc, key, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    exif[0x010E] = "Patient Jane Doe"
    image = Image.new("RGB", (96, 64), "teal")
    image.save(tmp_path / "jane.jpg", exif=exif, icc_profile=b"PROFILE", comment=b"room 9")
    assert etc("encrypt", tmp_path / "jane.jpg", "-o", tmp_path / "q.jpg", "--key", key).code == 0
    data = (tmp_path / "q.jpg").read_bytes()
    assert not any(word in data for word in (b"jane", b"Jane", b"Exif", b"PROFILE", b"room 9"))
    assert decrypted(data, key).shape == (96, 64, 3)


@pytest.mark.parametrize("option", ["--lossless", "--allow-noise"])
def test_noise_scheme_is_refused_for_jpeg_but_not_with(encrypt, option):
    refused = encrypt("-", "--scheme", "vit-16/8")
    assert (refused.code, refused.raw) == (1, b"")
    assert refused.error.startswith("scheme vit-16/8 looks like noise to JPEG")
    assert option in refused.hint
    assert encrypt("-", "--scheme", "vit-16/8", option).code == 0


def test_photo_that_does_not_fit_the_blocks_is_refused_by_name(etc, make_photo, key, tmp_path):
    path = make_photo(tmp_path / "x.png", height=60)
    result = etc("encrypt", path, "-o", tmp_path / "q.jpg", "--key", key)
    assert (result.code, result.out) == (1, "")
    assert result.error.startswith(f"{path}: image height 60 is not a multiple of block_size 16")
    assert "--size or --fit" in result.hint
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]


@pytest.mark.parametrize(
    ("fit", "shape"), [("pad", (64, 96)), ("crop", (48, 80)), ("resize", (64, 96))]
)
def test_fit_brings_a_photo_to_the_blocks(etc, make_photo, key, tmp_path, fit, shape):
    path = make_photo(tmp_path / "x.png", height=60, width=91)
    assert etc("encrypt", path, "-o", tmp_path / "q.png", "--key", key, "--fit", fit).code == 0
    assert decrypted((tmp_path / "q.png").read_bytes(), key).shape == (*shape, 3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty"),
        (b"no photo", "it is no picture"),
        (b"\xff\xd8\xff\xe0 and no more", "cannot be read"),
    ],
)
def test_bad_photo_is_named_and_nothing_is_written(encrypt, tmp_path, data, message):
    (tmp_path / "bad.jpg").write_bytes(data)
    from_file = encrypt("q.jpg", source=tmp_path / "bad.jpg")
    assert (from_file.code, from_file.out) == (1, "")
    assert from_file.error.startswith(f"{tmp_path}/bad.jpg: ")
    assert message in from_file.error
    from_pipe = encrypt("q.jpg", source="-", stdin=data)
    assert from_pipe.error.startswith("standard input: ")
    to_pipe = encrypt("-", source="-", stdin=data)
    assert (to_pipe.code, to_pipe.raw) == (1, b"")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.jpg"]


@pytest.mark.parametrize(
    "option",
    [
        ["--workers", "2"],
        ["--samples-per-shard", "4"],
        ["--labels", "none"],
        ["--skip-bad"],
        ["--json"],
    ],
)
def test_option_of_folders_is_refused_instead_of_ignored(encrypt, tmp_path, option):
    result = encrypt("q.jpg", *option)
    assert (result.code, result.out) == (2, "")
    assert result.error == f"{option[0]} is for folders and has no effect on one photo"
    assert list(tmp_path.iterdir()) == []


def test_photo_without_output_file_is_wrong_usage(etc, photo, key, tmp_path):
    for out in ([], [tmp_path / "out"], [tmp_path / "out", "-o", tmp_path / "q.jpg"]):
        result = etc("encrypt", photo, *out, "--key", key)
        assert result.code == 2
        assert result.error == "for one photo give the file to write: -o FILE (or -o -)"
    assert list(tmp_path.iterdir()) == []


def test_photo_whose_name_begins_with_a_dash(etc, make_photo, key, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_photo(tmp_path / "-x.png")
    assert etc("encrypt", "-o", "-q.png", "--key", key, "--", "-x.png").code == 0
    assert etc("decrypt", "-o", "-y.png", "--key", key, "--", "-q.png").code == 0
    assert np.array_equal(Image.open("-x.png"), Image.open("-y.png"))
