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


@pytest.mark.parametrize("noise", [0, 0.7])
def test_pictures_with_nothing_to_be_seen_are_no_success(noise):
    random = np.random.default_rng(0)
    blank = np.clip(random.normal(250, noise, (128, 128, 3)), 0, 255).astype(np.uint8)
    assert assembled(encryption("com-16"), blank) < 0.05


def test_a_few_bright_dots_do_not_look_like_others():
    random = np.random.default_rng(0)
    sky = np.full((128, 128, 3), 8, np.uint8)
    y, x = random.integers(0, 128, (2, 100))
    sky[y, x] = 240
    tiles = np.arange(sky.size).reshape(8, 16, 8, 16, 3).swapaxes(1, 2).reshape(64, -1)
    index = random.permutation(tiles).reshape(8, 8, 16, 16, 3).swapaxes(1, 2).reshape(-1)
    assert visible_joins(sky, index, NOTHING, 16) < 0.1
    assert visible_joins(sky, np.arange(sky.size), NOTHING, 16) == 1


def test_one_tile_that_fills_the_picture_has_no_join_to_spoil(photos):
    tile = np.ascontiguousarray(photos[0, :16, :16])
    assert visible_joins(tile, np.arange(tile.size), np.zeros(tile.size, bool), 16) == 1


def test_other_halves_of_the_picture_are_another_matter(photos):
    """Half of the blocks negated: what lies within each half goes on, what lies between does not."""
    negated = NOTHING.reshape(128, 128, 3).copy()
    negated[:, 64:] = True
    shares = [visible_joins(i, np.arange(i.size), negated.reshape(-1), 16) for i in photos[:8]]
    assert 0.85 < np.mean(shares) < 0.97
