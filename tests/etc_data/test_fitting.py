"""Bringing images to the grid: all types are padded, cropped and resized alike."""

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import etc_data.torchvision_cpu  # noqa: F401

# isort: split
from torchvision.transforms import v2

from etc_data import Cipher, SecretKey
from etc_data.errors import GeometryError, ImageError
from etc_data.fitting import fit_image
from etc_data.transforms import Encrypt

pytestmark = pytest.mark.filterwarnings("error")

HOW = ["pad", "crop", "resize"]


def photo(height, width, seed=0):
    """Returns a smooth picture with some noise, uint8 [H, W, 3]."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (5, 5, 3), np.uint8)
    smooth = np.asarray(
        PIL.Image.fromarray(coarse).resize((width, height), PIL.Image.Resampling.BICUBIC)
    )
    return np.clip(smooth + generator.integers(-40, 41, smooth.shape), 0, 255).astype(np.uint8)


def tensor_of(array):
    return torch.from_numpy(array).movedim(-1, -3).contiguous()


def fitted_four_ways(array, block_size, how):
    """Returns the fitted picture, array, tensor and channels-last tensor, all as arrays [H, W, 3]."""
    picture = fit_image(PIL.Image.fromarray(array), block_size, how)
    tensor = fit_image(tensor_of(array), block_size, how)
    view = fit_image(torch.from_numpy(array).movedim(-1, 0), block_size, how)
    return (
        np.asarray(picture),
        fit_image(array, block_size, how),
        tensor.movedim(0, -1).numpy(),
        view.movedim(0, -1).numpy(),
    )


@settings(max_examples=60, deadline=None)
@given(
    st.integers(8, 60),
    st.integers(8, 60),
    st.sampled_from([1, 3, 4, 7, 8]),
    st.sampled_from(HOW),
    st.integers(0, 9),
)
def test_pictures_arrays_and_tensors_are_fitted_alike(height, width, block_size, how, seed):
    # Without hard edges: where one pass of the filter overshoots, the order of its passes matters.
    array = photo(height, width, seed) // 2 + 64
    first, *others = fitted_four_ways(array, block_size, how)
    assert first.shape[0] % block_size == first.shape[1] % block_size == 0
    for other in others:
        assert other.dtype == np.uint8
        assert other.shape == first.shape
        difference = np.abs(first.astype(int) - other)
        if how == "resize":
            # Each pass rounds to bytes; torch and Pillow round with different precision.
            assert difference.max() <= 2
            assert np.mean(difference > 1) < 0.01
        else:
            assert difference.max() == 0


@settings(max_examples=40, deadline=None)
@given(st.integers(5, 60), st.integers(5, 60), st.sampled_from([3, 4, 5]))
def test_each_way_is_what_its_name_says(height, width, block_size):
    array = photo(height, width)
    padded = fit_image(array, block_size, "pad")
    assert padded.shape[:2] == (
        -(-height // block_size) * block_size,
        -(-width // block_size) * block_size,
    )
    missing = ((0, padded.shape[0] - height), (0, padded.shape[1] - width), (0, 0))
    assert (padded == np.pad(array, missing, mode="edge")).all()
    cropped = fit_image(array, block_size, "crop")
    size = (height // block_size * block_size, width // block_size * block_size)
    assert torch.equal(tensor_of(cropped), v2.functional.center_crop(tensor_of(array), list(size)))
    resized = fit_image(array, block_size, "resize")
    for new, old in zip(resized.shape[:2], (height, width), strict=True):
        assert new % block_size == 0
        assert new >= block_size
        assert abs(new - old) <= block_size / 2 or new == block_size


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_floats_are_fitted_like_bytes_and_stay_in_range(how, dtype):
    # Without hard edges, as bytes are cut off at 0 and 255 after each of the filter's two passes.
    array = photo(45, 70) // 2 + 64
    expected = tensor_of(fit_image(array, 16, how)).double() / 255
    fitted = fit_image((tensor_of(array).double() / 255).to(dtype), 16, how)
    assert fitted.dtype == dtype
    assert (fitted.double() - expected).abs().max() < 1.5 / 255 + torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_resized_floats_do_not_overshoot_at_edges(dtype):
    image = torch.zeros(3, 45, 70, dtype=dtype)
    image[:, 10:20, 10:50] = 1
    for fitted in (fit_image(image, 16, "resize"), fit_image(1 - image, 16, "resize")):
        assert (fitted.min(), fitted.max()) == (0, 1)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_float_arrays_keep_their_dtype(how, dtype):
    array = (photo(45, 70) / 255).astype(dtype)
    fitted = fit_image(array, 16, how)
    assert type(fitted) is np.ndarray
    assert fitted.dtype == dtype
    assert fitted.flags.c_contiguous


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("leading", [(2,), (2, 1), (0,), (5, 0)])
def test_batches_are_fitted_item_by_item(how, leading):
    array = np.random.default_rng(0).integers(0, 256, (*leading, 20, 37, 3), np.uint8)
    fitted = fit_image(array, 16, how)
    tensor = fit_image(tensor_of(array), 16, how)
    assert fitted.shape[:-3] == tuple(tensor.shape[:-3]) == leading
    assert torch.equal(tensor, tensor_of(fitted))
    for place in np.ndindex(*leading):
        assert (fitted[place] == fit_image(array[place], 16, how)).all()


@pytest.mark.parametrize("how", HOW)
def test_image_that_fits_is_left_as_it_is(how):
    array = photo(32, 48)
    for image in (array, tensor_of(array), PIL.Image.fromarray(array)):
        assert fit_image(image, 16, how) is image


@pytest.mark.parametrize("how", HOW)
def test_input_is_not_written_to_and_may_be_read_only(how):
    array = photo(33, 49)
    before = array.copy()
    array.flags.writeable = False
    fit_image(array, 16, how)[:] = 0
    fit_image(array[::-1, ::2], 16, how)[:] = 0
    picture = PIL.Image.fromarray(array)
    fit_image(picture, 16, how)
    assert (np.asarray(picture) == before).all()
    assert (array == before).all()


@pytest.mark.parametrize("how", HOW)
def test_cipher_encrypts_the_fitted_image(how):
    cipher = Cipher("etc-16", SecretKey(bytes(32)))
    array = photo(33, 55)
    for image in (array, tensor_of(array), PIL.Image.fromarray(array)):
        decrypted = cipher.decrypt(cipher.encrypt(image, fit=how))
        fitted = fit_image(image, 16, how)
        assert type(decrypted) is type(image)
        equal = np.asarray(decrypted) == np.asarray(fitted)
        assert equal.all()


@pytest.mark.parametrize("how", HOW)
def test_transform_fits_too(how):
    cipher = Cipher("etc-16", SecretKey(bytes(32)))
    array = photo(33, 55)
    encrypted, label = Encrypt(cipher, fit=how)((PIL.Image.fromarray(array), 3))
    assert label == 3
    assert (
        np.asarray(encrypted) == np.asarray(cipher.encrypt(PIL.Image.fromarray(array), fit=how))
    ).all()


@pytest.mark.parametrize("height", [1, 15])
def test_crop_of_less_than_a_block_is_refused(height):
    array = photo(height, 40)
    for image in (array, tensor_of(array), PIL.Image.fromarray(array)):
        with pytest.raises(
            GeometryError, match=f"{height}×40.* is smaller than one block of 16; pad or resize"
        ):
            fit_image(image, 16, "crop")
        for how in ("pad", "resize"):
            fitted = fit_image(image, 16, how)
            assert np.asarray(fitted).size == 3 * 16 * 48


@pytest.mark.parametrize("how", ["", "stretch", "Pad", None, True])
def test_unknown_way_is_refused(how):
    with pytest.raises(GeometryError, match='it must be "pad", "crop" or "resize"'):
        fit_image(photo(10, 10), 16, how)


@pytest.mark.parametrize("image", [None, "x", np.zeros((4, 4)), torch.zeros(4)])
def test_what_is_no_image_is_refused(image):
    with pytest.raises(ImageError, match=f"cannot fit a {type(image).__name__}"):
        fit_image(image, 16, "pad")
