"""One encrypted image file: its round trip, its note, and notes that cannot be right."""

import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from etc_data import Cipher, Scheme, SecretKey
from etc_data.codecs import JpegCodec, PngCodec, decode
from etc_data.containers import embed_comment, read_comment
from etc_data.errors import (
    CodecError,
    EtcError,
    GeometryError,
    ManifestError,
    UnreadableImageError,
    WrongKeyError,
)
from etc_data.shards.single import ImageNote, decrypt_photo, encrypt_photo

KEY = SecretKey(bytes(range(32)))
PNG = PngCodec()


def coded(pixels: np.ndarray, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def noise(height: int = 32, width: int = 48) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


PLAIN = noise()
FILE = coded(PLAIN)
BARE = PNG.encode(PLAIN)


def fields_of(data: bytes) -> dict:
    return json.loads(read_comment(data).removeprefix("etc-data-image/1 "))


def noted(changes: dict, drop: tuple[str, ...] = (), scope: str = "dataset") -> bytes:
    """Returns an encrypted file whose note has some fields changed or dropped."""
    cipher = Cipher("etc-16", KEY, key_scope=scope)
    fields = fields_of(encrypt_photo(FILE, cipher, codec=PNG)) | changes
    note = {name: value for name, value in fields.items() if name not in drop}
    return embed_comment(BARE, f"etc-data-image/1 {json.dumps(note)}")


# --- round trips ------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["dataset", "image"])
@pytest.mark.parametrize("scheme", ["etc-16", "ind-16/8", "adaptive-8", "vit-16/8", "le-4", "pe"])
def test_lossless_photo_comes_back_exact(scheme, scope):
    cipher = Cipher(scheme, KEY, key_scope=scope, context="ward 7")
    data = encrypt_photo(FILE, cipher, codec=PNG)
    assert not np.array_equal(decode(data), PLAIN)
    assert np.array_equal(np.asarray(decrypt_photo(data, KEY)), PLAIN)


def test_scheme_of_ones_own_comes_back_without_being_named_again():
    own = Scheme(Scheme.preset("ind-16/8").steps[:3], "my-own")
    data = encrypt_photo(FILE, Cipher(own, KEY), codec=PNG)
    assert ImageNote.read(data).scheme == own
    assert np.array_equal(np.asarray(decrypt_photo(data, KEY)), PLAIN)


def test_jpeg_is_the_default_and_comes_back_nearly_exact(photo):
    data = encrypt_photo(photo(1, 64, 96), Cipher("etc-16", KEY))
    assert data.startswith(b"\xff\xd8")
    plain = np.asarray(Image.open(io.BytesIO(photo(1, 64, 96)))).astype(int)
    assert np.abs(plain - np.asarray(decrypt_photo(data, KEY))).mean() < 2


def test_pixels_are_those_of_the_codec():
    cipher = Cipher("etc-16", KEY)
    codec = JpegCodec(quality=80)
    bare = codec.encode(cipher.encrypt(PLAIN))
    data = encrypt_photo(FILE, cipher, codec=codec)
    assert np.array_equal(decode(data), decode(bare))
    assert len(data) - len(bare) == len(ImageNote.read(data).text()) + 4


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({"size": 64}, (64, 64)),
        ({"size": (16, 48)}, (16, 48)),
        ({"size": (16, 48), "resize": "exact"}, (16, 48)),
        ({"size": 40, "fit": "pad"}, (48, 48)),
        ({"size": 40, "fit": "crop"}, (32, 32)),
        ({"size": 41, "fit": "resize"}, (48, 48)),
    ],
)
def test_photo_is_brought_to_the_size_first(options, shape):
    data = encrypt_photo(FILE, Cipher("etc-16", KEY), codec=PNG, **options)
    assert np.asarray(decrypt_photo(data, KEY)).shape == (*shape, 3)


def test_fresh_nonce_is_drawn_for_every_image():
    cipher = Cipher("etc-16", KEY, key_scope="image")
    files = [encrypt_photo(FILE, cipher, codec=PNG) for _ in range(3)]
    assert len({ImageNote.read(file).nonce for file in files}) == 3
    assert len({decode(file).tobytes() for file in files}) == 3


def test_dataset_scope_needs_no_nonce():
    assert ImageNote.read(encrypt_photo(FILE, Cipher("etc-16", KEY))).nonce is None


# --- the note ---------------------------------------------------------------------------------


def test_note_has_the_form_of_the_format_page():
    cipher = Cipher("ind-16", KEY, key_scope="image", context="ward 7, Größe")
    text = read_comment(encrypt_photo(FILE, cipher))
    head, _, body = text.partition(" ")
    assert head == "etc-data-image/1"
    fields = json.loads(body)
    assert list(fields) == ["context", "height", "key_id", "key_scope", "nonce", "scheme", "width"]
    assert body == json.dumps(fields, sort_keys=True, separators=(",", ":"))
    assert text.isascii()
    assert fields["context"] == "ward 7, Größe"
    assert fields["key_id"] == KEY.id
    assert len(bytes.fromhex(fields["nonce"])) == 16
    assert fields["scheme"] == cipher.scheme.describe()


@pytest.mark.parametrize("codec", [JpegCodec(), PNG])
@pytest.mark.parametrize("scope", ["dataset", "image"])
def test_note_reads_back(codec, scope):
    cipher = Cipher("com-16/8", KEY, key_scope=scope, context="x")
    note = ImageNote.read(encrypt_photo(FILE, cipher, codec=codec))
    assert (note.scheme, note.key_id, note.key_scope, note.context) == (
        cipher.scheme,
        KEY.id,
        scope,
        "x",
    )
    assert ImageNote.read(embed_comment(BARE, note.text())) == note


def test_note_and_file_hold_no_secret():
    data = encrypt_photo(FILE, Cipher("etc-16", KEY, key_scope="image"), codec=PNG)
    for secret in (bytes(range(32)), KEY.subkey("draws")):
        assert secret[:8] not in data
        assert secret[:8].hex().encode() not in data


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_metadata_of_the_photo_is_left_behind(form):
    exif = Image.Exif()
    exif[0x010E] = "Patient Jane Doe"
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.fromarray(PLAIN).save(file, form, exif=exif, icc_profile=b"PROFILE")
    codec = JpegCodec() if form == "JPEG" else PNG
    data = encrypt_photo(file.getvalue(), Cipher("etc-16", KEY), codec=codec)
    assert not any(word in data for word in (b"Jane", b"Exif", b"eXIf", b"PROFILE", b"iCCP"))
    assert set(Image.open(io.BytesIO(data)).info) <= {
        *("jfif", "jfif_version", "jfif_unit", "jfif_density", "comment", "etc-data")
    }
    assert decrypt_photo(data, KEY).size == (32, 48)


# --- what is refused --------------------------------------------------------------------------


def test_wrong_key_is_refused_by_its_id():
    other = SecretKey(bytes(32))
    data = encrypt_photo(FILE, Cipher("etc-16", KEY))
    with pytest.raises(WrongKeyError, match=f"with key {KEY.id}, but the key given is {other.id}"):
        decrypt_photo(data, other)


@pytest.mark.parametrize("data", [b"", b"no photo", FILE[:60], b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_photo_is_refused(data):
    with pytest.raises(UnreadableImageError):
        encrypt_photo(data, Cipher("etc-16", KEY))


def test_photo_that_does_not_fit_is_refused():
    with pytest.raises(GeometryError, match="image height 30 is not a multiple of block_size 16"):
        encrypt_photo(coded(noise(30, 48)), Cipher("etc-16", KEY))


def test_noise_for_jpeg_is_refused_before_the_photo_is_read():
    with pytest.raises(CodecError, match="looks like noise to JPEG"):
        encrypt_photo(b"no photo", Cipher("pe", KEY))
    assert encrypt_photo(FILE, Cipher("pe", KEY), allow_noise=True).startswith(b"\xff\xd8")


@pytest.mark.parametrize(
    "data",
    [BARE, embed_comment(BARE, "a comment of a camera"), embed_comment(BARE, "etc-data nonce 00")],
)
def test_file_without_our_note_is_refused(data):
    with pytest.raises(ManifestError, match="carries no note of etc-data") as caught:
        decrypt_photo(data, KEY)
    assert "programs that re-save images drop it" in caught.value.hint


@pytest.mark.parametrize("version", ["2", "10", "1.1", "", "01", "x"])
def test_other_version_is_refused_by_name(version):
    with pytest.raises(ManifestError, match="this etc-data reads etc-data-image/1") as caught:
        ImageNote.read(embed_comment(BARE, f"etc-data-image/{version} {{}}"))
    assert f"note is etc-data-image/{version};" in str(caught.value)
    assert caught.value.hint == "upgrade etc-data"


@pytest.mark.parametrize("body", ["", "{", "[]", "null", "3", '"x"', "{}", "[[" * 900, "9" * 5000])
def test_note_that_is_no_object_is_refused(body):
    with pytest.raises(ManifestError, match="the image's note is malformed"):
        ImageNote.read(embed_comment(BARE, f"etc-data-image/1 {body}"))


@pytest.mark.parametrize("field", ["context", "key_id", "key_scope", "nonce", "scheme"])
def test_note_without_a_field_is_refused(field):
    with pytest.raises(ManifestError, match=f"the image's note is malformed: '{field}'"):
        ImageNote.read(noted({}, drop=(field,)))


@pytest.mark.parametrize("scope", ["dataset", "image"])
@pytest.mark.parametrize(
    "changes",
    [
        {"key_scope": "all"},
        {"key_scope": None},
        {"key_scope": ["image"]},
        {"nonce": None},
        {"nonce": 7},
        {"nonce": "xy"},
        {"nonce": "00"},
        {"nonce": "00" * 15},
        {"nonce": "00" * 17},
        {"key_id": None},
        {"key_id": 7},
        {"key_id": ""},
        {"key_id": "0" * 15},
        {"key_id": "0" * 16 + "\n"},
        {"key_id": "G" * 16},
        {"key_id": "\x1b[2J" + "0" * 12},
        {"context": None},
        {"context": ["x"]},
        {"scheme": None},
        {"scheme": "etc-16"},
        {"scheme": {}},
        {"scheme": {"name": "etc-16", "steps": []}},
        {"scheme": {"name": "etc-16", "steps": "x"}},
        {"scheme": {"name": "x", "steps": [{"step": "scramble-blocks", "block_size": 0}]}},
        {"scheme": {"name": "x", "steps": [{"step": "scramble-blocks", "block_size": True}]}},
        {"scheme": {"name": "x", "steps": [{"step": "scramble-blocks", "block_size": 1e99}]}},
        {"scheme": {"name": "\x1b[2J", "steps": [{"step": "scramble-blocks", "block_size": 16}]}},
    ],
    ids=lambda changes: str(changes) if isinstance(changes, dict) else changes,
)
def test_malformed_note_is_refused(changes, scope):
    with pytest.raises(ManifestError, match="the image's note is malformed"):
        decrypt_photo(noted(changes, scope=scope), KEY)


def test_scopes_exchanged_in_the_note_are_refused():
    with pytest.raises(ManifestError, match="nonce has 0 bytes with key scope image"):
        ImageNote.read(noted({"key_scope": "image"}))
    with pytest.raises(ManifestError, match="nonce has 16 bytes with key scope dataset"):
        ImageNote.read(noted({"key_scope": "dataset"}, scope="image"))


@pytest.mark.parametrize("size", [(40, 32), (48, 31), (1, 1), (32, 48), (16, 32)])
def test_image_cropped_or_resized_since_is_refused(size):
    data = encrypt_photo(FILE, Cipher("etc-16", KEY), codec=PNG)
    smaller = np.asarray(Image.fromarray(decode(data)).resize(size))
    with pytest.raises(GeometryError, match="was resized, cropped or turned since it was encrypted"):
        decrypt_photo(embed_comment(PNG.encode(smaller), ImageNote.read(data).text()), KEY)


def test_image_with_transparency_is_refused_in_spite_of_its_note():
    note = ImageNote.read(encrypt_photo(FILE, Cipher("etc-16", KEY))).text()
    with pytest.raises(CodecError, match="color mode RGBA is not one of ours"):
        decrypt_photo(embed_comment(coded(np.concatenate([PLAIN, PLAIN], 2)[..., :4]), note), KEY)


@pytest.mark.parametrize("codec", [JpegCodec(), PNG])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
def test_image_cut_short_is_refused(codec, kept):
    data = encrypt_photo(FILE, Cipher("etc-16", KEY), codec=codec)
    with pytest.raises((CodecError, ManifestError)):
        decrypt_photo(data[: int(len(data) * kept)], KEY)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 255))
def test_one_changed_byte_gives_an_image_or_an_error_of_ours(place, change):
    data = bytearray(SMALL)
    data[place % len(data)] ^= change
    try:
        assert decrypt_photo(bytes(data), KEY).mode == "RGB"
    except EtcError as error:
        assert "\n" not in str(error)


SMALL = encrypt_photo(FILE, Cipher("etc-16", KEY, key_scope="image"))
