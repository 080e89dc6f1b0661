import importlib
import io
import os
import pickle
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image, ImageFile, ImageOps

from etc_data.errors import GeometryError, ImageError, UnreadableImageError
from etc_data.sources.images import fit_to_grid, load_rgb, picture_extensions, resize_to

ROOT = Path(__file__).parents[3]
PICTURES = Path(os.environ.get("ETC_DATA_TEST_IMAGES", ROOT / ".." / "shared" / "data"))

with_pictures = pytest.mark.skipif(not PICTURES.is_dir(), reason="no folder of test images")
every_value = np.arange(1 << 16, dtype=np.uint16).reshape(256, 256)


def saved(image: Image.Image, name: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


def noise(height: int, width: int, components: int = 3) -> np.ndarray:
    return np.random.default_rng(height * 1000 + width).integers(
        0, 256, (height, width, components), np.uint8
    )


def pixels(file) -> np.ndarray:
    image = load_rgb(file)
    assert type(image) is Image.Image
    assert image.mode == "RGB"
    return np.asarray(image)


def png(width: int, height: int, depth: int, kind: int, rows: bytes, extra: bytes = b"") -> bytes:
    """A PNG file by the specification, for what Pillow cannot write."""
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    body = png_chunk(b"IHDR", header) + extra + png_chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + body + png_chunk(b"IEND", b"")


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def tiff(values: np.ndarray, bits: int, photometric: int, sample_format: int = 1) -> bytes:
    """An uncompressed little-endian grayscale TIFF file by the specification."""
    if bits == 12:
        pairs = values.reshape(-1, 2).astype(np.uint32)
        packed = (pairs[:, 0] << 12) | pairs[:, 1]
        data = b"".join(int(p).to_bytes(3) for p in packed)
    else:
        data = values.astype(values.dtype.newbyteorder("<")).tobytes()
    height, width = values.shape
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, photometric), (273, 8)]
    tags += [(277, 1), (278, height), (279, len(data)), (339, sample_format)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    directory = struct.pack("<H", len(tags)) + entries + b"\0\0\0\0"
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory


# --- what comes out ---------------------------------------------------------------------------


def test_bytes_file_and_path_give_the_same_picture(tmp_path):
    data = saved(Image.fromarray(noise(20, 30)), "PNG")
    path = tmp_path / "picture.png"
    path.write_bytes(data)
    expected = noise(20, 30)
    assert np.array_equal(pixels(data), expected)
    assert np.array_equal(pixels(path), expected)
    assert np.array_equal(pixels(str(path)), expected)
    with path.open("rb") as file:
        assert np.array_equal(pixels(file), expected)
        assert not file.closed


def test_no_metadata_is_left():
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "patient 17"
    exif.get_ifd(0x8825)[1] = "N"  # a position
    for name, options in {
        "JPEG": {"comment": b"secret", "dpi": (72, 72)},
        "PNG": {"dpi": (72, 72)},
        "TIFF": {},
        "WEBP": {"lossless": True},
    }.items():
        source = Image.fromarray(noise(12, 10))
        data = saved(source, name, exif=exif, icc_profile=b"x" * 200, **options)
        image = load_rgb(data)
        bare = Image.new("RGB", image.size)
        assert image.info == {}
        assert vars(image).keys() - {"_exif"} == vars(bare).keys() - {"_exif"}
        assert dict(image.getexif()) == {}
        assert image.format is None
        for word in (b"secret", b"patient", b"xxx"):
            assert word not in pickle.dumps(image)
            assert word not in saved(image, name)


def test_path_is_not_remembered(tmp_path):
    path = tmp_path / "patient-17.bmp"
    Image.fromarray(noise(8, 8)).save(path)
    image = load_rgb(path)
    assert not hasattr(image, "filename")
    assert b"patient" not in pickle.dumps(image)
    path.unlink()
    image.getpixel((7, 7))  # nothing is left to be read later


def test_picture_is_no_view_of_a_mapped_file(tmp_path):
    path = tmp_path / "gray.bmp"
    Image.fromarray(noise(8, 8)[..., 0]).save(path)
    image = load_rgb(path)
    path.write_bytes(b"")
    image.putpixel((0, 0), (1, 2, 3))
    assert image.getpixel((0, 0)) == (1, 2, 3)


# --- orientation ------------------------------------------------------------------------------

# Where the stored rows and columns lie on the upright picture, from the EXIF standard: for every
# orientation, where the stored corners (top left, top right, bottom left, bottom right) end up.
CORNERS = {
    1: ("TL", "TR", "BL", "BR"),
    2: ("TR", "TL", "BR", "BL"),
    3: ("BR", "BL", "TR", "TL"),
    4: ("BL", "BR", "TL", "TR"),
    5: ("TL", "BL", "TR", "BR"),
    6: ("TR", "BR", "TL", "BL"),
    7: ("BR", "TR", "BL", "TL"),
    8: ("BL", "TL", "BR", "TR"),
}


@pytest.mark.parametrize("name", ["JPEG", "PNG", "TIFF", "WEBP", "MPO"])
@pytest.mark.parametrize("orientation", CORNERS)
def test_picture_is_turned_upright(name, orientation):
    colors = [(250, 10, 10), (10, 250, 10), (10, 10, 250), (240, 240, 10)]
    stored = np.full((32, 48, 3), 128, np.uint8)
    stored[:16, :16], stored[:16, -16:], stored[-16:, :16], stored[-16:, -16:] = colors
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"WEBP": {"lossless": True}, "JPEG": {"subsampling": 0, "quality": 95}}.get(name, {})
    if name == "MPO":
        options = {"save_all": True, "append_images": [Image.new("RGB", (48, 32))], "quality": 95}
    data = saved(Image.fromarray(stored), name, exif=exif.tobytes(), **options)
    upright = pixels(data)
    assert upright.shape == ((32, 48, 3) if orientation < 5 else (48, 32, 3))
    places = {"TL": (2, 2), "TR": (2, -3), "BL": (-3, 2), "BR": (-3, -3)}
    for color, corner in zip(colors, CORNERS[orientation], strict=True):
        assert np.abs(upright[places[corner]].astype(int) - color).max() < 16
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(upright, np.asarray(ImageOps.exif_transpose(image)))


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_orientation_outside_the_standard_leaves_the_picture_as_stored(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(noise(16, 24))
    assert load_rgb(saved(image, "JPEG", exif=exif)).size == (24, 16)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\x7f", b"Exif\0\0MM\0*\0\0"]
)
def test_broken_exif_data_leaves_the_picture_as_stored_and_does_not_warn(exif):
    data = saved(Image.fromarray(noise(16, 24)), "JPEG", exif=exif)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_rgb(data).size == (24, 16)


def test_exif_data_that_pillow_gives_up_on_leaves_the_picture_as_stored(monkeypatch):
    def give_up(self):
        raise SyntaxError("not a TIFF file")

    monkeypatch.setattr(Image.Image, "getexif", give_up)
    assert load_rgb(saved(Image.fromarray(noise(16, 24)), "JPEG")).size == (24, 16)


# --- color modes ------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA"])
@pytest.mark.parametrize("name", ["PNG", "TIFF"])
def test_opaque_pictures_keep_their_colors(mode, name):
    image = Image.fromarray(noise(20, 30)).convert(mode)
    expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(pixels(saved(image, name)), expected)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparent_pixels_lie_over_white(mode):
    values = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 256, axis=1)
    alpha = np.repeat(np.arange(256, dtype=np.uint8)[None, :], 256, axis=0)
    stack = [values, alpha] if mode == "LA" else [values, 255 - values, values // 2, alpha]
    image = Image.fromarray(np.stack(stack, axis=-1), mode)
    color = np.stack([values] * 3 if mode == "LA" else stack[:3], axis=-1).astype(float)
    share = alpha[..., None] / 255
    expected = np.rint(color * share + 255 * (1 - share))
    assert np.array_equal(pixels(saved(image, "PNG")), expected)


def test_palette_with_a_transparent_index_lies_over_white():
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    expected = [[(10, 20, 30), (255, 255, 255), (70, 80, 90)]]
    assert pixels(saved(image, "PNG", transparency=1)).tolist() == [list(map(list, expected[0]))]
    assert pixels(saved(image, "GIF", transparency=1)).tolist() == [list(map(list, expected[0]))]


def test_palette_with_half_transparent_colors_lies_over_white():
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    image.putpalette([0, 0, 0, 0, 0, 0, 0, 0, 0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = pixels(saved(image, "PNG", transparency=bytes([0, 51, 255])))
    assert result[0, :, 0].tolist() == [255, 204, 0]


def test_transparent_color_of_grayscale_and_rgb_lies_over_white():
    gray = png(3, 1, 8, 0, b"\0\x05\x06\x07", png_chunk(b"tRNS", b"\0\x06"))
    assert pixels(gray)[0, :, 0].tolist() == [5, 255, 7]
    color = png(2, 1, 8, 2, b"\0\1\2\3\4\5\6", png_chunk(b"tRNS", b"\0\4\0\5\0\6"))
    assert pixels(color).tolist() == [[[1, 2, 3], [255, 255, 255]]]
    deep = png(3, 1, 16, 0, b"\0\0\0\x80\0\xff\xff", png_chunk(b"tRNS", b"\x80\0"))
    assert pixels(deep)[0, :, 0].tolist() == [0, 255, 255]
    black = png(2, 1, 16, 0, b"\0\0\0\0\x01", png_chunk(b"tRNS", b"\0\0"))
    assert pixels(black)[0, :, 0].tolist() == [255, 0]


@pytest.mark.parametrize(
    ("depth", "kind", "rows", "key"),
    [(2, 0, b"\0\x1b", b"\0\2"), (4, 0, b"\0\x12\x34", b"\0\2"), (16, 2, bytes(25), bytes(6))],
)
def test_transparent_color_that_pillow_does_not_apply_is_refused(depth, kind, rows, key):
    with pytest.raises(UnreadableImageError, match="transparent color"):
        load_rgb(png(4, 1, depth, kind, rows, png_chunk(b"tRNS", key)))
    load_rgb(png(4, 1, depth, kind, rows))


def test_cmyk_follows_pillow_also_with_adobes_inverted_values():
    image = Image.fromarray(noise(16, 16)).resize((64, 64)).convert("CMYK")
    expected = np.asarray(image.convert("RGB")).astype(int)
    jpeg = saved(image, "JPEG", quality=100, subsampling=0)
    assert b"Adobe" in jpeg  # Pillow writes inverted values under that marker
    assert np.abs(pixels(jpeg) - expected).max() <= 6
    assert np.array_equal(pixels(saved(image, "TIFF")), expected)


def test_ycbcr_tiff_is_converted():
    image = Image.fromarray(noise(16, 16)).convert("YCbCr")
    data = saved(image, "TIFF")
    with Image.open(io.BytesIO(data)) as stored:
        assert stored.mode == "YCbCr"
    assert np.array_equal(pixels(data), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("name", ["PNG", "TIFF", "JPEG2000"])
def test_sixteen_bit_grayscale_is_scaled_and_never_clipped(name):
    result = pixels(saved(Image.fromarray(every_value), name))
    expected = np.rint(every_value * (255 / 65535))
    assert np.array_equal(result, np.repeat(expected[..., None], 3, axis=2))


def test_sixteen_bit_grayscale_is_scaled_in_either_byte_order():
    data = saved(Image.frombytes("I;16B", (256, 256), every_value.astype(">u2").tobytes()), "TIFF")
    with Image.open(io.BytesIO(data)) as stored:
        assert stored.mode == "I;16B"
    assert np.array_equal(pixels(data)[..., 0], np.rint(every_value / 257))


def test_sixteen_bit_netpbm_is_scaled():
    data = b"P5 256 256 65535\n" + every_value.astype(">u2").tobytes()
    assert np.array_equal(pixels(data)[..., 2], np.rint(every_value / 257))


def test_sixteen_bit_tiff_with_white_as_zero_is_turned_around():
    straight, reverse = (pixels(tiff(every_value, 16, white)) for white in (1, 0))
    assert np.array_equal(straight[..., 0], np.rint(every_value / 257))
    assert np.array_equal(reverse, 255 - straight)


def test_twelve_bit_tiff_is_scaled_by_its_own_white():
    values = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    result = pixels(tiff(values, 12, 1))
    assert np.array_equal(result[..., 0], np.rint(values * (255 / 4095)))


@pytest.mark.parametrize("value", [-1, 65536])
def test_integers_beyond_sixteen_bits_are_refused(value):
    values = np.array([[0, 1], [2, value]], np.int32)
    with pytest.raises(UnreadableImageError, match="do not fit 0 to 65535"):
        load_rgb(tiff(values, 32, 1, sample_format=2))
    values[1, 1] = 65535
    assert pixels(tiff(values, 32, 1, sample_format=2))[..., 0].tolist() == [[0, 0], [0, 255]]


def test_sixteen_bit_color_is_read_as_pillow_reads_it():
    rows = b"\0" + bytes(range(24))
    assert pixels(png(4, 1, 16, 2, rows)).ravel().tolist() == list(range(0, 24, 2))


@pytest.mark.parametrize("mode", ["F", "LAB"])
def test_modes_without_an_exact_form_are_refused(mode):
    with pytest.raises(UnreadableImageError, match=f"color mode {mode}"):
        load_rgb(saved(Image.new(mode, (8, 8)), "TIFF"))


@settings(max_examples=50, deadline=None)
@given(
    npst.arrays(np.uint8, st.tuples(st.integers(1, 30), st.integers(1, 30), st.just(3))),
    st.sampled_from(["PNG", "BMP", "TIFF", "WEBP", "PPM", "TGA"]),
)
def test_lossless_formats_keep_every_pixel(image, name):
    options = {"lossless": True} if name == "WEBP" else {}
    assert np.array_equal(pixels(saved(Image.fromarray(image), name, **options)), image)


# --- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
def test_animations_and_several_pages_are_refused(name):
    frames = [Image.fromarray(noise(16, 16 + i)) for i in range(3)]
    frames = [frame.resize((16, 16)) for frame in frames]
    data = saved(frames[0], name, save_all=True, append_images=frames[1:])
    with pytest.raises(UnreadableImageError, match="3 frames or pages"):
        load_rgb(data)
    assert load_rgb(saved(frames[0], name, save_all=True)).size == (16, 16)


def test_first_picture_of_a_phones_multi_picture_file_is_taken():
    first, second = Image.fromarray(noise(16, 24)), Image.new("RGB", (24, 16))
    data = saved(first, "MPO", save_all=True, append_images=[second], quality=95)
    with Image.open(io.BytesIO(data)) as stored:
        assert (stored.format, stored.n_frames) == ("MPO", 2)
    assert np.array_equal(pixels(data), pixels(saved(first, "JPEG", quality=95)))


@pytest.mark.parametrize("name", ["JPEG", "PNG"])
def test_data_cut_short_anywhere_is_refused(name):
    data = saved(Image.fromarray(noise(19, 17)), name)
    for length in range(len(data)):
        with pytest.raises(UnreadableImageError) as caught:
            load_rgb(data[:length])
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["BMP", "TIFF", "WEBP", "GIF", "JPEG2000", "PPM", "TGA"])
def test_data_without_its_second_half_is_refused(name):
    data = saved(Image.fromarray(noise(64, 64)), name)
    with pytest.raises(UnreadableImageError):
        load_rgb(data[: len(data) // 2])


def test_every_flipped_byte_of_a_png_is_noticed():
    data = saved(Image.fromarray(noise(5, 4)), "PNG")
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 0x04
        with pytest.raises(UnreadableImageError):
            load_rgb(bytes(damaged))


@pytest.mark.parametrize("data", [b"\0", b"hello", b"\xff\xd8\xff", b"%PDF-1.7", b"\x89PNG\r\n"])
def test_what_is_no_picture_is_refused(data):
    with pytest.raises(UnreadableImageError, match=r"no picture|cannot be read"):
        load_rgb(data)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "ICO", "PCX", "SGI", "QOI"]),
    st.data(),
)
def test_damage_gives_an_rgb_picture_or_our_error(name, draws):
    data = bytearray(saved(Image.fromarray(noise(16, 16)), name))
    for _ in range(draws.draw(st.integers(1, 5))):
        position = draws.draw(st.integers(0, min(len(data) - 1, 400)))
        data[position] = draws.draw(st.integers(0, 255))
    try:
        assert load_rgb(bytes(data)).mode == "RGB"
    except UnreadableImageError as error:
        assert "\n" not in str(error)
        assert "object at" not in str(error)


def test_empty_file_is_refused(tmp_path):
    path = tmp_path / "patient-17.jpg"
    path.touch()
    for file in (b"", io.BytesIO(), path):
        with pytest.raises(UnreadableImageError, match="empty"):
            load_rgb(file)


def test_bombs_are_refused_with_a_hint():
    header = png(20000, 20000, 8, 2, b"\0")
    with pytest.raises(UnreadableImageError, match="400000000 pixels") as caught:
        load_rgb(header)
    assert "MAX_IMAGE_PIXELS" in caught.value.hint


def test_large_pictures_below_the_limit_do_not_warn(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_rgb(saved(Image.fromarray(noise(10, 15)), "PNG")).size == (15, 10)


def test_text_bombs_are_refused():
    text = png_chunk(b"zTXt", b"k\0\0" + zlib.compress(b"a" * (1 << 21)))
    with pytest.raises(UnreadableImageError):
        load_rgb(png(1, 1, 8, 0, b"\0\0", text))


def test_pictures_without_pixels_are_refused():
    for data in (png(0, 4, 8, 0, b""), b"P5 0 4 255\n", b"P6 0 0 255\n"):
        with pytest.raises(UnreadableImageError):
            load_rgb(data)


def test_drawings_are_refused_before_they_start_a_program(monkeypatch):
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("was loaded"))
    data = saved_eps()
    with pytest.raises(UnreadableImageError, match="type EPS holds no picture"):
        load_rgb(data)


def saved_eps() -> bytes:
    lines = ["%!PS-Adobe-3.0 EPSF-3.0", "%%BoundingBox: 0 0 10 10", "%%EndComments", "showpage"]
    return "\n".join([*lines, "%%EOF", ""]).encode()


def test_messages_do_not_tell_the_path(tmp_path):
    contents = {"empty": b"", "text": b"hello", "cut": saved(Image.new("RGB", (9, 9)), "PNG")[:-20]}
    for name, data in contents.items():
        path = tmp_path / f"patient-17-{name}.png"
        path.write_bytes(data)
        with pytest.raises(UnreadableImageError) as caught:
            load_rgb(path)
        assert "patient" not in str(caught.value)
        assert str(tmp_path) not in str(caught.value)
    for path in (tmp_path / "patient-missing.png", tmp_path):
        with pytest.raises(UnreadableImageError, match="cannot be read") as caught:
            load_rgb(path)
        assert str(tmp_path) not in str(caught.value)


def test_extensions_are_those_of_pictures():
    extensions = picture_extensions()
    assert {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".mpo"} <= extensions
    assert not {".pdf", ".eps", ".h5", ".mpg", ".csv", ".txt", ""} & extensions


@with_pictures
def test_photos_come_out_as_pillow_decodes_them():
    photos = sorted(PICTURES.glob("photos/*.JPEG")) + sorted(PICTURES.glob("kodak24/*.png"))[:3]
    assert photos
    for path in photos:
        with Image.open(path) as image:
            expected = ImageOps.exif_transpose(image.convert("RGB"))
        assert np.array_equal(pixels(path), np.asarray(expected))


# --- resizing ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def torchvision_v2():
    importlib.import_module("etc_data.torchvision_cpu")  # before torchvision
    from torchvision.transforms import v2

    return v2


@pytest.fixture(scope="module")
def torchvision_v1():
    importlib.import_module("etc_data.torchvision_cpu")  # before torchvision
    from torchvision import transforms

    return transforms


SIZES = [(375, 500), (500, 375), (224, 224), (300, 225), (7, 5), (100, 333), (333, 101), (1, 9)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("side", [224, 33, 8, 1])
def test_square_crop_is_torchvisions_resize_and_center_crop(torchvision_v1, torchvision_v2, size, side):
    image = Image.fromarray(noise(*size))
    result = np.asarray(resize_to(image, side, side))
    for package in (torchvision_v1, torchvision_v2):
        resize = package.Resize(side, package.InterpolationMode.BICUBIC, antialias=True)
        expected = package.CenterCrop(side)(resize(image))
        assert np.array_equal(result, np.asarray(expected))


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 70))
def test_square_crop_is_torchvisions_at_any_size(torchvision_v2, height, width, side):
    image = Image.fromarray(noise(height, width))
    bicubic = torchvision_v2.InterpolationMode.BICUBIC
    resize = torchvision_v2.Resize(side, bicubic, antialias=True)
    expected = torchvision_v2.CenterCrop(side)(resize(image))
    assert np.array_equal(np.asarray(resize_to(image, side, side)), np.asarray(expected))


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 60), st.integers(1, 60))
def test_both_modes_give_the_size_asked_for(own_height, own_width, height, width):
    image = Image.fromarray(noise(own_height, own_width))
    for mode in ("crop", "exact"):
        assert resize_to(image, height, width, mode=mode).size == (width, height)


def test_crop_keeps_the_shape_and_the_center():
    image = Image.new("RGB", (400, 100), "red")
    image.paste((0, 0, 255), (140, 0, 260, 100))
    assert resize_to(image, 50, 50).getcolors() == [(2500, (0, 0, 255))]
    wide = np.asarray(resize_to(image, 50, 200))
    assert (wide[:, :65] == (255, 0, 0)).all()
    assert (wide[:, 75:125] == (0, 0, 255)).all()


def test_exact_stretches_the_whole_picture():
    image = Image.fromarray(noise(40, 60))
    expected = image.resize((32, 48), Image.Resampling.BICUBIC)
    assert np.array_equal(np.asarray(resize_to(image, 48, 32, mode="exact")), np.asarray(expected))


def test_picture_of_the_right_size_is_returned_as_it_is():
    image = Image.fromarray(noise(40, 60))
    assert resize_to(image, 40, 60, mode="exact") is image
    assert resize_to(image, 40, 60, mode="crop") is image


@pytest.mark.parametrize(("height", "width"), [(0, 8), (8, 0), (-1, 8)])
def test_sizes_that_are_not_positive_raise(height, width):
    with pytest.raises(GeometryError, match="not positive"):
        resize_to(Image.new("RGB", (8, 8)), height, width)


def test_very_narrow_picture_raises_instead_of_filling_the_memory():
    with pytest.raises(GeometryError, match="less narrow"):
        resize_to(Image.new("RGB", (60000, 1)), 224, 224)


def test_unknown_mode_and_other_color_modes_raise():
    with pytest.raises(GeometryError, match="'stretch'"):
        resize_to(Image.new("RGB", (8, 8)), 8, 8, mode="stretch")
    with pytest.raises(GeometryError, match="'tile'"):
        fit_to_grid(Image.new("RGB", (8, 8)), 16, "tile")
    for mode in ("L", "RGBA"):
        with pytest.raises(ImageError, match=f"mode {mode}"):
            resize_to(Image.new(mode, (8, 8)), 8, 8)
        with pytest.raises(ImageError, match=f"mode {mode}"):
            fit_to_grid(Image.new(mode, (8, 8)), 8, "pad")


# --- the grid ---------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 20))
def test_pad_repeats_the_last_row_and_column(height, width, block_size):
    image = Image.fromarray(noise(height, width))
    padded = np.asarray(fit_to_grid(image, block_size, "pad"))
    new_height, new_width, _ = padded.shape
    assert new_height % block_size == new_width % block_size == 0
    assert 0 <= new_height - height < block_size
    assert 0 <= new_width - width < block_size
    rows = np.minimum(np.arange(new_height), height - 1)
    columns = np.minimum(np.arange(new_width), width - 1)
    assert np.array_equal(padded, noise(height, width)[rows][:, columns])


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 20))
def test_crop_cuts_the_rim_evenly_or_raises(height, width, block_size):
    image = Image.fromarray(noise(height, width))
    if min(height, width) < block_size:
        with pytest.raises(GeometryError, match="smaller than one block"):
            fit_to_grid(image, block_size, "crop")
        return
    cropped = np.asarray(fit_to_grid(image, block_size, "crop"))
    new_height, new_width, _ = cropped.shape
    assert (new_height, new_width) == (height - height % block_size, width - width % block_size)
    offsets = [
        (top, left)
        for top in ((height - new_height) // 2, -((new_height - height) // 2))
        for left in ((width - new_width) // 2, -((new_width - width) // 2))
    ]
    own = np.asarray(image)
    assert any(
        np.array_equal(own[top : top + new_height, left : left + new_width], cropped)
        for top, left in offsets
    )


@pytest.mark.parametrize(
    ("size", "block_size", "expected"),
    [
        ((33, 50), 16, (32, 48)),
        ((40, 41), 16, (48, 48)),
        ((39, 23), 16, (32, 16)),
        ((3, 100), 16, (16, 96)),
        ((7, 8), 3, (6, 9)),
    ],
)
def test_resize_goes_to_the_nearest_multiple(size, block_size, expected):
    image = Image.fromarray(noise(*size))
    result = fit_to_grid(image, block_size, "resize")
    assert result.size == expected[::-1]
    reference = image.resize(expected[::-1], Image.Resampling.BICUBIC)
    assert np.array_equal(np.asarray(result), np.asarray(reference))


@pytest.mark.parametrize("how", ["pad", "crop", "resize"])
def test_picture_that_fits_the_grid_is_returned_as_it_is(how):
    image = Image.fromarray(noise(32, 48))
    assert fit_to_grid(image, 16, how) is image
    assert fit_to_grid(image, 1, how) is image


def test_block_size_that_is_not_positive_raises():
    with pytest.raises(GeometryError, match="block_size 0"):
        fit_to_grid(Image.new("RGB", (8, 8)), 0, "pad")
