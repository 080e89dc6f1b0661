"""`Encrypt` and `Decrypt`, held to what torchvision asks of its own transforms."""

import copy
import pickle

import numpy as np
import PIL.Image
import pytest
import torch

import etc_data.torchvision_cpu  # noqa: F401

# isort: split
from torchvision import tv_tensors
from torchvision.transforms import v2

from etc_data import Cipher, SecretKey
from etc_data.errors import GeometryError, ImageError, NonceError
from etc_data.transforms import Decrypt, Encrypt, Nonce

KEY = SecretKey(bytes(range(32)))
FIXED = Cipher("etc-16", KEY)
PER_IMAGE = Cipher("etc-16", KEY, key_scope="image")
ARRAY = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
TENSOR = torch.from_numpy(ARRAY).permute(2, 0, 1).contiguous()

pytestmark = pytest.mark.filterwarnings("error")


def picture():
    return PIL.Image.fromarray(ARRAY)


def images():
    """Returns the one image as every type that torchvision's transforms take."""
    return {
        "pil": picture(),
        "tensor": TENSOR.clone(),
        "float tensor": TENSOR / 255,
        "tv image": tv_tensors.Image(TENSOR.clone()),
        "float tv image": tv_tensors.Image(TENSOR / 255),
    }


IMAGES = list(images())


def values(image):
    """Returns the image as bytes [3, H, W], to compare across types."""
    if isinstance(image, PIL.Image.Image):
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)
    image = image.as_subclass(torch.Tensor)
    return (image * 255).round().to(torch.uint8) if image.is_floating_point() else image


EXPECTED = values(FIXED.encrypt(picture()))


# -- types --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", IMAGES)
def test_every_type_is_encrypted_alike_and_keeps_type_and_dtype(kind):
    image = images()[kind]
    encrypted = Encrypt(FIXED)(image)
    assert type(encrypted) is type(image)
    assert torch.equal(values(encrypted), EXPECTED)
    decrypted = Decrypt(FIXED)(encrypted)
    assert type(decrypted) is type(image)
    assert torch.equal(values(decrypted), TENSOR)
    if isinstance(image, torch.Tensor):
        assert encrypted.dtype == decrypted.dtype == image.dtype
        assert encrypted.device == image.device


@pytest.mark.parametrize("kind", IMAGES)
def test_input_is_not_written_to(kind):
    image, untouched = images()[kind], values(images()[kind])
    sample = {"image": image, "label": 3}
    Encrypt(FIXED)(sample)
    Decrypt(FIXED)(sample)
    assert sample["image"] is image
    assert torch.equal(values(image), untouched)
    assert list(sample) == ["image", "label"]


@pytest.mark.parametrize("leading", [(2,), (2, 1), (0,), (5, 0)])
@pytest.mark.parametrize("wrap", [torch.Tensor, tv_tensors.Image])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("cipher", [FIXED, PER_IMAGE], ids=["dataset", "image"])
def test_batches_of_any_leading_dimensions(leading, wrap, dtype, cipher):
    batch = torch.randint(0, 256, (*leading, 3, 32, 48), generator=torch.Generator().manual_seed(1))
    batch = (batch / 255 if dtype.is_floating_point else batch).to(dtype)
    image = wrap(batch) if wrap is tv_tensors.Image else batch
    if cipher is PER_IMAGE:
        encrypted, nonces = Encrypt(cipher, return_nonce=True)(image)
        assert len(nonces) == leading[0]
        decrypted, _ = Decrypt(cipher)(encrypted, nonces)
    else:
        encrypted = Encrypt(cipher)(image)
        decrypted = Decrypt(cipher)(encrypted)
    for result in (encrypted, decrypted):
        assert type(result) is type(image)
        assert result.shape == image.shape
        assert result.dtype == dtype
    torch.testing.assert_close(decrypted.as_subclass(torch.Tensor), batch, atol=1e-6, rtol=0)
    if batch.numel():
        assert not torch.equal(encrypted.as_subclass(torch.Tensor), batch)
        for place in np.ndindex(*leading):
            nonce = nonces[place[0]] if cipher is PER_IMAGE else None
            assert torch.equal(
                encrypted[place].as_subclass(torch.Tensor), cipher.encrypt(batch[place], nonce=nonce)
            )


def test_items_of_a_batch_get_different_nonces_in_image_scope():
    encrypted, nonces = Encrypt(PER_IMAGE, return_nonce=True)(torch.stack([TENSOR] * 4))
    assert len(set(nonces)) == 4
    assert len({item.numpy().tobytes() for item in encrypted}) == 4


# -- containers ---------------------------------------------------------------------------------

CONTAINERS = {
    "bare": (lambda image, label: image, lambda sample: (sample, None)),
    "tuple": (lambda image, label: (image, label), lambda sample: sample),
    "label first": (lambda image, label: (label, image), lambda sample: sample[::-1]),
    "list": (lambda image, label: [image, label], lambda sample: sample),
    "dict": (
        lambda image, label: {"image": image, "label": label},
        lambda sample: (sample["image"], sample["label"]),
    ),
    "nested": (
        lambda image, label: {"a": [{"b": (image, None)}], "rest": (label, "text")},
        lambda sample: (sample["a"][0]["b"][0], sample["rest"][0]),
    ),
}


@pytest.mark.parametrize("kind", IMAGES)
@pytest.mark.parametrize("container", CONTAINERS)
def test_every_container_is_kept(kind, container):
    build, parts = CONTAINERS[container]
    label = object()
    sample = build(images()[kind], label)
    encrypted = Encrypt(FIXED)(sample)
    assert type(encrypted) is type(sample)
    image, kept = parts(encrypted)
    assert torch.equal(values(image), EXPECTED)
    assert kept is label or container == "bare"
    decrypted, _ = parts(Decrypt(FIXED)(encrypted))
    assert torch.equal(values(decrypted), TENSOR)


def test_several_arguments_come_back_as_a_tuple():
    label = object()
    image, kept, text = Encrypt(FIXED)(picture(), label, "text")
    assert torch.equal(values(image), EXPECTED)
    assert kept is label
    assert text == "text"


@pytest.mark.parametrize(
    "label",
    [
        3,
        2.5,
        "cat",
        b"cat",
        None,
        True,
        object(),
        np.float32(1),
        np.int64(3),
        np.array([0.0, 1.0]),
        {3},
        torch.tensor(3),
        torch.tensor([0.0, 1.0]),
        torch.zeros(10),
        torch.zeros(3, dtype=torch.uint8),
        torch.zeros(2, 10),
        torch.rand(32, 10),
        torch.zeros(48, 32),
        torch.zeros(0),
        torch.zeros(3 * 32 * 48),
    ],
)
@pytest.mark.parametrize("kind", IMAGES)
def test_labels_pass_as_the_identical_objects(kind, label):
    encrypted = Encrypt(FIXED)(images()[kind], label)
    assert encrypted[1] is label
    sample = Encrypt(FIXED)({"a": images()[kind], "b": label})
    assert sample["b"] is label
    assert Decrypt(FIXED)(sample)["b"] is label


def test_soft_labels_of_mixup_pass():
    batch = torch.rand(4, 3, 32, 32)
    labels = torch.tensor([0, 1, 2, 3])
    mixed, soft = v2.MixUp(num_classes=7)(batch, labels)
    encrypted, kept = Encrypt(FIXED)(mixed, soft)
    assert kept is soft
    assert soft.shape == (4, 7)
    assert torch.equal(encrypted, FIXED.encrypt(mixed))


def test_mixup_after_encryption_mixes_encrypted_images():
    batch, labels = torch.rand(4, 3, 32, 32), torch.arange(4)
    encrypted, soft = v2.Compose([Encrypt(FIXED), v2.MixUp(num_classes=4)])(batch, labels)
    assert encrypted.shape == batch.shape
    assert soft.shape == (4, 4)


# -- pickles, printing --------------------------------------------------------------------------


@pytest.mark.parametrize("remake", [lambda t: pickle.loads(pickle.dumps(t)), copy.deepcopy, copy.copy])
@pytest.mark.parametrize("kind", IMAGES)
def test_transform_survives_a_pickle(remake, kind):
    Encrypt(FIXED)(TENSOR)  # with plans in the cache
    for transform in (Encrypt(FIXED, fit="pad"), Decrypt(FIXED, masks="scramble")):
        twin = remake(transform)
        assert repr(twin) == repr(transform)
        assert torch.equal(values(twin(images()[kind])), values(transform(images()[kind])))
    twin = remake(v2.Compose([v2.RandomHorizontalFlip(1.0), Encrypt(FIXED)]))
    assert torch.equal(values(twin(TENSOR)), values(FIXED.encrypt(TENSOR.flip(-1))))


def test_repr_names_scheme_and_key_id():
    for transform in (Encrypt(FIXED), Decrypt(PER_IMAGE)):
        shown = repr(transform)
        assert shown.startswith(f"{type(transform).__name__}(Cipher('etc-16', key_id='{KEY.id}'")
        assert "\n" not in shown


def test_transform_is_a_module_without_parameters_that_ignores_its_mode():
    transform = Encrypt(FIXED)
    assert list(transform.parameters()) == list(transform.buffers()) == []
    assert torch.equal(transform.eval()(TENSOR), transform.train()(TENSOR))
    assert torch.equal(transform.to(torch.float16)(TENSOR), EXPECTED)


# -- with other transforms ----------------------------------------------------------------------


def test_scaling_before_or_after_encryption_is_the_same():
    scale = v2.ToDtype(torch.float32, scale=True)
    image = tv_tensors.Image(TENSOR)
    before = v2.Compose([scale, Encrypt(FIXED)])(image)
    after = v2.Compose([Encrypt(FIXED), scale])(image)
    assert type(before) is type(after) is tv_tensors.Image
    assert (before - after).abs().max() <= 1e-6


def test_usual_chain_of_v2():
    chain = v2.Compose(
        [
            v2.Resize(40),
            v2.CenterCrop(32),
            Encrypt(FIXED),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.5] * 3, [0.5] * 3),
        ]
    )
    image, label = chain(picture(), 5)
    assert label == 5
    plain = v2.Compose([v2.Resize(40), v2.CenterCrop(32)])(picture())
    expected = values(FIXED.encrypt(plain)) / 127.5 - 1
    torch.testing.assert_close(image.as_subclass(torch.Tensor), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("how", ["pad", "crop", "resize"])
def test_fit_is_for_images_off_the_grid(how):
    odd = TENSOR[:, :30, :45]
    with pytest.raises(GeometryError, match="not a multiple of block_size 16"):
        Encrypt(FIXED)(odd)
    encrypted = Encrypt(FIXED, fit=how)(odd)
    assert torch.equal(encrypted, FIXED.encrypt(odd, fit=how))


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK"])
def test_pictures_of_other_modes_are_refused(mode):
    with pytest.raises(ImageError, match=f"PIL image of mode {mode}"):
        Encrypt(FIXED)(PIL.Image.new(mode, (32, 32)), 1)


def test_normalized_floats_are_refused():
    with pytest.raises(ImageError, match="they must lie in"):
        Encrypt(FIXED)(v2.Normalize([0.5] * 3, [0.5] * 3)(TENSOR / 255))


# -- nonces -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", IMAGES)
@pytest.mark.parametrize("container", CONTAINERS)
def test_nonce_is_appended_and_brings_the_image_back(kind, container):
    build, parts = CONTAINERS[container]
    sample = build(images()[kind], 3)
    output = Encrypt(PER_IMAGE, return_nonce=True)(sample)
    assert type(output) is tuple
    encrypted, nonce = output
    assert type(encrypted) is type(sample)
    assert type(nonce) is Nonce
    assert len(nonce) == 16
    image, _ = parts(encrypted)
    plain = images()[kind]
    expected = PER_IMAGE.encrypt(
        plain.as_subclass(torch.Tensor) if isinstance(plain, torch.Tensor) else plain,
        nonce=bytes(nonce),
    )
    assert torch.equal(values(image), values(expected))
    decrypted, same = Decrypt(PER_IMAGE)(encrypted, nonce)
    assert same is nonce
    assert torch.equal(values(parts(decrypted)[0]), TENSOR)


def test_nonce_is_appended_to_several_arguments():
    image, label, nonce = Encrypt(PER_IMAGE, return_nonce=True)(picture(), 7)
    assert label == 7
    decrypted, *_ = Decrypt(PER_IMAGE)(image, label, nonce)
    assert torch.equal(values(decrypted), TENSOR)


def test_nonce_travels_through_a_chain():
    chain = v2.Compose([Encrypt(PER_IMAGE, return_nonce=True), v2.ToImage(), v2.ToPureTensor()])
    (image, label), nonce = chain((picture(), 7))
    assert type(nonce) is Nonce
    assert torch.equal(PER_IMAGE.decrypt(image, nonce=nonce), TENSOR)
    assert label == 7


def test_nonces_survive_collation():
    encrypt = Encrypt(PER_IMAGE, return_nonce=True)
    samples = [encrypt({"image": TENSOR, "label": number}) for number in range(3)]
    (batch, nonces) = torch.utils.data.default_collate(samples)
    assert batch["image"].shape == (3, 3, 32, 48)
    assert len(set(map(bytes, nonces))) == 3
    decrypted, _ = Decrypt(PER_IMAGE)(batch["image"], nonces)
    assert torch.equal(decrypted, torch.stack([TENSOR] * 3))
    with pytest.raises(NonceError, match="3 nonces for 2 images"):
        Decrypt(PER_IMAGE)(batch["image"][:2], nonces)


def test_nonce_survives_a_pickle():
    nonce = pickle.loads(pickle.dumps(Nonce(range(16))))
    assert type(nonce) is Nonce
    assert nonce == bytes(range(16))


def test_every_call_draws_a_fresh_nonce():
    encrypt = Encrypt(PER_IMAGE, return_nonce=True)
    assert len({encrypt(TENSOR)[1] for _ in range(50)}) == 50
    assert len({Encrypt(PER_IMAGE)(TENSOR).numpy().tobytes() for _ in range(5)}) == 5


def test_generator_makes_nonces_reproducible():
    runs = [
        [Encrypt(PER_IMAGE, return_nonce=True, generator=generator)(TENSOR)[1] for _ in range(2)]
        for generator in (np.random.default_rng(4), np.random.default_rng(4), np.random.default_rng(5))
    ]
    assert runs[0] == runs[1] != runs[2]
    assert runs[0][0] != runs[0][1]


def test_nonce_that_is_missing_or_unwanted_is_refused():
    encrypted, nonce = Encrypt(PER_IMAGE, return_nonce=True)(TENSOR)
    with pytest.raises(NonceError, match="needs the nonce of the image"):
        Decrypt(PER_IMAGE)(encrypted)
    with pytest.raises(NonceError, match="needs the nonce of the image"):
        Decrypt(PER_IMAGE)(encrypted, bytes(nonce))
    with pytest.raises(NonceError, match="2 nonces for 1 images"):
        Decrypt(PER_IMAGE)(encrypted, nonce, nonce)
    with pytest.raises(NonceError, match="takes no nonce"):
        Decrypt(FIXED)(encrypted, nonce)


def test_wrong_nonce_gives_garbage():
    encrypted, _nonce = Encrypt(PER_IMAGE, return_nonce=True)(TENSOR)
    wrong, _ = Decrypt(PER_IMAGE)(encrypted, Nonce(bytes(16)))
    assert (wrong != TENSOR).float().mean() > 0.5


# -- wrong arguments ----------------------------------------------------------------------------


@pytest.mark.parametrize("transform", [Encrypt, Decrypt])
@pytest.mark.parametrize("cipher", [KEY, "etc-16", None, Cipher])
def test_transform_takes_a_cipher(transform, cipher):
    with pytest.raises(
        TypeError, match=f"{transform.__name__} takes a Cipher, not {type(cipher).__name__}"
    ):
        transform(cipher)


def test_wrong_options_are_refused():
    with pytest.raises(ValueError, match='masks is \'move\'; it must be "refuse" or "scramble"'):
        Encrypt(FIXED, masks="move")
    with pytest.raises(NonceError, match='return_nonce needs key_scope="image"'):
        Encrypt(FIXED, return_nonce=True)
    with pytest.raises(ValueError, match="masks cannot be scrambled together with fit"):
        Encrypt(FIXED, masks="scramble", fit="pad")
    with pytest.raises(TypeError):
        Encrypt(FIXED, "pad")
