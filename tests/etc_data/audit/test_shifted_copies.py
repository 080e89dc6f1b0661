import numpy as np
import pytest

from etc_data import Cipher, Scheme, SecretKey
from etc_data.audit.evidence import Ciphertexts
from etc_data.audit.judgment import Owner, judge
from etc_data.audit.shifted_copies import ShiftedCopiesAttack
from etc_data.codecs import JpegCodec, decode
from etc_data.errors import SchemeError
from etc_data.sources.images import load_rgb, resize_to

ATTACK = ShiftedCopiesAttack()
SIZE = 160


@pytest.fixture(scope="module")
def photo(pictures):
    file = sorted((pictures / "kodak24").glob("*.png"))[7]
    return np.asarray(resize_to(load_rgb(file.read_bytes()), SIZE + 32, SIZE + 32))


@pytest.fixture(scope="module")
def attack(photo):
    """attack(crops, "etc-16", quality=95) encrypts crops of one photo with fresh keys, and attacks."""

    def run(crops, scheme="etc-16", *, quality=None, flipped=False):
        plain = np.stack([photo[y : y + SIZE, x : x + SIZE] for y, x in crops])
        if flipped:
            plain[1:] = plain[1:, :, ::-1]
        random = np.random.default_rng(1)
        cipher = Cipher(scheme, SecretKey(random.bytes(32)), key_scope="image")
        nonces = [cipher.new_nonce(random) for _ in plain]
        encrypted = cipher.encrypt(plain, nonce=nonces)
        if quality:
            codec = JpegCodec(quality=quality)
            encrypted = np.stack([decode(codec.encode(image)) for image in encrypted])
        evidence = Ciphertexts(cipher.scheme, "image", encrypted, "jpeg" if quality else "")
        owner = Owner(cipher, plain[:1], nonces[:1])
        return judge(ATTACK, ATTACK.run(evidence), cipher.scheme, "image", owner)

    return run


@pytest.mark.parametrize("shift", [(8, 8), (3, 21), (0, 5)])
def test_a_shifted_copy_reveals_the_joins(attack, shift):
    finding = attack([(0, 0), shift])
    assert finding.success
    assert finding.scores["joins_revealed"] > 0.3
    assert finding.scores["nc"] > 0.9


def test_it_does_so_through_jpeg(attack):
    finding = attack([(0, 0), (8, 8)], quality=95)
    assert finding.success
    assert finding.scores["nc"] > 0.8


def test_it_gives_small_blocks_away_that_a_jigsaw_cannot_solve(attack):
    alone = attack([(0, 0)], "etc-8", quality=95)
    together = attack([(0, 0), (4, 3), (9, 14)], "etc-8", quality=95)
    assert alone.scores["nc"] < 0.5
    assert together.scores["nc"] > alone.scores["nc"] + 0.2


@pytest.mark.parametrize("flipped", [False, True])
def test_copies_on_one_grid_reveal_nothing(attack, flipped):
    finding = attack([(0, 0), (16, 32)], flipped=flipped)
    assert not finding.success
    assert finding.scores["joins_revealed"] < 0.01


def test_other_photos_reveal_nothing(photos):
    cipher = Cipher("etc-16", SecretKey(bytes(32)), key_scope="image")
    random = np.random.default_rng(0)
    encrypted = cipher.encrypt(photos[:3], nonce=[cipher.new_nonce(random) for _ in range(3)])
    restoration = ATTACK.run(Ciphertexts(cipher.scheme, "image", encrypted))
    assert restoration.observations["joins_revealed"] < 0.01


def test_blocks_that_do_not_move_are_refused(photos):
    with pytest.raises(SchemeError, match="does not scramble blocks"):
        ATTACK.run(Ciphertexts(Scheme.preset("ind-16"), "image", photos[:2]))
