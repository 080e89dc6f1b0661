import numpy as np
import pytest

from etc_data import Cipher, SecretKey
from etc_data.audit.visible_joins import visible_joins

NOTHING = np.zeros(128 * 128 * 3, bool)


def assembled(plan, image):
    """The values that an image is made of by a plan, as `visible_joins` takes them."""
    index, negated = plan.value_index("hwc")
    return visible_joins(image, index, NOTHING if negated is None else negated, 16)


def encryption(scheme, seed=0):
    return Cipher(scheme, SecretKey(bytes([seed] * 32))).plan(128, 128)


def test_a_whole_picture_goes_on_everywhere(photos):
    plan = encryption("etc-16")
    for image in photos[:4]:
        assert assembled(plan.then(plan.inverse()), image) == 1


@pytest.mark.parametrize("scheme", ["com-16", "ind-16", "etc-16"])
def test_what_was_put_together_wrongly_does_not(photos, scheme):
    assert np.mean([assembled(encryption(scheme), image) for image in photos[:20]]) < 0.1


def test_one_state_of_the_whole_changes_nothing(photos):
    turned = np.arange(128 * 128 * 3).reshape(128, 128, 3)[::-1].swapaxes(0, 1)[..., [2, 0, 1]]
    assert visible_joins(photos[0], turned.reshape(-1), ~NOTHING, 16) == 1


def test_a_picture_whose_two_halves_changed_places_goes_on_but_for_the_seam(photos):
    index = np.roll(np.arange(128 * 128 * 3).reshape(128, 128, 3), 64, axis=1).reshape(-1)
    shares = [visible_joins(image, index, NOTHING, 16) for image in photos[:8]]
    assert 0.85 < np.mean(shares) < 0.97


def test_blocks_of_one_color_may_lie_anywhere(photos):
    image = photos[0].copy()
    image[:64] = 200, 180, 90
    index = np.arange(128 * 128 * 3).reshape(8, 16, 8, 16, 3)
    index[:4] = index[:4, ::-1, ::-1, ::-1]
    assert visible_joins(image, index.reshape(-1), NOTHING, 16) == 1
    assert visible_joins(np.full_like(image, 7), index.reshape(-1), NOTHING, 16) == 1


def test_other_halves_of_the_picture_are_another_matter(photos):
    """Half of the blocks negated: what lies within each half goes on, what lies between does not."""
    negated = NOTHING.reshape(128, 128, 3).copy()
    negated[:, 64:] = True
    shares = [visible_joins(i, np.arange(i.size), negated.reshape(-1), 16) for i in photos[:8]]
    assert 0.85 < np.mean(shares) < 0.97
