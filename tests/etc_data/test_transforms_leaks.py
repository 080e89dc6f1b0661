"""What `Encrypt` and `Decrypt` refuse, so that nothing plain passes; and masks, moved if asked for."""

import io

import numpy as np
import PIL.Image
import pytest
import torch

import etc_data.torchvision_cpu  # noqa: F401

# isort: split
from torchvision import tv_tensors

from etc_data import Cipher, SecretKey
from etc_data.errors import EtcError, ImageError, NonceError, PlainLeakError, PlanError
from etc_data.transforms import Decrypt, Encrypt

KEY = SecretKey(bytes(range(32)))
FIXED = Cipher("etc-8", KEY)
PER_IMAGE = Cipher("etc-8", KEY, key_scope="image")
HEIGHT, WIDTH = 16, 32
OCTETS = torch.randint(0, 256, (3, HEIGHT, WIDTH), dtype=torch.uint8)

pytestmark = pytest.mark.filterwarnings("error")


def pil():
    return PIL.Image.fromarray(OCTETS.permute(1, 2, 0).numpy())


def image():
    return tv_tensors.Image(OCTETS)


def boxes():
    return tv_tensors.BoundingBoxes(
        torch.tensor([[1, 2, 3, 4]]), format="XYXY", canvas_size=(HEIGHT, WIDTH)
    )


LEAKS = {
    "two pictures": ((pil(), pil()), "exactly one image; found 2 images"),
    "a list of views": ([pil(), pil(), pil()], "found 3 images"),
    "two tv images": ((image(), image()), "found 2 images"),
    "picture and tv image": ({"a": pil(), "b": image()}, "found 2 images"),
    "picture and tensor view": ((pil(), OCTETS), "a second tensor of shape (3, 16, 32)"),
    "tensor view and picture": ((OCTETS, pil()), "a second tensor of shape (3, 16, 32)"),
    "tv image and tensor view": ((image(), OCTETS / 255), "a second tensor of shape (3, 16, 32)"),
    "two tensors": ((OCTETS, OCTETS), "a second tensor of shape (3, 16, 32)"),
    "two tensors in a dict": ({"x": OCTETS, "y": {"z": OCTETS}}, "a second tensor of shape"),
    "smaller view": ((OCTETS, OCTETS[:, :8, :8]), "a second tensor of shape (3, 8, 8)"),
    "gray view": ((pil(), OCTETS[0].float()), "a second tensor of shape (16, 32)"),
    "gray view of a tensor": ((OCTETS, OCTETS[1]), "a second tensor of shape (16, 32)"),
    "batch view": ((image(), OCTETS[None]), "a second tensor of shape (1, 3, 16, 32)"),
    "label first": ((torch.zeros(10), OCTETS), "a second tensor of shape (3, 16, 32)"),
    "array view": ((pil(), OCTETS.numpy()), "a NumPy array of shape (3, 16, 32)"),
    "gray array view": ((image(), OCTETS[0].numpy()), "a NumPy array of shape (16, 32)"),
    "array and tensor": ((OCTETS, OCTETS.numpy()), "a NumPy array of shape"),
    "array alone": (OCTETS.permute(1, 2, 0).numpy(), "found no image"),
    "array and label": ((OCTETS.numpy(), 3), "found no image"),
    "file beside a picture": ((pil(), b"\xff\xd8" * 200), "400 bytes would pass through as they are"),
    "file beside a tensor": ({"a": OCTETS, "b": bytearray(900)}, "900 bytes would pass through"),
    "bytes in a tensor": (
        (pil(), torch.zeros(900, dtype=torch.uint8)),
        "a second tensor of shape (900,)",
    ),
    "bytes in an array": ((pil(), np.zeros(900, np.uint8)), "a NumPy array of shape (900,)"),
    "thumbnail": ((pil(), torch.zeros(8, 9, dtype=torch.uint8)), "a second tensor of shape (8, 9)"),
    "open file": ((pil(), io.BytesIO(b"x")), "an open file would pass through"),
    "boxes": ((pil(), boxes()), "BoundingBoxes would pass through in plain"),
    "boxes in a dict": ({"image": image(), "target": {"boxes": boxes()}}, "BoundingBoxes would pass"),
    "video": ((tv_tensors.Video(OCTETS[None]), 1), "found no image"),
    "video beside an image": ((image(), tv_tensors.Video(OCTETS[None])), "Video would pass through"),
    "mask": ((pil(), tv_tensors.Mask(OCTETS[0])), "a mask shows the outlines of the plain image"),
    "mask and tensor": ((OCTETS, tv_tensors.Mask(OCTETS[0])), "a mask shows the outlines"),
    "mask alone": (tv_tensors.Mask(OCTETS[0]), "found no image"),
    "nothing": ((), "found no image"),
    "a label alone": (3, "found no image"),
    "texts": ({"a": "b", "c": None}, "found no image"),
    "path": (("photo.jpg", 3), "found no image"),
}
if hasattr(tv_tensors, "KeyPoints"):
    points = tv_tensors.KeyPoints(torch.tensor([[1, 2]]), canvas_size=(HEIGHT, WIDTH))
    LEAKS["key points"] = ((image(), points), "KeyPoints would pass through in plain")


@pytest.mark.parametrize("name", LEAKS)
@pytest.mark.parametrize(
    "transform",
    [
        Encrypt(FIXED),
        Encrypt(PER_IMAGE),
        Encrypt(PER_IMAGE, return_nonce=True),
        Encrypt(FIXED, fit="pad"),
        Decrypt(FIXED),
    ],
    ids=["encrypt", "per image", "with nonce", "with fit", "decrypt"],
)
def test_sample_that_would_leak_is_refused(name, transform):
    sample, message = LEAKS[name]
    with pytest.raises(PlainLeakError) as caught:
        transform(sample)
    assert message in str(caught.value)
    assert isinstance(caught.value, EtcError)
    if "exactly one" in message:
        verb = "encrypt" if isinstance(transform, Encrypt) else "decrypt"
        assert str(caught.value).startswith(f"a sample to {verb} must hold exactly one image")


@pytest.mark.parametrize(
    "name",
    [name for name, (sample, _) in LEAKS.items() if isinstance(sample, tuple) and len(sample) > 1],
)
def test_several_arguments_are_one_sample(name):
    sample, message = LEAKS[name]
    with pytest.raises(PlainLeakError) as caught:
        Encrypt(FIXED)(*sample)
    assert message in str(caught.value)


@pytest.mark.parametrize("labels", [torch.tensor(3), torch.zeros(10), torch.zeros(4, 10)])
def test_tensor_that_is_no_image_is_not_taken_for_one(labels):
    with pytest.raises(ImageError, match="has 3 dimensions or more"):
        Encrypt(FIXED)(labels)


# -- masks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["etc-8", "com-16/8", "ind-16/8", "vit-16/8", "adaptive-pixel-8"])
@pytest.mark.parametrize("key_scope", ["dataset", "image"])
def test_mask_moves_exactly_like_the_image(name, key_scope):
    cipher = Cipher(name, KEY, key_scope=key_scope)
    # Every pixel holds the number of its place, so that the image shows where each went.
    place = torch.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
    low, high = place % 64, place // 64
    mask = tv_tensors.Mask(place)
    plain = tv_tensors.Image(torch.stack([low, low, low]).to(torch.uint8))
    tall = tv_tensors.Image(torch.stack([high, high, high]).to(torch.uint8))
    encrypt = Encrypt(cipher, masks="scramble", return_nonce=key_scope == "image")
    output = encrypt({"image": plain, "mask": mask})
    (sample, nonce) = output if key_scope == "image" else (output, None)
    moved = sample["mask"]
    assert type(moved) is tv_tensors.Mask
    assert moved.dtype == torch.int64
    assert not torch.equal(moved, mask)

    def unsigned(encrypted):  # values below 128 were not negated, those above were
        encrypted = encrypted.as_subclass(torch.Tensor).long()
        return torch.where(encrypted > 127, 255 - encrypted, encrypted)

    encrypted_low = unsigned(sample["image"])
    encrypted_high = unsigned(cipher.encrypt(tall.as_subclass(torch.Tensor), nonce=nonce))
    for color in range(3):
        assert torch.equal(
            encrypted_low[color] + 64 * encrypted_high[color], moved.as_subclass(torch.Tensor)
        )

    arguments = (sample,) if nonce is None else (sample, nonce)
    back = Decrypt(cipher, masks="scramble")(*arguments)
    back = back if nonce is None else back[0]
    assert torch.equal(back["mask"], mask)
    assert torch.equal(back["image"], plain)


def test_mask_is_refused_where_no_pixel_moves():
    sample = (image(), tv_tensors.Mask(OCTETS[0]))
    with pytest.raises(PlainLeakError, match="pe moves no pixels"):
        Encrypt(Cipher("pe", KEY, key_scope="dataset"), masks="scramble")(sample)


@pytest.mark.parametrize("leading", [(), (1,), (4,), (0,), (2, 3)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.int64, torch.float32])
def test_masks_of_any_shape_and_dtype_keep_them(leading, dtype):
    mask = tv_tensors.Mask(torch.randint(0, 2, (*leading, HEIGHT, WIDTH)).to(dtype))
    before = mask.clone()
    _, moved = Encrypt(FIXED, masks="scramble")(pil(), mask)
    assert type(moved) is tv_tensors.Mask
    assert (moved.shape, moved.dtype) == (mask.shape, dtype)
    index = torch.from_numpy(FIXED.plan(HEIGHT, WIDTH).pixel_index())
    for place in np.ndindex(*leading):
        assert torch.equal(moved[place].reshape(-1), mask[place].reshape(-1)[index])
    assert torch.equal(mask, before)
    _, back = Decrypt(FIXED, masks="scramble")(Encrypt(FIXED)(pil()), moved)
    assert torch.equal(back, mask)


def test_several_masks_move_alike():
    masks = [tv_tensors.Mask(OCTETS[c]) for c in range(3)]
    _, *moved = Encrypt(FIXED, masks="scramble")(image(), *masks)
    index = torch.from_numpy(FIXED.plan(HEIGHT, WIDTH).pixel_index())
    for mask, result in zip(masks, moved, strict=True):
        assert torch.equal(result.reshape(-1), mask.reshape(-1)[index])


def test_mask_of_another_size_is_refused():
    with pytest.raises(
        PlainLeakError, match=r"a mask of \(16, 16\) pixels does not fit an image of \(16, 32\)"
    ):
        Encrypt(FIXED, masks="scramble")(pil(), tv_tensors.Mask(torch.zeros(16, 16)))


@pytest.mark.parametrize("name", ["shuffle-com-8", "flip-4", "le-4"])
def test_mask_is_refused_where_the_values_of_a_pixel_part(name):
    with pytest.raises(PlanError, match="does not keep the values of a pixel together"):
        Encrypt(Cipher(name, KEY), masks="scramble")(pil(), tv_tensors.Mask(OCTETS[0]))


def test_masks_of_a_batch_with_a_nonce_each_are_refused():
    batch, masks = torch.stack([OCTETS] * 2), tv_tensors.Mask(torch.stack([OCTETS[0]] * 2))
    with pytest.raises(
        NonceError, match="masks of a batch cannot be moved where every image has its own"
    ):
        Encrypt(PER_IMAGE, masks="scramble")(batch, masks)


def test_mask_of_a_batch_of_one_moves_with_its_image():
    mask = tv_tensors.Mask(OCTETS[:1])
    (batch, moved), nonces = Encrypt(PER_IMAGE, masks="scramble", return_nonce=True)(
        (OCTETS[None], mask)
    )
    assert len(nonces) == 1
    (back, back_mask), _ = Decrypt(PER_IMAGE, masks="scramble")((batch, moved), nonces)
    assert torch.equal(back, OCTETS[None])
    assert torch.equal(back_mask, mask)


def test_scrambled_mask_of_another_type_is_still_refused():
    for extra in (boxes(), OCTETS, OCTETS.numpy()):
        with pytest.raises(PlainLeakError):
            Encrypt(FIXED, masks="scramble")(pil(), tv_tensors.Mask(OCTETS[0]), extra)
