import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from etc_data import Cipher, SecretKey
from etc_data.recipes.mixing import cut_box, mix_batch

SIZE, BLOCK = 32, 8


def batch(seed: int, count: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    random = np.random.default_rng(seed)
    images = torch.from_numpy(random.integers(0, 256, (count, 3, SIZE, SIZE), dtype=np.uint8))
    return images, torch.eye(count)


def mixed(images, targets, seed, **alphas):
    generator = torch.Generator().manual_seed(seed)
    options = {"mixup": 0.0, "cutmix": 0.0, "grid": BLOCK} | alphas
    return mix_batch(images, targets, generator=generator, **options)


def test_without_alphas_nothing_changes():
    images, targets = batch(0)
    same, labels = mixed(images.float(), targets, 1)
    assert torch.equal(same, images)
    assert torch.equal(labels, targets)


@given(st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_targets_tell_how_much_of_each_image_there_is(seed):
    # Image n is the number n everywhere: the mean of a mixed image is that of its targets.
    images = torch.arange(6.0)[:, None, None, None].expand(-1, 3, SIZE, SIZE)
    for alphas in ({"mixup": 0.5}, {"cutmix": 0.5}, {"mixup": 0.5, "cutmix": 1.0}):
        blend, targets = mixed(images, torch.eye(6), seed, **alphas)
        torch.testing.assert_close(targets.sum(1), torch.ones(6))
        torch.testing.assert_close(blend.mean((1, 2, 3)), targets @ torch.arange(6.0))


@given(st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_cutmix_takes_whole_blocks(seed):
    images, targets = batch(1)
    blend, _ = mixed(images.float(), targets, seed, cutmix=1.0)
    own = (blend == images).all(1).unfold(1, BLOCK, BLOCK).unfold(2, BLOCK, BLOCK).flatten(3)
    assert (own.all(-1) | ~own.any(-1)).all()


schemes = st.sampled_from(["ind-8", "com-8/4", "etc-8", "adaptive-8", "vit-8/4"])


@given(st.integers(0, 2**31), schemes)
@settings(max_examples=20, deadline=None)
def test_mixup_commutes_with_encryption_under_a_common_key(seed, scheme):
    images, targets = batch(seed)
    cipher = Cipher(scheme, SecretKey(bytes(32)), key_scope="dataset")
    after, labels = mixed(cipher.encrypt(images).double(), targets, seed, mixup=1.0)
    before, same_labels = mixed(images.double(), targets, seed, mixup=1.0)
    assert torch.equal(labels, same_labels)
    whole = cipher.encrypt(before.round().to(torch.uint8)).double()
    assert (after - whole).abs().max() <= 0.5 + 1e-9  # of rounding


@given(st.integers(0, 2**31), schemes)
@settings(max_examples=20, deadline=None)
def test_cutmix_commutes_with_encryption_under_a_common_key(seed, scheme):
    images, targets = batch(seed)
    cipher = Cipher(scheme, SecretKey(bytes(32)), key_scope="dataset")
    after, labels = mixed(cipher.encrypt(images).float(), targets, seed, cutmix=1.0)
    plain = cipher.decrypt(after.to(torch.uint8))
    # What comes out are whole plain blocks of one image or the other, as many as the label says.
    own = (plain == images).all(1).unfold(1, BLOCK, BLOCK).unfold(2, BLOCK, BLOCK).flatten(3).all(-1)
    for number in range(len(images)):
        other = int((labels[number] - torch.eye(6)[number]).argmax())
        its = (plain[number] == images[other]).all(0).unfold(0, BLOCK, BLOCK).unfold(1, BLOCK, BLOCK)
        assert (own[number] | its.flatten(2).all(-1)).all()
        assert own[number].float().mean() == pytest.approx(float(labels[number, number]))


@given(st.integers(1, 12), st.integers(1, 12), st.floats(0, 1), st.integers(0, 2**31))
def test_boxes_lie_within_the_grid_and_have_about_their_share(rows, columns, share, seed):
    top, bottom, left, right = cut_box(rows, columns, share, torch.Generator().manual_seed(seed))
    assert 0 <= top <= bottom <= rows
    assert 0 <= left <= right <= columns
    assert abs((bottom - top) - rows * share**0.5) <= 0.5
    assert abs((right - left) - columns * share**0.5) <= 0.5


def test_all_places_of_a_box_come_up():
    generator = torch.Generator().manual_seed(0)
    places = {cut_box(4, 4, 0.25, generator)[::2] for _ in range(300)}
    assert places == {(top, left) for top in range(3) for left in range(3)}


@pytest.mark.parametrize("alpha", [0.2, 0.5, 1.0, 4.0])
def test_shares_have_the_mean_and_variance_of_a_beta_distribution(alpha):
    images = torch.arange(2.0)[:, None, None, None].expand(-1, 1, 8, 8)
    generator = torch.Generator().manual_seed(7)
    shares = []
    for _ in range(4000):
        _, targets = mix_batch(
            images, torch.eye(2), mixup=alpha, cutmix=0.0, grid=1, generator=generator
        )
        if targets[0, 1] > 0:  # else each image was mixed with itself
            shares.append(float(targets[0, 0]))
    assert np.mean(shares) == pytest.approx(0.5, abs=0.03)
    assert np.var(shares) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)
