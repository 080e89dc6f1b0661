"""Coders: lossless ones give every pixel back, JPEG is what `etc-data encrypt` writes."""

import builtins
import importlib.util

import numpy as np
import pytest

from etc_data.codecs import JpegCodec, PngCodec, decode
from etc_data.compression.coders import Jpeg, curve_coders, lossless_coders
from etc_data.compression.lossless import Jpeg2000, JpegLs, Png
from etc_data.errors import CodecError

needs_imagecodecs = pytest.mark.skipif(
    importlib.util.find_spec("imagecodecs") is None, reason="imagecodecs is not installed"
)
LOSSLESS = [
    pytest.param(Png, id="png"),
    pytest.param(JpegLs, id="jpeg-ls", marks=needs_imagecodecs),
    pytest.param(Jpeg2000, id="jpeg-2000", marks=needs_imagecodecs),
    pytest.param(lambda: Jpeg2000(False), id="colors-apart", marks=needs_imagecodecs),
]


@pytest.mark.parametrize("make", LOSSLESS)
def test_lossless_coders_give_every_pixel_of_photos_back(make, crops):
    coder = make()
    for image in (*crops, *(crop[..., 1] for crop in crops)):
        restored = coder.decode(coder.encode(image))
        assert restored.dtype == np.uint8
        assert np.array_equal(restored, image)


@pytest.mark.parametrize("make", LOSSLESS)
@pytest.mark.parametrize("shape", [(32, 32, 3), (224, 224, 3), (16, 48), (1, 1, 3)])
def test_lossless_coders_give_noise_back(make, shape):
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    coder = make()
    assert np.array_equal(coder.decode(coder.encode(image)), image)


@needs_imagecodecs
def test_lossless_files_are_of_the_formats_they_are_called(crops):
    data = JpegLs().encode(crops[0])
    assert data.startswith(b"\xff\xd8")  # SOI; SOF55 after a SPIFF header
    assert b"\xff\xf7" in data[:64]
    assert Jpeg2000().encode(crops[0])[4:12] == b"jP  \r\n\x87\n"
    assert len(JpegLs().encode(crops[0])) < crops[0].nbytes
    assert len(Jpeg2000().encode(crops[0])) < len(Jpeg2000(False).encode(crops[0]))


@pytest.mark.parametrize("sampling", ["4:4:4", "4:2:0"])
def test_jpeg_and_png_are_those_of_the_library(sampling, crops):
    assert Jpeg(85, sampling).encode(crops[0]) == JpegCodec(85, sampling).encode(crops[0])
    assert Png().encode(crops[0]) == PngCodec().encode(crops[0])


def test_gray_jpeg_has_one_component(crops):
    data = Jpeg(90, "gray").encode(crops[0][..., 0])
    pixels = decode(data)
    assert np.array_equal(pixels[..., 0], pixels[..., 2])
    assert len(data) < len(Jpeg(90, "4:4:4").encode(np.repeat(crops[0][..., :1], 3, axis=2)))


@pytest.mark.parametrize(
    "image", [np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), float), np.zeros((1, 65_501), np.uint8)]
)
def test_gray_jpeg_refuses_what_is_no_gray_image(image):
    with pytest.raises(CodecError, match=r"not uint8 \[H, W\] of sides up to 65500"):
        Jpeg(90, "gray").encode(image)


def test_quality_out_of_range_is_refused():
    with pytest.raises(CodecError, match="JPEG quality 101"):
        Jpeg(101, "4:4:4")


def test_names_of_coders_differ(treat):
    for name in ("plain", "etc-gray-8"):
        coders = curve_coders(treat(name))
        assert len({(one.name, getattr(one, "quality", None)) for one in coders}) == len(coders)


def test_without_imagecodecs_png_is_left(monkeypatch, treat):
    real = builtins.__import__

    def without(name, *rest, **named):
        if name == "imagecodecs":
            raise ImportError("No module named 'imagecodecs'")
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert lossless_coders(treat("plain")) == (Png(),)
    with pytest.raises(CodecError, match="JPEG-LS needs imagecodecs") as caught:
        JpegLs()
    assert caught.value.hint == "pip install 'etc-data[codecs]'"
