import numpy as np
import pytest

from etc_data.audit.chosen_plaintext import ChosenPlaintextAttack
from etc_data.audit.evidence import EncryptionService, KnownPairs
from etc_data.audit.judgment import Owner, judge
from etc_data.audit.known_plaintext import KnownPlaintextAttack
from etc_data.cipher import Cipher
from etc_data.codecs import JpegCodec, decode
from etc_data.keys import SecretKey
from etc_data.presets import PRESET_NAMES

KNOWN, CHOSEN = KnownPlaintextAttack(), ChosenPlaintextAttack()


def known(images, scheme, pairs, *, scope="dataset", coded=None):
    cipher = Cipher(scheme, SecretKey(bytes(range(32))), key_scope=scope)
    random = np.random.default_rng(0)
    nonces = [cipher.new_nonce(random) for _ in images] if scope == "image" else None
    encrypted = cipher.encrypt(images, nonce=nonces)
    plain, others = images[:pairs], images[-3:]
    given = encrypted[:pairs]
    if coded is not None:
        given = np.stack([coded(image) for image in given])
    evidence = KnownPairs(cipher.scheme, scope, plain, given, encrypted[-3:])
    owner = Owner(cipher, others, (nonces or [])[-3:])
    return judge(KNOWN, KNOWN.run(evidence), cipher.scheme, scope, owner)


@pytest.mark.parametrize("scheme", ["etc-4", "flip-4", "le-4", "adaptive-4", "pe", "vit-8/4"])
def test_one_pair_reads_the_rest_of_the_set(small_photos, scheme):
    assert known(small_photos, scheme, 1).success


@pytest.mark.parametrize(("scheme", "too_few", "enough"), [("shuffle-ind-4", 1, 4), ("ele-4", 1, 16)])
def test_values_shuffled_per_block_need_a_few_pairs(small_photos, scheme, too_few, enough):
    assert known(small_photos, scheme, too_few).scores["values"] < 0.9
    finding = known(small_photos, scheme, enough)
    assert finding.success
    assert finding.scores["values"] > 0.99


@pytest.mark.parametrize("quality", [95, 75])
def test_a_pair_coded_as_jpeg_serves_too(photos, quality):
    codec = JpegCodec(quality=quality)
    assert known(photos, "etc-16", 1, coded=lambda image: decode(codec.encode(image))).success


def test_a_key_per_image_keeps_pairs_from_helping(small_photos):
    finding = known(small_photos, "etc-4", 4, scope="image")
    assert not finding.success
    assert finding.scores["values"] < 0.2


@pytest.mark.parametrize("scheme", list(PRESET_NAMES))
def test_numbered_images_give_every_plan_exactly(small_photos, scheme):
    cipher = Cipher(scheme, SecretKey(bytes(range(32))), key_scope="dataset")
    others = small_photos[:3]
    service = EncryptionService(cipher.scheme, "dataset", cipher.encrypt, cipher.encrypt(others))
    restoration = CHOSEN.run(service)
    assert np.array_equal(restoration.images, others)
    assert restoration.cost["queries"] == (5 if scheme in ("le-4", "ele-4") else 2)
    assert judge(CHOSEN, restoration, cipher.scheme, "dataset", Owner(cipher, others)).success


def test_chosen_images_fail_where_every_query_has_its_own_key(small_photos):
    cipher = Cipher("etc-4", SecretKey(bytes(range(32))), key_scope="image")
    nonces = [cipher.new_nonce() for _ in range(3)]

    def encrypt(queries):
        return cipher.encrypt(queries, nonce=[cipher.new_nonce() for _ in queries])

    others = small_photos[:3]
    service = EncryptionService(cipher.scheme, "image", encrypt, cipher.encrypt(others, nonce=nonces))
    restoration = CHOSEN.run(service)
    assert not judge(CHOSEN, restoration, cipher.scheme, "image", Owner(cipher, others, nonces)).success
