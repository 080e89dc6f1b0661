import hashlib
import io
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from etc_data.cipher import Cipher
from etc_data.codecs import JpegCodec, PngCodec, decode
from etc_data.errors import CodecError, DamagedShardError, GeometryError, UnreadableImageError
from etc_data.keys import SecretKey
from etc_data.schemes import PRESET_NAMES, Scheme
from etc_data.shards.samples import Sample, SampleEncoder, check_codec
from etc_data.sources import load_rgb

SECRET = bytes(range(32))
TESTS = Path(__file__).resolve().parents[2]


def encoder(scheme="etc-16", *, key_scope=None, context="", codec=None, size=(32, 48), **options):
    cipher = Cipher(scheme, SecretKey(SECRET), key_scope=key_scope, context=context)
    return SampleEncoder(cipher, codec or JpegCodec(), size, **options)


# --- the options are checked before any work --------------------------------------------------


@pytest.mark.parametrize("scheme", PRESET_NAMES)
def test_schemes_that_are_noise_to_jpeg_are_refused(scheme):
    friendly = scheme in ("etc-16", "com-16", "ind-16", "com-16/8", "ind-16/8")
    one = encoder(scheme)
    if friendly:
        one.check()
    else:
        with pytest.raises(CodecError, match=f"scheme {scheme} looks like noise to JPEG"):
            one.check()
        with pytest.raises(CodecError):
            check_codec(Scheme.preset(scheme), JpegCodec())
    encoder(scheme, allow_noise=True).check()
    encoder(scheme, codec=PngCodec()).check()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (32, 40)}, "image width 40 is not a multiple of block_size 16"),
        ({"size": (0, 32)}, "image height 0"),
        ({"size": (-16, 32), "fit": "pad"}, "image height -16"),
        ({"size": (32, 0), "fit": "resize"}, "image width 0"),
        ({"size": (32, 15), "fit": "crop"}, "image width 15"),
        ({"fit": "shrink"}, "fit is 'shrink'; it must be None or one of"),
        ({"size": None, "fit": ""}, "fit is ''"),
        ({"resize": "cover"}, "resize is 'cover'; it must be one of"),
        ({"size": None, "resize": None}, "resize is None"),
    ],
)
def test_options_that_no_image_could_meet_are_refused(options, message):
    with pytest.raises(GeometryError, match=message):
        encoder(**options).check()


@pytest.mark.parametrize(
    "options",
    [
        {"size": None},
        {"size": None, "fit": "crop"},
        {"size": (1, 1), "fit": "pad"},
        {"size": (7, 7), "fit": "resize"},
        {"size": (17, 16), "fit": "crop"},
        {"size": (16, 16), "resize": "exact"},
    ],
)
def test_options_that_fit_together_are_accepted(options, photo):
    one = encoder(**options)
    one.check()
    if options["size"] is not None:
        one.encode_file(photo(0), 0, "train", 0)


# --- members ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("codec", "image"), [(JpegCodec(), "jpg"), (PngCodec(), "png")])
def test_members_are_sorted_and_hold_a_fixed_schema(photo, codec, image):
    members = encoder(codec=codec).encode_file(photo(0), 7, "val", 12)
    names = [name for name, _ in members]
    assert names == sorted(names)
    assert set(names) == {f"val-000000012.{extension}" for extension in ("cls", image, "json")}
    content = dict(members)
    assert content["val-000000012.cls"] == b"7"
    assert content["val-000000012.json"] == (
        b'{"copy":0,"height":32,"key_id":"%s","key_scope":"dataset","nonce":"","scheme":"etc-16",'
        b'"version":1,"width":48}' % SecretKey(SECRET).id.encode()
    )
    assert decode(content[f"val-000000012.{image}"]).shape == (32, 48, 3)


@pytest.mark.parametrize(("label", "labels"), [(-1, True), (3, False)])
def test_label_member_is_absent_where_there_is_none(photo, label, labels):
    members = encoder(labels=labels).encode_file(photo(0), label, "train", 0)
    assert [name for name, _ in members] == ["train-000000000.jpg", "train-000000000.json"]


def test_encrypted_pixels_are_those_of_the_reference(photo, reference):
    one = encoder("ind-16/8", key_scope="image", context="x", codec=PngCodec())
    content = dict(one.encode_file(photo(3), 0, "train", 5))
    nonce = bytes.fromhex(json.loads(content["train-000000005.json"])["nonce"])
    plain = np.asarray(load_rgb(photo(3)).resize((48, 37), Image.Resampling.BICUBIC))
    plain = plain[2:34]  # the middle 32 of 37 rows, as torchvision's CenterCrop takes them
    expected = reference.encrypt(plain.tolist(), "ind-16/8", SECRET, "x", nonce)
    assert decode(content["train-000000005.png"]).tolist() == expected


def test_encoding_repeats_after_a_pickle_round_trip(photo):
    one = encoder(key_scope="image")
    before = one.encode_file(photo(0), 1, "train", 0)
    again = pickle.loads(pickle.dumps(one))
    assert again.encode_file(photo(0), 1, "train", 0) == before
    assert again.options() == one.options()


def test_repr_shows_no_secret(photo):
    one = encoder(key_scope="image")
    one.encode_file(photo(0), 1, "train", 0)
    text = repr(one)
    for secret in (SECRET, one.cipher.subkey("nonces"), one.cipher.subkey("draws")):
        assert secret.hex() not in text and repr(secret)[2:-1] not in text


def test_picture_that_cannot_be_read_or_does_not_fit_is_refused(photo):
    with pytest.raises(UnreadableImageError):
        encoder().encode_file(b"text", 0, "train", 0)
    with pytest.raises(GeometryError):
        encoder(size=None).encode_file(photo(0, 33, 32), 0, "train", 0)
    file = io.BytesIO()
    Image.new("RGB", (65_520, 16)).save(file, "PNG")
    with pytest.raises(CodecError, match="sides must be in"):
        encoder(size=None).encode_file(file.getvalue(), 0, "train", 0)


# --- nonces -----------------------------------------------------------------------------------


def nonce_of(one: SampleEncoder, data: bytes, split="train", position=0) -> bytes | None:
    (info,) = (c for name, c in one.encode_file(data, 0, split, position) if name.endswith(".json"))
    return bytes.fromhex(json.loads(info)["nonce"]) or None


def test_nonce_is_that_of_the_format_page(photo, reference):
    one = encoder("com-16", key_scope="image", context="ward ☀", fit="pad", resize="exact")
    options = {
        "codec": {"name": "jpeg", "quality": 95, "subsampling": "4:4:4"},
        "context": "ward ☀",
        "fit": "pad",
        "key_scope": "image",
        "resize": "exact",
        "scheme": reference.describe("com-16", "com-16"),
        "size": [32, 48],
    }
    source = hashlib.sha256(photo(1)).digest()
    expected = reference.sample_nonce(SECRET, options, "val", 70_000, source, 0)
    assert nonce_of(one, photo(1), "val", 70_000) == expected
    assert one.nonce("val", 70_000, source) == expected
    assert one.nonce("val", 70_000, source, copy=1) != expected


def test_nonce_depends_on_everything_that_decides_the_pixels(photo):
    nonces = {
        nonce_of(one, data, split, position)
        for one in (
            encoder(key_scope="image"),
            encoder(key_scope="image", context="x"),
            encoder("ind-16", key_scope="image"),
            encoder(key_scope="image", size=(48, 48)),
            encoder(key_scope="image", codec=JpegCodec(94)),
            encoder(key_scope="image", codec=PngCodec()),
            encoder(key_scope="image", fit="pad"),
            encoder(key_scope="image", resize="exact"),
        )
        for data in (photo(0), photo(1))
        for split in ("train", "val")
        for position in (0, 1)
    }
    assert len(nonces) == 8 * 2 * 2 * 2


def test_labels_do_not_change_the_nonce(photo):
    one, other = encoder(key_scope="image"), encoder(key_scope="image", labels=False)
    assert nonce_of(one, photo(0)) == nonce_of(other, photo(0))


def test_dataset_scope_has_no_nonce(photo):
    assert encoder().nonce("train", 0, bytes(32)) is None
    assert nonce_of(encoder(), photo(0)) is None


def test_sample_tells_its_nonce():
    assert Sample("k", b"", 0, b'{"nonce": "00ff"}').nonce() == b"\x00\xff"
    assert Sample("k", b"", 0, b'{"nonce": ""}').nonce() is None


@pytest.mark.parametrize(
    "info", [b"", b"{}", b"[]", b"7", b'{"nonce": 7}', b'{"nonce": "x"}', b"\xff", b"[" * 100_000]
)
def test_sample_without_readable_nonce_is_damaged(info):
    with pytest.raises(DamagedShardError, match="sample k has no readable nonce"):
        Sample("k", b"", 0, info).nonce()
