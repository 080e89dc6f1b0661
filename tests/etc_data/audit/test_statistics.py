import numpy as np
import pytest

from etc_data.audit.statistics import (
    count_duplicates,
    folded_histograms,
    mean_image_contrast,
    recognize,
)
from etc_data.cipher import Cipher
from etc_data.keys import SecretKey


@pytest.fixture
def encrypt():
    def run(images, scheme, scope):
        cipher = Cipher(scheme, SecretKey(bytes(range(32))), key_scope=scope)
        random = np.random.default_rng(0)
        nonces = [cipher.new_nonce(random) for _ in images] if scope == "image" else None
        return cipher.encrypt(images, nonce=nonces)

    return run


@pytest.mark.parametrize("scope", ["dataset", "image"])
@pytest.mark.parametrize("scheme", ["etc-4", "pe", "shuffle-ind-4", "ele-4"])
def test_whoever_has_a_photo_finds_its_ciphertext(small_photos, encrypt, scheme, scope):
    halves = scheme == "ele-4"
    encrypted = encrypt(small_photos, scheme, scope)
    assert np.array_equal(
        folded_histograms(small_photos, halves=halves), folded_histograms(encrypted, halves=halves)
    )
    found = recognize(small_photos[:50], encrypted, halves=halves)
    assert (found == np.arange(50)).mean() > 0.95


def test_the_mean_image_shows_one_key_and_hides_many(small_photos, encrypt):
    assert mean_image_contrast(encrypt(small_photos, "etc-4", "dataset")) > 3
    assert mean_image_contrast(encrypt(small_photos, "etc-4", "image")) < 2


def test_equal_photos_show_under_one_key_only(small_photos, encrypt):
    twice = np.concatenate([small_photos[:5], small_photos[:2]])
    assert count_duplicates(encrypt(twice, "etc-4", "dataset")) == 2
    assert count_duplicates(encrypt(twice, "etc-4", "image")) == 0
