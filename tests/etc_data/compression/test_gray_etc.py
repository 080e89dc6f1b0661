"""Grayscale EtC: inverse, a second and plain implementation, key space, refusals."""

import importlib.util
from fractions import Fraction
from math import factorial, floor, log2
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from etc_data import SecretKey
from etc_data.compression.coders import Jpeg
from etc_data.compression.gray_etc import GrayEtc
from etc_data.errors import GeometryError, ImageError, NonceError, SchemeError

SECRET = bytes(range(32))
STEPS = "scramble-blocks(8)|rotate-flip(8,independent,8)|negative-positive(8,independent,8)"


@pytest.fixture(scope="module")
def reference():
    path = Path(__file__).resolve().parents[2] / "reference" / "etc_reference.py"
    spec = importlib.util.spec_from_file_location("etc_reference", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@st.composite
def images(draw):
    rows, columns = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    return draw(arrays(np.uint8, (8 * rows, 8 * columns, 3)))


@given(images(), st.binary(min_size=32, max_size=32))
def test_decryption_brings_every_value_back_within_1(image, secret):
    cipher = GrayEtc("etc-gray-8", SecretKey(secret))
    planes = cipher.encrypt(image)
    height, width, _ = image.shape
    assert (planes.dtype, planes.shape) == (np.uint8, (height, 3 * width))
    restored = cipher.decrypt(planes)
    assert restored.dtype == np.uint8
    assert np.abs(restored.astype(int) - image).max() <= 1


def test_planes_are_those_of_the_plain_implementation(reference, crops):
    image = crops[0][:32, :48]
    rows = []
    for line in image.tolist():
        planes = ([], [], [])
        for red, green, blue in line:
            luma = (299 * red + 587 * green + 114 * blue) / Fraction(1000)
            values = luma, 128 + (blue - luma) * 250 / 443, 128 + (red - luma) * 500 / 701
            for plane, value in zip(planes, values, strict=True):
                plane.append([min(255, floor(value + Fraction(1, 2)))])
        rows.append([pixel for plane in planes for pixel in plane])
    wanted = np.array(reference.encrypt(rows, STEPS, SECRET))[..., 0]
    met = GrayEtc("etc-gray-8", SecretKey(SECRET)).encrypt(image)
    assert np.array_equal(met, wanted)


def test_every_plane_is_scrambled_into_every_other(crops):
    # Cb and Cr of a photo are flat, so that their blocks are known by their spread.
    cipher = GrayEtc("etc-gray-8", SecretKey(SECRET))
    planes = cipher.encrypt(crops[0])
    blocks = planes.reshape(12, 8, 48, 8).std(axis=(1, 3))
    flat = blocks < np.median(blocks)
    thirds = [flat[:, 16 * third : 16 * third + 16].mean() for third in range(3)]
    assert max(thirds) - min(thirds) < 0.2


def test_key_space_counts_orders_orientations_and_polarities():
    blocks = 3 * 4 * 6
    wanted = log2(factorial(blocks)) + blocks * log2(8) + blocks
    assert GrayEtc("etc-gray-8", SecretKey(SECRET)).key_space_bits(32, 48) == pytest.approx(wanted)


def test_it_survives_gray_jpeg(crops):
    cipher, coder = GrayEtc("etc-gray-8", SecretKey(SECRET)), Jpeg(95, "gray")
    restored = cipher.decrypt(coder.decode(coder.encode(cipher.encrypt(crops[0]))))
    assert np.abs(restored.astype(int) - crops[0]).mean() < 2


def test_wrong_key_restores_nothing(crops):
    planes = GrayEtc("etc-gray-8", SecretKey(SECRET)).encrypt(crops[0])
    wrong = GrayEtc("etc-gray-8", SecretKey(bytes(32))).decrypt(planes)
    assert np.abs(wrong.astype(int) - crops[0]).mean() > 30


def test_repr_tells_the_key_id_alone():
    key = SecretKey(SECRET)
    assert repr(GrayEtc("etc-gray-8", key)) == f"GrayEtc('etc-gray-8', key_id='{key.id}')"


def test_a_key_per_image_needs_its_nonce(crops):
    cipher = GrayEtc("etc-gray-8", SecretKey(SECRET), key_scope="image")
    planes = cipher.encrypt(crops[0], nonce=bytes(16))
    assert np.abs(cipher.decrypt(planes, nonce=bytes(16)).astype(int) - crops[0]).max() <= 1
    assert not np.array_equal(planes, cipher.encrypt(crops[0], nonce=bytes(15) + b"1"))
    with pytest.raises(NonceError):
        cipher.encrypt(crops[0])


@pytest.mark.parametrize("name", ["etc-gray", "etc-gray-0", "etc-8", "etc-gray-8/4", "gray-8"])
def test_other_names_are_refused(name):
    with pytest.raises(SchemeError, match="its name is such as etc-gray-8"):
        GrayEtc(name, SecretKey(SECRET))


def test_sizes_off_the_grid_are_refused():
    cipher = GrayEtc("etc-gray-8", SecretKey(SECRET))
    with pytest.raises(GeometryError, match="image width 20 is not a multiple of block_size 8"):
        cipher.encrypt(np.zeros((16, 20, 3), np.uint8))
    with pytest.raises(GeometryError):
        cipher.key_space_bits(16, 20)


@pytest.mark.parametrize("image", [np.zeros((16, 16), np.uint8), np.zeros((16, 16, 3), np.float32)])
def test_what_is_no_rgb_image_of_bytes_is_refused(image):
    with pytest.raises(ImageError, match=r"not uint8 \[H, W, 3\]"):
        GrayEtc("etc-gray-8", SecretKey(SECRET)).encrypt(image)


@pytest.mark.parametrize("planes", [np.zeros((16, 16, 3), np.uint8), np.zeros((16, 16), np.uint8)])
def test_what_is_no_three_planes_is_refused(planes):
    with pytest.raises(ImageError, match=r"not uint8 \[H, 3·W\]"):
        GrayEtc("etc-gray-8", SecretKey(SECRET)).decrypt(planes)
