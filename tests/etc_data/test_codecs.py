import io
import itertools
import json
import multiprocessing
import os
import pickle
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image

from etc_data import codecs, containers
from etc_data.codecs import (
    JpegCodec,
    PngCodec,
    available_engines,
    codec_from_dict,
    decode,
    quiet_pillow,
)
from etc_data.containers import embed_comment, read_comment
from etc_data.errors import CodecError

SUBSAMPLINGS = ("4:4:4", "4:2:2", "4:2:0")
ENGINES = sorted(available_engines())
ROOT = Path(__file__).parents[2]
PICTURES = Path(os.environ.get("ETC_DATA_TEST_IMAGES", ROOT / ".." / "shared" / "data"))

needs_turbo = pytest.mark.skipif("turbo" not in ENGINES, reason="PyTurboJPEG is not usable here")
each_engine = pytest.mark.parametrize("engine", ENGINES)
rgb_arrays = npst.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3)))


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), np.uint8)


def ramp(height: int, width: int) -> np.ndarray:
    return np.linspace(0, 255, height * width * 3).reshape(height, width, 3).astype(np.uint8)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


# --- JPEG -------------------------------------------------------------------------------------


@each_engine
@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
@pytest.mark.parametrize("quality", [1, 50, 75, 95, 96, 100])
def test_jpeg_bytes_are_those_that_pillow_writes(engine, subsampling, quality):
    for height, width in [(1, 1), (1, 7), (7, 1), (15, 17), (16, 16), (33, 31), (3, 200)]:
        for image in (noise(height, width), ramp(height, width)):
            file = io.BytesIO()
            Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling=subsampling)
            assert JpegCodec(quality, subsampling, engine).encode(image) == file.getvalue()


@needs_turbo
@settings(max_examples=200, deadline=None)
@given(rgb_arrays, st.integers(1, 100), st.sampled_from(SUBSAMPLINGS))
def test_engines_write_the_same_bytes_and_read_the_same_pixels(image, quality, subsampling):
    one, other = (JpegCodec(quality, subsampling, engine) for engine in ("pillow", "turbo"))
    data = one.encode(image)
    assert other.encode(image) == data
    assert np.array_equal(decode(data, engine="pillow"), decode(data, engine="turbo"))


@needs_turbo
@pytest.mark.skipif(not PICTURES.is_dir(), reason="no folder of test images")
def test_engines_agree_on_photos():
    for path in sorted(PICTURES.glob("photos/*.JPEG"))[:20]:
        data = path.read_bytes()  # coded by many cameras and programs, with metadata
        image = decode(data, engine="pillow")
        assert np.array_equal(image, decode(data, engine="turbo"))
        for subsampling in SUBSAMPLINGS:
            one, other = (JpegCodec(85, subsampling, engine) for engine in ("pillow", "turbo"))
            assert one.encode(image) == other.encode(image)


@each_engine
def test_jpeg_is_baseline_with_standard_tables_and_no_metadata(engine):
    data = JpegCodec(engine=engine).encode(noise(40, 24))
    markers = [marker for marker, _, _ in containers._jpeg_segments(data)]
    assert markers == [0xE0, 0xDB, 0xDB, 0xC0, 0xC4, 0xC4, 0xC4, 0xC4]  # SOF0: baseline
    info = Image.open(io.BytesIO(data)).info
    assert not {"exif", "icc_profile", "comment", "xmp", "dpi"} & info.keys()


@each_engine
@pytest.mark.parametrize(
    "view",
    [lambda a: a[::-1], lambda a: a[:, ::2], lambda a: a[..., ::-1], lambda a: a[3:20, 5:22]],
    ids=["rows reversed", "every second column", "components reversed", "window"],
)
def test_arrays_that_are_not_contiguous_encode_as_their_copy(engine, view):
    image = view(noise(32, 32))
    fortran = np.asfortranarray(image)
    for codec in (JpegCodec(engine=engine), PngCodec()):
        expected = codec.encode(image.copy(order="C"))
        assert codec.encode(image) == codec.encode(fortran) == expected


@each_engine
def test_encoding_leaves_a_read_only_array_alone(engine):
    image = noise(16, 16)
    before = image.copy()
    image.setflags(write=False)
    JpegCodec(engine=engine).encode(image)
    PngCodec().encode(image)
    assert np.array_equal(image, before)


@pytest.mark.parametrize(
    "arguments",
    [
        {"quality": 0},
        {"quality": 101},
        {"quality": 95.0},
        {"quality": True},
        {"quality": "95"},
        {"subsampling": "4:1:1"},
        {"subsampling": 0},
        {"engine": "simd"},
    ],
)
def test_bad_jpeg_options_raise(arguments):
    with pytest.raises(CodecError):
        JpegCodec(**arguments)


@pytest.mark.parametrize("level", [-1, 10, 6.0, True])
def test_bad_png_level_raises(level):
    with pytest.raises(CodecError, match="0–9"):
        PngCodec(level)


@pytest.mark.parametrize("codec", [JpegCodec(), PngCodec()], ids=["jpeg", "png"])
@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 1), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((3, 8, 8), np.uint8),
        np.zeros((1, 8, 8, 3), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8, 3), np.int8),
        np.zeros((0, 8, 3), np.uint8),
        np.zeros((8, 0, 3), np.uint8),
        [[[0, 0, 0]]],
    ],
    ids=lambda image: str(np.shape(image)),
)
def test_arrays_that_are_no_rgb_image_raise(codec, image):
    with pytest.raises(CodecError, match=r"uint8 \[H, W, 3\]|sides must be"):
        codec.encode(image)


@each_engine
def test_side_beyond_the_jpeg_limit_raises(engine):
    with pytest.raises(CodecError, match="65500"):
        JpegCodec(engine=engine).encode(np.zeros((1, 65501, 3), np.uint8))
    JpegCodec(engine=engine).encode(np.zeros((1, 65500, 3), np.uint8))


# --- engines ----------------------------------------------------------------------------------


@pytest.fixture
def without_turbo(monkeypatch):
    codecs._turbo.cache_clear()
    monkeypatch.setitem(sys.modules, "turbojpeg", None)
    yield
    codecs._turbo.cache_clear()


@pytest.mark.usefixtures("without_turbo")
def test_auto_falls_back_to_pillow_and_turbo_by_name_raises():
    image = noise(24, 24)
    assert list(available_engines()) == ["pillow"]
    assert JpegCodec(engine="auto").encode(image) == JpegCodec(engine="pillow").encode(image)
    with pytest.raises(CodecError, match="'turbo' cannot be used") as caught:
        JpegCodec(engine="turbo")
    assert "libturbojpeg" in caught.value.hint


def whole(data: bytes) -> bytes:
    """The first file that the engine is tried with, whatever is left of it."""
    image = np.random.default_rng(0).integers(0, 256, (37, 29, 3), np.uint8)
    files = [
        JpegCodec(quality, subsampling, "pillow").encode(image)
        for quality in (30, 95)
        for subsampling in SUBSAMPLINGS
    ]
    return next(file for file in files if file.startswith(data))


@needs_turbo
@pytest.mark.parametrize(
    ("method", "result", "reason"),
    [
        ("encode", lambda *_, **__: b"other", "other bytes"),
        ("decode", lambda *_, **__: np.zeros((37, 29, 3), np.uint8), "other pixels"),
        ("decode", lambda _, data, **__: decode(whole(data), engine="pillow"), "cut short"),
    ],
)
def test_turbo_that_disagrees_with_pillow_is_not_used(monkeypatch, method, result, reason):
    import turbojpeg

    codecs._turbo.cache_clear()
    monkeypatch.setattr(turbojpeg.TurboJPEG, method, result)
    try:
        assert "turbo" not in available_engines()
        with pytest.raises(CodecError, match=reason):
            JpegCodec(engine="turbo")
    finally:
        codecs._turbo.cache_clear()


def test_engine_takes_no_part_in_identity():
    assert JpegCodec(engine="pillow") == JpegCodec(engine="auto")
    assert hash(JpegCodec(engine="pillow")) == hash(JpegCodec())
    assert JpegCodec(90) != JpegCodec(91)


def test_engines_are_named_with_versions():
    engines = available_engines()
    assert engines["pillow"].startswith("Pillow ")
    assert all(any(c.isdigit() for c in version) for version in engines.values())


@pytest.mark.parametrize("codec", [JpegCodec(90, "4:2:0"), PngCodec(3)], ids=["jpeg", "png"])
def test_codec_survives_pickling_and_a_spawned_worker(codec):
    image = noise(20, 30)
    codec.encode(image)  # a loaded native library must not travel along
    assert pickle.loads(pickle.dumps(codec)) == codec
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(codec.encode, (image,)) == codec.encode(image)


def test_importing_codecs_loads_no_native_library():
    code = "import sys, etc_data.codecs; sys.exit('turbojpeg' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


# --- descriptions -----------------------------------------------------------------------------


@pytest.mark.parametrize("codec", [JpegCodec(), JpegCodec(80, "4:2:0", "pillow"), PngCodec(9)])
def test_description_survives_json_and_gives_the_codec_back(codec):
    description = json.loads(json.dumps(codec.describe()))
    assert codec_from_dict(description) == codec
    assert "engine" not in description


def test_descriptions_are_fixed():
    assert JpegCodec().describe() == {"name": "jpeg", "quality": 95, "subsampling": "4:4:4"}
    assert PngCodec().describe() == {"name": "png", "compress_level": 6}
    assert (JpegCodec.extension, PngCodec.extension) == ("jpg", "png")


@pytest.mark.parametrize(
    "description",
    [
        {},
        {"name": "webp"},
        {"name": ["jpeg"]},
        {"name": "jpeg"},
        {"name": "jpeg", "quality": 95},
        {"name": "jpeg", "quality": 95, "subsampling": "4:4:4", "engine": "turbo"},
        {"name": "jpeg", "quality": 1000, "subsampling": "4:4:4"},
        {"name": "jpeg", "quality": 95, "subsampling": ["4:4:4"]},
        {"name": "png", "compress_level": None},
        {"name": "png", "compress_level": 6, 7: 8},
    ],
)
def test_descriptions_of_no_codec_raise(description):
    with pytest.raises(CodecError):
        codec_from_dict(description)


# --- decoding ---------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(rgb_arrays, st.integers(0, 9))
def test_png_gives_every_pixel_back(image, level):
    assert np.array_equal(decode(PngCodec(level).encode(image)), image)


@each_engine
def test_pixels_are_a_writable_contiguous_uint8_array(engine):
    for data in (JpegCodec().encode(noise(9, 14)), PngCodec().encode(noise(9, 14))):
        pixels = decode(data, engine=engine)
        assert pixels.shape == (9, 14, 3)
        assert pixels.dtype == np.uint8
        assert pixels.flags.writeable
        assert pixels.flags.c_contiguous


@each_engine
@pytest.mark.parametrize("name", ["JPEG", "PNG"])
def test_grayscale_comes_back_as_three_equal_components(engine, name):
    file = io.BytesIO()
    gray = noise(12, 10)[..., 0]
    Image.fromarray(gray).save(file, name, quality=95)
    pixels = decode(file.getvalue(), engine=engine)
    assert np.array_equal(pixels, np.asarray(Image.open(file).convert("RGB")))


@each_engine
@pytest.mark.parametrize(
    ("mode", "name"),
    [("CMYK", "JPEG"), ("RGBA", "PNG"), ("P", "PNG"), ("1", "PNG"), ("I;16", "PNG")],
)
def test_other_color_modes_raise(engine, mode, name):
    file = io.BytesIO()
    Image.new(mode, (8, 8)).save(file, name)
    with pytest.raises(CodecError, match=f"color mode {mode}"):
        decode(file.getvalue(), engine=engine)


@each_engine
@pytest.mark.parametrize("codec", [JpegCodec(), JpegCodec(40, "4:2:0"), PngCodec()])
def test_data_cut_short_anywhere_raises_and_does_not_warn(engine, codec):
    data = codec.encode(noise(17, 19))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for length in range(len(data)):
            with pytest.raises(CodecError) as caught:
                decode(data[:length], engine=engine)
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"GIF89a\0\0", b"RIFF....WEBP", b"\0" * 100, b"\xff\xd8\xff" * 9]
)
@each_engine
def test_garbage_raises(engine, data):
    with pytest.raises(CodecError):
        decode(data, engine=engine)


def test_message_tells_how_foreign_data_begins():
    with pytest.raises(CodecError, match="begins with 47 49 46 38 39 61"):
        decode(b"GIF89a")
    with pytest.raises(CodecError, match="empty"):
        decode(b"")


def test_every_flipped_byte_of_a_png_raises():
    data = PngCodec().encode(ramp(6, 7))
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 0x20
        with pytest.raises(CodecError):
            decode(bytes(damaged))


@needs_turbo
@settings(max_examples=300, deadline=None)
@given(st.data())
def test_engines_judge_damaged_jpeg_files_alike(data):
    damaged = bytearray(JpegCodec(60, "4:2:0").encode(ramp(20, 18)))
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))

    def judged(engine):
        try:
            return decode(bytes(damaged), engine=engine).tobytes()
        except CodecError as error:
            return str(error)

    assert judged("pillow") == judged("turbo")


@each_engine
def test_bombs_raise_instead_of_filling_the_memory(engine, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for codec in (JpegCodec(), PngCodec()):
        with pytest.raises(CodecError, match="bomb"):
            decode(codec.encode(noise(15, 14)), engine=engine)
        with warnings.catch_warnings():  # up to twice the limit Pillow only warns, and we do not
            warnings.simplefilter("error")
            decode(codec.encode(noise(10, 14)), engine=engine)


def test_warning_filters_are_restored_when_threads_leave_in_any_order():
    before = warnings.filters[:]
    inside = threading.Barrier(3)

    def read(delay: float) -> None:
        with quiet_pillow:
            inside.wait()
            threading.Event().wait(delay)

    threads = [threading.Thread(target=read, args=(delay,)) for delay in (0.0, 0.05)]
    for thread in threads:
        thread.start()
    inside.wait()
    threads[0].join()
    assert warnings.filters != before
    threads[1].join()
    assert warnings.filters == before


# --- comments ---------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", [JpegCodec(), JpegCodec(70, "4:2:0"), PngCodec()])
@settings(max_examples=30, deadline=None)
@given(text=st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1))
def test_comment_comes_back_and_leaves_the_image_alone(codec, text):
    data = codec.encode(noise(16, 24))
    noted = embed_comment(data, text)
    assert read_comment(data) is None
    assert read_comment(noted) == text
    for engine in ENGINES:
        assert np.array_equal(decode(noted, engine=engine), decode(data, engine=engine))
    start = next(i for i, (a, b) in enumerate(itertools.zip_longest(data, noted)) if a != b)
    added = len(noted) - len(data)
    assert noted[:start] + noted[start + added :] == data  # nothing else has changed


def test_jpeg_comment_stands_right_behind_the_jfif_segment():
    data = embed_comment(JpegCodec().encode(noise(8, 8)), "note")
    assert data[2:4] == b"\xff\xe0"
    assert data[20:28] == b"\xff\xfe\x00\x06note"
    assert Image.open(io.BytesIO(data)).info["comment"] == b"note"


def test_jpeg_comment_stands_right_behind_the_start_without_a_jfif_segment():
    data = JpegCodec().encode(noise(8, 8))
    bare = data[:2] + data[20:]
    assert embed_comment(bare, "note")[:10] == b"\xff\xd8\xff\xfe\x00\x06note"


def test_png_comment_is_the_text_chunk_behind_the_header():
    data = embed_comment(PngCodec().encode(noise(8, 8)), "note")
    assert data[33:58] == png_chunk(b"tEXt", b"etc-data\0note")
    assert Image.open(io.BytesIO(data)).text == {"etc-data": "note"}


def test_longest_comment_fits_and_a_longer_one_raises():
    for codec in (JpegCodec(), PngCodec()):
        data = codec.encode(noise(8, 8))
        noted = embed_comment(data, "x" * 65533)
        assert read_comment(noted) == "x" * 65533
        assert np.array_equal(decode(noted), decode(data))
        with pytest.raises(CodecError, match="65534 characters"):
            embed_comment(data, "x" * 65534)


@pytest.mark.parametrize("text", ["", "Größe", "two\nlines", "nul\0", "\x7f"])
def test_comment_that_is_not_printable_ascii_raises(text):
    with pytest.raises(CodecError, match="printable ASCII"):
        embed_comment(JpegCodec().encode(noise(8, 8)), text)


def test_second_comment_raises():
    for codec in (JpegCodec(), PngCodec()):
        noted = embed_comment(codec.encode(noise(8, 8)), "first")
        with pytest.raises(CodecError, match="already"):
            embed_comment(noted, "second")


def test_foreign_notes_are_not_taken_for_ours():
    png = PngCodec().encode(noise(8, 8))
    foreign = png[:33] + png_chunk(b"tEXt", b"Author\0somebody") + png[33:]
    assert read_comment(foreign) is None
    assert read_comment(embed_comment(foreign, "ours")) == "ours"
    jpeg = JpegCodec().encode(noise(8, 8))
    latin = jpeg[:20] + b"\xff\xfe\x00\x04\xfc\xdf" + jpeg[20:]
    assert read_comment(latin) is None


def test_comment_is_found_behind_fill_bytes_and_other_segments():
    jpeg = JpegCodec().encode(noise(8, 8))
    odd = jpeg[:20] + b"\xff\xe1\x00\x04ab" + b"\xff\xff\xff\xfe\x00\x04ok" + jpeg[20:]
    assert read_comment(odd) == "ok"
    assert np.array_equal(decode(odd), decode(jpeg))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no picture",
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xff\xff",
        b"\xff\xd8\xff\xe0",
        b"\xff\xd8\xff\xe0\x00",
        b"\xff\xd8\xff\xe0\x00\x01\xff\xda",
        b"\xff\xd8\xff\xe0\x00\x10JFIF",
        b"\xff\xd8\xff\xe0\x00\x02abcd",
        b"\xff\xd8\xff\x00",
        b"\xff\xd8\xff\xd0\xff\xda",
        b"\x89PNG\r\n\x1a\n",
        b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR",
        b"\x89PNG\r\n\x1a\n\xff\xff\xff\xffIHDR" + b"\0" * 30,
        b"\x89PNG\r\n\x1a\n\0\0\0\0IHDR\0\0\0\0",
    ],
)
def test_malformed_heads_raise(data):
    with pytest.raises(CodecError):
        read_comment(data)
    with pytest.raises(CodecError):
        embed_comment(data, "note")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), st.sampled_from([b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b""]))
def test_random_bytes_give_a_comment_none_or_our_error(tail, head):
    try:
        note = read_comment(head + tail)
    except CodecError:
        return
    assert note is None or note.isascii()
