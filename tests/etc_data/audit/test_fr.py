from itertools import product

import numpy as np
import pytest

from etc_data.audit.contours import contour_agreement
from etc_data.audit.evidence import Ciphertexts
from etc_data.audit.fr import FeatureReconstruction, fold, follow_neighbors
from etc_data.audit.judgment import Owner, judge
from etc_data.cipher import Cipher
from etc_data.keys import SecretKey
from etc_data.states import COLOR_ORDERS

ENOUGH = FeatureReconstruction.criteria[0].at_least


def encrypted(images, scheme, scope):
    cipher = Cipher(scheme, SecretKey(bytes(range(32))), key_scope=scope)
    random = np.random.default_rng(0)
    nonces = [cipher.new_nonce(random) for _ in images] if scope == "image" else []
    return cipher, nonces, cipher.encrypt(images, nonce=nonces or None)


def contours(images, scheme, scope, form):
    cipher, _, hidden = encrypted(images, scheme, scope)
    restored = FeatureReconstruction(form).run(Ciphertexts(cipher.scheme, scope, hidden)).images
    return restored, float(contour_agreement(restored, images).mean())


@pytest.mark.parametrize("form", ["basic", "advanced"])
@pytest.mark.parametrize("scheme", ["pe", "flip-4", "com-16", "ind-16", "ind-16/8", "le-4"])
def test_outlines_show_where_blocks_stay_in_place(photos, scheme, form):
    restored, agreement = contours(photos[:24], scheme, "image", form)
    assert agreement > ENOUGH + 0.05
    strangers = np.roll(photos[:24], 7, axis=0)
    assert contour_agreement(restored, strangers).mean() < ENOUGH - 0.05


@pytest.mark.parametrize("form", ["basic", "advanced"])
@pytest.mark.parametrize("scheme", ["etc-16", "etc-8", "ele-4", "adaptive-16", "vit-16/8"])
def test_scrambled_blocks_withstand_it(photos, scheme, form):
    assert contours(photos[:24], scheme, "dataset", form)[1] < ENOUGH - 0.1


@pytest.mark.parametrize(("scheme", "success"), [("pe", True), ("etc-16", False), ("ele-4", False)])
def test_the_finding_says_so(photos, scheme, success):
    images = photos[:24]
    cipher, nonces, hidden = encrypted(images, scheme, "image")
    attack = FeatureReconstruction()
    restoration = attack.run(Ciphertexts(cipher.scheme, "image", hidden))
    finding = judge(attack, restoration, cipher.scheme, "image", Owner(cipher, images, nonces))
    assert finding.success is success
    assert (finding.scores["ssim"] > 0.4) is success
    assert finding.cost == {"images": 24}


def test_colors_ordered_like_the_neighbors_bring_the_picture_nearer(photos):
    images = photos[:24]
    cipher, nonces, hidden = encrypted(images, "pe", "image")
    scores = {}
    for form in ("basic", "advanced"):
        attack = FeatureReconstruction(form)
        restoration = attack.run(Ciphertexts(cipher.scheme, "image", hidden))
        owner = Owner(cipher, images, nonces)
        scores[form] = judge(attack, restoration, cipher.scheme, "image", owner).scores["ssim"]
    assert scores["advanced"] > scores["basic"] + 0.05


def test_folding_leaves_of_pixelwise_encryption_the_order_of_components_alone(photos):
    _, _, hidden = encrypted(photos[:2], "pe", "image")
    assert np.array_equal(np.sort(fold(hidden), axis=-1), np.sort(fold(photos[:2]), axis=-1))


def test_the_walk_is_that_over_all_48_states(photos):
    _, _, hidden = encrypted(photos[:1, 40:56, 40:60], "pe", "image")
    assert np.array_equal(follow_neighbors(hidden)[0], plain_walk(hidden[0]))


def plain_walk(image):
    """The advanced form as published: every state of a pixel is tried against its neighbors."""
    done = np.zeros(image.shape, np.int64)
    for y, x in np.ndindex(image.shape[:2]):
        around = [done[y - 1, x]] * (y > 0) + [done[y, x - 1]] * (x > 0)
        dark = fold(image[y, x]).astype(np.int64)
        states = [
            np.where(bright, 255 - dark, dark)[list(order)]
            for order, bright in product(COLOR_ORDERS, product([False, True], repeat=3))
        ]
        costs = [sum(int(np.abs(state - other).sum()) for other in around) for state in states]
        done[y, x] = states[int(np.argmin(costs))]
    return done.astype(np.uint8)
