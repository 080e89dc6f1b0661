"""What encrypted photos of 224 pixels show when nothing is done to them."""

import numpy as np
import pytest

from etc_data.audit.as_is import AsIs
from etc_data.audit.attack import Restoration
from etc_data.audit.evidence import Ciphertexts
from etc_data.audit.judgment import Owner, judge
from etc_data.cipher import Cipher
from etc_data.keys import SecretKey
from etc_data.sources.images import load_rgb, resize_to

ATTACK = AsIs()
SHOWN = ["com-16", "com-16/8", "shuffle-com-16", "shuffle-ind-16"]
HIDDEN = ["etc-16", "etc-8", "ind-16", "ind-16/8", "pe", "ele-4"]


@pytest.fixture(scope="module")
def large_photos(pictures):
    """12 photos, uint8 [12, 224, 224, 3]."""
    files = sorted((pictures / "photos").rglob("*.JPEG"))[::8][:12]
    return np.stack([np.asarray(resize_to(load_rgb(file.read_bytes()), 224, 224)) for file in files])


@pytest.fixture(scope="module")
def look(large_photos):
    """look("com-16") gives cipher, owner and what the attack gives, a key for each image."""

    def run(scheme):
        cipher = Cipher(scheme, SecretKey(bytes(range(32))), key_scope="image")
        random = np.random.default_rng(0)
        nonces = [cipher.new_nonce(random) for _ in large_photos]
        hidden = cipher.encrypt(large_photos, nonce=nonces)
        found = ATTACK.run(Ciphertexts(cipher.scheme, "image", hidden))
        return cipher, Owner(cipher, large_photos, nonces), found

    return run


@pytest.mark.parametrize(("scheme", "shows"), [(s, True) for s in SHOWN] + [(s, False) for s in HIDDEN])
def test_blocks_that_keep_place_and_brightness_show_the_picture(look, scheme, shows):
    cipher, owner, found = look(scheme)
    finding = judge(ATTACK, found, cipher.scheme, "image", owner)
    assert finding.criterion.score == "contours"
    assert finding.success == shows
    enough = finding.criterion.at_least
    assert (
        (finding.scores["contours"] > enough + 0.05) if shows else (finding.scores["contours"] < 0.15)
    )


@pytest.mark.parametrize(("scheme", "shows"), [(s, True) for s in SHOWN] + [(s, False) for s in HIDDEN])
def test_without_the_key_the_blocks_tell_the_same(look, scheme, shows):
    cipher, _, found = look(scheme)
    finding = judge(ATTACK, found, cipher.scheme, "image")
    assert finding.criterion.score == "block_smoothness"
    assert finding.success == shows


def test_other_pictures_are_not_taken_for_the_plain_ones(look, large_photos):
    cipher, owner, _ = look("com-16")
    strangers = Restoration(np.roll(large_photos, 5, axis=0), None, {}, {}, 0.0)
    finding = judge(ATTACK, strangers, cipher.scheme, "image", owner)
    assert not finding.success
    assert finding.scores["contours"] < 0.15


def test_the_images_are_returned_as_they_are(look):
    cipher, owner, found = look("com-16")
    assert np.array_equal(found.images, cipher.encrypt(owner.plain, nonce=owner.nonces))
    assert found.decryption is None and found.cost == {"images": len(owner.plain)}
