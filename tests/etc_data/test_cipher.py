"""`Cipher`: the types it takes and gives back, key scopes, its cache, threads, and what it refuses."""

import numpy as np
import PIL.Image
import pytest
import torch

from etc_data import Cipher, EtcError, Scheme, SecretKey
from etc_data.errors import GeometryError, ImageError, NonceError, SchemeError
from etc_data.operations import ScrambleBlocks
from etc_data.schemes import PRESET_NAMES

KEY, OTHER_KEY = SecretKey(bytes(range(32))), SecretKey(bytes(range(1, 33)))
ARRAY = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
NONCE, OTHER_NONCE = bytes(range(16)), bytes(range(16, 32))
FIXED = Cipher("etc-16", KEY)
PER_IMAGE = Cipher("etc-16", KEY, key_scope="image")

pytestmark = pytest.mark.filterwarnings("error")


def tensor_of(array):
    return torch.from_numpy(array).movedim(-1, -3).contiguous()


def refused(error, function, *arguments, **options):
    with pytest.raises(error) as caught:
        function(*arguments, **options)
    assert isinstance(caught.value, EtcError)
    assert "\n" not in str(caught.value)
    return f"{caught.value} / {caught.value.hint}"


# -- types --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESET_NAMES)
def test_pil_array_and_tensor_are_encrypted_alike(name):
    cipher = Cipher(name, KEY, key_scope="dataset")
    encrypted = cipher.encrypt(ARRAY)
    picture = cipher.encrypt(PIL.Image.fromarray(ARRAY))
    tensor = cipher.encrypt(tensor_of(ARRAY))
    assert type(encrypted) is np.ndarray
    assert type(picture) is PIL.Image.Image
    assert type(tensor) is torch.Tensor
    assert picture.mode == "RGB"
    assert (np.asarray(picture) == encrypted).all()
    assert torch.equal(tensor, tensor_of(encrypted))
    assert (cipher.decrypt(encrypted) == ARRAY).all()
    assert (np.asarray(cipher.decrypt(picture)) == ARRAY).all()
    assert torch.equal(cipher.decrypt(tensor), tensor_of(ARRAY))


@pytest.mark.parametrize("leading", [(), (2,), (2, 1), (0,), (5, 0)])
@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64"])
def test_shape_and_dtype_are_kept(leading, dtype):
    array = np.random.default_rng(1).random((*leading, 16, 32, 3))
    array = (array * 255).astype(dtype) if dtype == "uint8" else array.astype(dtype)
    for image in (array, tensor_of(array)):
        encrypted = FIXED.encrypt(image)
        decrypted = FIXED.decrypt(encrypted)
        assert encrypted.dtype == decrypted.dtype == image.dtype
        assert encrypted.shape == decrypted.shape == image.shape
        if dtype == "uint8":
            assert bool((decrypted == image).all())
        elif array.size:
            assert float(abs(decrypted - image).max()) < {"float16": 1e-3}.get(dtype, 1e-6)


def test_pictures_of_plugins_and_subclasses_are_pictures(tmp_path):
    PIL.Image.fromarray(ARRAY).save(tmp_path / "a.png")

    class PluginImage(PIL.Image.Image):
        pass

    mine = PluginImage()
    mine.__setstate__(PIL.Image.fromarray(ARRAY).__getstate__())
    with PIL.Image.open(tmp_path / "a.png") as opened:
        for picture in (opened, mine):
            assert type(picture) is not PIL.Image.Image
            encrypted = FIXED.encrypt(picture)
            assert (np.asarray(encrypted) == FIXED.encrypt(ARRAY)).all()


def test_encrypted_picture_carries_nothing_of_the_plain_one(tmp_path):
    exif = PIL.Image.Exif()
    exif[0x010E] = "a name"
    path = tmp_path / "patient.png"
    text = PIL.Image.fromarray(ARRAY)
    text.info["comment"] = "a name"
    text.save(path, exif=exif.tobytes(), icc_profile=b"profile", dpi=(72, 72))
    with PIL.Image.open(path) as picture:
        assert {"exif", "icc_profile", "dpi"} <= set(picture.info)
        for fit in (None, "pad", "crop", "resize"):
            encrypted = FIXED.encrypt(picture.crop((0, 0, 40, 32)) if fit else picture, fit=fit)
            assert encrypted.info == {}
            assert dict(encrypted.getexif()) == {}
            assert getattr(encrypted, "filename", "") == ""


def test_readonly_arrays_and_pictures_are_not_written_to():
    array = ARRAY.copy()
    array.flags.writeable = False
    FIXED.encrypt(array)
    picture = PIL.Image.fromarray(array)
    FIXED.encrypt(picture)
    assert (np.asarray(picture) == ARRAY).all()
    assert (array == ARRAY).all()


def test_gradient_passes_through_without_a_warning():
    image = tensor_of(ARRAY).float() / 255
    image.requires_grad_()
    FIXED.encrypt(image).sum().backward()
    assert image.grad is not None
    assert set(image.grad.unique().tolist()) == {-1.0, 1.0}


# -- keys, contexts, scopes ---------------------------------------------------------------------


def test_same_key_scheme_and_context_encrypt_alike_in_another_cipher():
    twin = Cipher(Scheme.preset("etc-16"), SecretKey(bytes(range(32))), context="")
    assert (twin.encrypt(ARRAY) == FIXED.encrypt(ARRAY)).all()
    assert twin.key_id == FIXED.key_id == KEY.id


@pytest.mark.parametrize(
    "cipher",
    [
        Cipher("etc-16", OTHER_KEY),
        Cipher("etc-16", KEY, context="another"),
        Cipher("ind-16", KEY),
        Cipher(Scheme((*Scheme.preset("etc-16").steps, ScrambleBlocks(16))), KEY),
    ],
    ids=["key", "context", "scheme", "longer scheme"],
)
def test_another_key_context_or_scheme_gives_garbage(cipher):
    image = np.broadcast_to(np.arange(64, dtype=np.uint8)[:, None, None] * 4, (64, 64, 3))
    wrong = cipher.decrypt(FIXED.encrypt(image))
    assert wrong.shape == image.shape
    difference = np.abs(wrong.astype(int) - image)
    assert difference.mean() > 20
    assert np.mean(difference == 0) < 0.2


def test_contexts_share_nothing_even_where_their_texts_join_alike():
    ciphers = [Cipher("etc-2", KEY, context=context) for context in ("", "a", "b", "ab", "é")]
    assert len({cipher.plan(32, 32).value_index()[0].tobytes() for cipher in ciphers}) == 5


def test_key_scope_is_dataset_but_for_pe():
    assert {Cipher(name, KEY).key_scope for name in PRESET_NAMES if name != "pe"} == {"dataset"}
    assert Cipher("pe", KEY).key_scope == "image"
    assert Cipher("pe", KEY, key_scope="dataset").key_scope == "dataset"
    assert "needs the nonce" in refused(NonceError, Cipher("pe", KEY).encrypt, ARRAY)


def test_image_scope_encrypts_by_nonce():
    encrypted = PER_IMAGE.encrypt(ARRAY, nonce=NONCE)
    assert (encrypted == PER_IMAGE.encrypt(ARRAY, nonce=NONCE)).all()
    assert (PER_IMAGE.decrypt(encrypted, nonce=NONCE) == ARRAY).all()
    assert (encrypted != PER_IMAGE.encrypt(ARRAY, nonce=OTHER_NONCE)).any()
    assert (encrypted != FIXED.encrypt(ARRAY)).any()
    assert (PER_IMAGE.decrypt(encrypted, nonce=OTHER_NONCE) != ARRAY).any()


def test_image_scope_gives_common_schemes_a_key_per_image_too():
    cipher = Cipher("com-16", KEY, key_scope="image")
    results = {cipher.encrypt(ARRAY, nonce=bytes([n] * 16)).tobytes() for n in range(20)}
    assert len(results) >= 15


@pytest.mark.parametrize("leading", [(3,), (3, 2)])
def test_sequence_of_nonces_serves_one_item_each(leading):
    array = np.random.default_rng(2).integers(0, 256, (*leading, 16, 32, 3), np.uint8)
    nonces = [NONCE, OTHER_NONCE, NONCE]
    for image in (array, tensor_of(array)):
        encrypted = PER_IMAGE.encrypt(image, nonce=nonces)
        assert type(encrypted) is type(image)
        assert encrypted.shape == image.shape
        for item, plain, nonce in zip(encrypted, image, nonces, strict=True):
            assert bool((item == PER_IMAGE.encrypt(plain, nonce=nonce)).all())
        assert bool((PER_IMAGE.decrypt(encrypted, nonce=tuple(nonces)) == image).all())


def test_one_nonce_serves_the_whole_batch():
    batch = np.stack([ARRAY, ARRAY])
    encrypted = PER_IMAGE.encrypt(batch, nonce=NONCE)
    assert (encrypted[0] == encrypted[1]).all()
    assert (encrypted[0] == PER_IMAGE.encrypt(ARRAY, nonce=NONCE)).all()


@pytest.mark.parametrize("array", [np.zeros((0, 16, 32, 3), np.uint8), np.zeros((0, 2, 16, 32, 3))])
def test_empty_batch_takes_no_nonces(array):
    for image in (array, tensor_of(array)):
        assert PER_IMAGE.encrypt(image, nonce=[]).shape == image.shape
        assert PER_IMAGE.encrypt(image, nonce=NONCE).shape == image.shape


def test_new_nonces_are_16_bytes_and_never_repeat():
    nonces = {PER_IMAGE.new_nonce() for _ in range(200)}
    assert len(nonces) == 200
    assert {(type(nonce), len(nonce)) for nonce in nonces} == {(bytes, 16)}


def test_generator_makes_nonces_reproducible():
    twice = [
        [PER_IMAGE.new_nonce(generator) for _ in range(3)]
        for generator in map(np.random.default_rng, (5, 5))
    ]
    assert twice[0] == twice[1]
    assert len(set(twice[0])) == 3


@pytest.mark.parametrize(
    ("cipher", "image", "nonce", "message"),
    [
        (FIXED, ARRAY, NONCE, 'key scope "dataset" takes no nonce, but one was given'),
        (FIXED, ARRAY[None], [NONCE], 'key scope "dataset" takes no nonce'),
        (
            PER_IMAGE,
            ARRAY,
            None,
            'key scope "image" needs the nonce of the image / draw one with cipher',
        ),
        (PER_IMAGE, ARRAY, b"", "a nonce is 16 bytes, not 0 bytes"),
        (PER_IMAGE, ARRAY, bytes(15), "a nonce is 16 bytes, not 15 bytes"),
        (PER_IMAGE, ARRAY[None], ["x" * 16], "a nonce is 16 bytes, not str"),
        (PER_IMAGE, np.stack([ARRAY] * 16), bytearray(16), "a nonce is 16 bytes, not int"),
        (PER_IMAGE, ARRAY[None], [bytes(17)], "a nonce is 16 bytes, not 17 bytes"),
        (PER_IMAGE, ARRAY[None], [None], "needs the nonce"),
        (PER_IMAGE, ARRAY, [NONCE], "1 nonces for 1 images; one nonce (bytes) serves all"),
        (
            PER_IMAGE,
            np.stack([ARRAY] * 3),
            [NONCE] * 2,
            "2 nonces for 3 images; one nonce (bytes) serves all, or",
        ),
        (PER_IMAGE, np.stack([ARRAY] * 3), [], "0 nonces for 3 images"),
    ],
)
def test_nonce_that_does_not_fit_is_refused(cipher, image, nonce, message):
    assert message in refused(NonceError, cipher.encrypt, image, nonce=nonce)
    assert message in refused(NonceError, cipher.decrypt, image, nonce=nonce)
    if nonce is None or isinstance(nonce, bytes):
        assert message in refused(NonceError, cipher.plan, 16, 16, nonce=nonce)


def test_dataset_scope_has_no_nonces():
    assert 'use key_scope="image"' in refused(NonceError, FIXED.new_nonce)


# -- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("etc", KEY), {}, "there is no scheme 'etc'"),
        ((5, KEY), {}, "a scheme is a name or a Scheme, not int"),
        ((None, KEY), {}, "a scheme is a name or a Scheme, not NoneType"),
        (("etc-16", "k"), {}, "a cipher needs a SecretKey, not str / SecretKey.load(path)"),
        (("etc-16", bytes(32)), {}, "a cipher needs a SecretKey, not bytes"),
        (("etc-16", None), {}, "a cipher needs a SecretKey, not NoneType"),
        (
            ("etc-16", KEY),
            {"key_scope": "file"},
            'key_scope is \'file\'; it must be "dataset" or "image"',
        ),
        (("etc-16", KEY), {"key_scope": ""}, "key_scope is ''"),
        (("etc-16", KEY), {"context": None}, "context is None; it must be a text"),
        (("etc-16", KEY), {"context": b"x"}, "context is b'x'; it must be a text"),
        (("etc-16", KEY), {"context": "\udcff"}, "it must be a text"),
    ],
)
def test_cipher_of_wrong_parts_is_refused(arguments, options, message):
    assert message in refused(SchemeError, Cipher, *arguments, **options)


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "CMYK", "YCbCr", "I;16", "F", "HSV"])
@pytest.mark.parametrize("fit", [None, "pad"])
def test_pictures_of_other_modes_are_refused(mode, fit):
    picture = PIL.Image.new(mode, (32, 20 if fit else 32))
    message = refused(ImageError, FIXED.encrypt, picture, fit=fit)
    assert f"PIL image of mode {mode}; it must be RGB" in message
    assert "load_rgb converts every mode" in message


@pytest.mark.parametrize("orientation", [2, 3, 6, 8, 9])
@pytest.mark.parametrize("fit", [None, "pad", "crop", "resize"])
def test_pictures_that_lie_rotated_are_refused(tmp_path, orientation, fit):
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    array = ARRAY[:20] if fit else ARRAY
    PIL.Image.fromarray(array).save(tmp_path / "a.png", exif=exif.tobytes())
    with PIL.Image.open(tmp_path / "a.png") as picture:
        message = refused(ImageError, FIXED.encrypt, picture, fit=fit)
        assert f"EXIF orientation is {orientation}: its pixels lie rotated" in message
        assert "exif_transpose turns it upright" in message


def test_upright_orientation_is_fine(tmp_path):
    exif = PIL.Image.Exif()
    exif[0x0112] = 1
    PIL.Image.fromarray(ARRAY).save(tmp_path / "a.png", exif=exif.tobytes())
    with PIL.Image.open(tmp_path / "a.png") as picture:
        assert (np.asarray(FIXED.encrypt(picture)) == FIXED.encrypt(ARRAY)).all()


@pytest.mark.parametrize("value", [-0.001, 1.001, 255.0, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("fit", [None, "pad", "resize"])
def test_floats_out_of_range_are_refused(value, fit):
    array = np.full((20 if fit else 32, 48, 3), 0.5, np.float32)
    array[7, 7, 1] = value
    for image in (array, tensor_of(array)):
        message = refused(ImageError, FIXED.encrypt, image, fit=fit)
        assert "they must lie in [0, 1] / encrypt before normalizing" in message
    assert "must lie in [0, 1]" in refused(ImageError, FIXED.decrypt, array)


def test_borders_of_the_range_are_fine():
    array = np.zeros((16, 16, 3), np.float32)
    array[0] = 1
    assert set(np.unique(FIXED.encrypt(array))) == {0.0, 1.0}


@pytest.mark.parametrize("dtype", ["int64", "int16", "uint16", "bool", "complex64"])
@pytest.mark.parametrize("fit", [None, "pad", "resize"])
def test_other_dtypes_are_refused(dtype, fit):
    array = np.zeros((20 if fit else 32, 48, 3), dtype)
    for image in (array, tensor_of(array)):
        message = refused(ImageError, FIXED.encrypt, image, fit=fit)
        assert f"{dtype}; images are uint8 or floating point in [0, 1]" in message


@pytest.mark.parametrize("image", [None, "photo.jpg", b"x", [[[0]]], 5, KEY])
@pytest.mark.parametrize("fit", [None, "pad"])
def test_other_types_are_refused(image, fit):
    message = refused(ImageError, FIXED.encrypt, image, fit=fit)
    assert (
        f"cannot encrypt a {type(image).__name__}; give a PIL image, a NumPy array or a tensor"
        in message
    )


@pytest.mark.parametrize("shape", [(), (32,), (32, 32)])
@pytest.mark.parametrize("fit", [None, "pad"])
def test_fewer_than_three_dimensions_are_refused(shape, fit):
    for image in (np.zeros(shape, np.uint8), torch.zeros(shape, dtype=torch.uint8)):
        message = refused(ImageError, FIXED.encrypt, image, fit=fit)
        assert f"has 3 dimensions or more, not shape {shape}" in message


@pytest.mark.parametrize("components", [1, 2, 4])
def test_other_numbers_of_components_are_refused(components):
    array = np.zeros((16, 32, components), np.uint8)
    assert "does not fit a plan" in refused(ImageError, FIXED.encrypt, array)
    assert "does not fit a plan" in refused(ImageError, FIXED.encrypt, tensor_of(array))


def test_size_off_the_grid_is_refused_with_what_would_fit():
    message = refused(GeometryError, FIXED.encrypt, ARRAY[:, :40])
    assert (
        "image width 40 is not a multiple of block_size 16; pad, crop or resize to 32 or 48" in message
    )
    assert "image height 33" in refused(GeometryError, FIXED.decrypt, np.zeros((33, 32, 3), np.uint8))
    assert "image width 40" in refused(GeometryError, FIXED.encrypt, PIL.Image.new("RGB", (40, 32)))
    assert "image height 33" in refused(GeometryError, FIXED.plan, 33, 32)


def test_components_in_the_wrong_place_are_refused():
    refused(EtcError, FIXED.encrypt, tensor_of(ARRAY).numpy())
    refused(EtcError, FIXED.encrypt, torch.from_numpy(ARRAY))
