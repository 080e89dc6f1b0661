import numpy as np
import pytest
import torch
from PIL import Image

from etc_data import Cipher, SecretKey
from etc_data.recipes.batches import open_batches
from etc_data.recipes.plain_images import load_images

CPU = torch.device("cpu")


def opened(settings, *, training=True, **options):
    return open_batches(settings, training=training, device=CPU, **options)


def all_of(batches, epoch=0):
    images, labels = zip(*batches.epoch(epoch), strict=True)
    return torch.cat(images), torch.cat(labels)


@pytest.fixture
def cipher(key):
    return Cipher("etc-8", SecretKey.load(key), key_scope="dataset")


def rows(images):
    return sorted(image.numpy().tobytes() for image in images)


def test_an_epoch_is_every_image_once_in_a_new_order(digits, make_settings, tmp_path):
    batches = opened(make_settings(digits, tmp_path))
    first, second = all_of(batches, 0)[0], all_of(batches, 1)[0]
    assert len(first) == batches.samples == 301
    assert batches.steps == 10
    assert not torch.equal(first, second)
    assert rows(first) == rows(second)


def test_encrypted_batches_are_the_plain_ones_encrypted(digits, make_settings, tmp_path, cipher):
    settings = make_settings(digits, tmp_path, augment__flip=True, augment__shift=3)
    plain, encrypted = opened(settings), opened(settings, cipher=cipher)
    assert (plain.grid, encrypted.grid) == (1, 8)
    for (images, labels), (secret, same) in zip(plain.epoch(3), encrypted.epoch(3), strict=True):
        assert torch.equal(cipher.encrypt(images), secret)
        assert torch.equal(labels, same)


def test_shifts_and_flips_are_those_of_numpy(digits, make_settings, tmp_path):
    settings = make_settings(digits, tmp_path, augment__flip=True, augment__shift=2, data__limit=20)
    still = opened(make_settings(digits, tmp_path, data__limit=20))
    moved, _ = all_of(opened(settings), 5)
    images, _ = all_of(still, 5)
    seen = set()
    for one, other in zip(images.numpy(), moved.numpy(), strict=True):
        padded = np.pad(one, ((0, 0), (2, 2), (2, 2)))
        fits = [
            (top, left, step)
            for top in range(5)
            for left in range(5)
            for step in (1, -1)
            if np.array_equal(padded[:, top : top + 32, left : left + 32][..., ::step], other)
        ]
        assert fits
        seen.update(fits)
    assert len(seen) > 8


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_divide_an_epoch(digits, make_settings, tmp_path, world_size):
    settings = make_settings(digits, tmp_path)
    whole, _ = all_of(opened(settings, training=False))
    for training in (True, False):
        ranks = [
            opened(settings, training=training, rank=rank, world_size=world_size)
            for rank in range(world_size)
        ]
        counts = [len(all_of(rank)[0]) for rank in ranks]
        if training:
            assert counts == [-(-301 // world_size)] * world_size
            assert len({rank.steps for rank in ranks}) == 1
        else:
            assert rows(torch.cat([all_of(rank)[0] for rank in ranks])) == rows(whole)


def test_every_image_has_a_fresh_key_in_every_epoch_and_test_images_have_others(
    digits, make_settings, tmp_path, key
):
    cipher = Cipher("etc-8", SecretKey.load(key), key_scope="image")
    nonces = []

    class Listening(Cipher):
        def new_nonce(self, generator=None):
            nonces.append(super().new_nonce(generator))
            return nonces[-1]

    cipher = Listening("etc-8", SecretKey.load(key), key_scope="image")
    settings = make_settings(digits, tmp_path, data__limit=40, data__val_limit=30)
    training, test = (opened(settings, training=which, cipher=cipher) for which in (True, False))
    all_of(training, 0)
    all_of(training, 1)
    assert len(nonces) == len(set(nonces)) == 40 + 40 + 30
    assert torch.equal(all_of(test)[0], all_of(test)[0])


def test_a_batch_under_a_key_per_image_is_the_plain_one_once_each_image_is_decrypted_by_its_nonce(
    digits, make_settings, tmp_path, key
):
    nonces = []

    class Listening(Cipher):
        def new_nonce(self, generator=None):
            nonces.append(super().new_nonce(generator))
            return nonces[-1]

    cipher = Listening("etc-8", SecretKey.load(key), key_scope="image")
    settings = make_settings(digits, tmp_path, augment__flip=True, augment__shift=2, data__limit=40)
    plain, encrypted = opened(settings), opened(settings, cipher=cipher)
    for (images, _), (secret, _) in zip(plain.epoch(2), encrypted.epoch(2), strict=True):
        assert secret.shape == images.shape
        assert not torch.equal(secret, images)
        of_batch = nonces[-len(images) :]
        assert torch.equal(cipher.decrypt(secret, nonce=of_batch), images)


@pytest.mark.parametrize("flip", [False, True])
def test_small_images_are_enlarged_before_they_are_encrypted(
    digits, make_settings, tmp_path, cipher, flip
):
    settings = make_settings(digits, tmp_path, data__size=64, data__limit=40, augment__flip=flip)
    plain, encrypted = opened(settings), opened(settings, cipher=cipher)
    assert plain.images.shape[-1] == 32  # all that is held
    for (images, _), (secret, _) in zip(plain.epoch(1), encrypted.epoch(1), strict=True):
        assert images.shape[1:] == (3, 64, 64)
        assert torch.equal(cipher.encrypt(images), secret)


@pytest.mark.parametrize("odd", [(48, 32), (40, 40)])
def test_images_of_several_sizes_are_resized_as_they_are_read(digits, make_settings, tmp_path, odd):
    mixed = tmp_path / "mixed"
    for split in ("train", "val"):
        for number, path in enumerate(sorted((digits / split).rglob("*.png"))[:6]):
            place = mixed / split / path.parent.name / path.name
            place.parent.mkdir(parents=True, exist_ok=True)
            image = Image.open(path)
            (image.resize(odd) if number == 3 else image).save(place)
    images, labels = load_images(make_settings(mixed, tmp_path, data__size=64).data, training=True)
    assert images.shape == (6, 3, 64, 64)
    assert len(labels) == 6


def test_labels_stay_with_their_images(digits, make_settings, tmp_path, shards, cipher):
    settings = make_settings(digits, tmp_path)
    plain = opened(settings)
    known = dict(
        zip([i.numpy().tobytes() for i in all_of(plain)[0]], all_of(plain)[1].tolist(), strict=True)
    )
    secret, labels = all_of(opened(settings, cipher=cipher), 4)
    for image, label in zip(cipher.decrypt(secret), labels, strict=True):
        assert known[image.numpy().tobytes()] == label


def test_shards_tell_their_grid_and_key(shards, make_settings, tmp_path, key):
    batches = opened(make_settings(shards, tmp_path))
    assert (batches.grid, batches.size, batches.classes) == (8, (32, 32), 10)
    assert batches.encryption["key_id"] == SecretKey.load(key).id
    images, labels = all_of(batches)
    assert images.dtype == torch.uint8
    assert len(images) == len(labels) == 301
