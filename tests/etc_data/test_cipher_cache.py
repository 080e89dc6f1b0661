"""The plans that a `Cipher` keeps: how many, in which process and thread."""

import copy
import multiprocessing
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import PIL.Image
import pytest
import torch

import etc_data.cipher
from etc_data import Cipher, SecretKey

KEY = SecretKey(bytes(range(32)))
ARRAY = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
FIXED = Cipher("etc-16", KEY)


def tensor_of(array):
    return torch.from_numpy(array).movedim(-1, -3).contiguous()


def test_plan_of_a_size_is_made_once():
    cipher = Cipher("etc-16", KEY)
    assert cipher.plan(32, 48) is cipher.plan(32, 48)
    assert cipher.plan(32, 48) is not cipher.plan(48, 32)
    inverse = cipher.decrypt(cipher.encrypt(ARRAY))
    assert (inverse == ARRAY).all()
    assert len(cipher._plans) == 3


def test_plans_of_nonces_are_not_kept():
    cipher = Cipher("etc-16", KEY, key_scope="image")
    for _ in range(5):
        nonce = cipher.new_nonce()
        cipher.decrypt(cipher.encrypt(ARRAY, nonce=nonce), nonce=nonce)
    assert len(cipher._plans) == 0


def test_cache_is_bounded_in_number():
    cipher = Cipher("com-1", KEY)
    for width in range(1, 60):
        cipher.plan(1, width)
    assert len(cipher._plans) == etc_data.cipher._CACHED_PLANS
    assert (1, 59, b"", False) in cipher._plans


def test_cache_is_bounded_in_pixels(monkeypatch):
    monkeypatch.setattr(etc_data.cipher, "_CACHED_PIXELS", 3 * 32 * 48)
    cipher = Cipher("etc-16", KEY)
    for width in range(16, 160, 16):
        cipher.encrypt(np.zeros((32, width, 3), np.uint8))
        pixels = sum(height * own_width for height, own_width, _, _ in cipher._plans)
        assert pixels <= 3 * 32 * 48
    large = np.zeros((96, 96, 3), np.uint8)
    assert (cipher.decrypt(cipher.encrypt(large)) == large).all()
    assert cipher.plan(96, 96) is cipher.plan(96, 96)


def test_pickle_drops_the_plans_and_encrypts_alike():
    cipher = Cipher("etc-16", KEY, context="x")
    encrypted = cipher.encrypt(ARRAY)
    for twin in (pickle.loads(pickle.dumps(cipher)), copy.deepcopy(cipher)):
        assert len(twin._plans) == 0
        assert repr(twin) == repr(cipher)
        assert (twin.encrypt(ARRAY) == encrypted).all()
    assert len(cipher._plans) == 1
    assert len(pickle.dumps(cipher)) < 2000


def test_cipher_works_in_a_spawned_process():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        encrypted = pool.apply(Cipher.encrypt, (FIXED, ARRAY))
        picture = pool.apply(Cipher.decrypt, (FIXED, PIL.Image.fromarray(encrypted)))
    assert (encrypted == FIXED.encrypt(ARRAY)).all()
    assert (np.asarray(picture) == ARRAY).all()


@pytest.mark.parametrize("key_scope", ["dataset", "image"])
def test_many_threads_share_a_cipher_with_a_small_cache(monkeypatch, key_scope):
    monkeypatch.setattr(etc_data.cipher, "_CACHED_PLANS", 2)
    nonce = bytes(16) if key_scope == "image" else None
    shared = Cipher("com-4/2", KEY, key_scope=key_scope)
    sizes = [(4 * (1 + number % 3), 4 * (1 + number % 5)) for number in range(15)]
    images = [ARRAY[:height, :width] for height, width in sizes]
    expected = [
        Cipher("com-4/2", KEY, key_scope=key_scope).encrypt(image, nonce=nonce) for image in images
    ]

    def work(number):
        image = images[number % 15]
        given = tensor_of(image) if number % 2 else image
        encrypted = shared.encrypt(given, nonce=nonce)
        back = shared.decrypt(encrypted, nonce=nonce)
        wanted = expected[number % 15]
        return bool(
            (encrypted == (tensor_of(wanted) if number % 2 else wanted)).all() and (back == given).all()
        )

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(work, range(600)))
    finally:
        sys.setswitchinterval(interval)
    assert len(shared._plans) <= 2
