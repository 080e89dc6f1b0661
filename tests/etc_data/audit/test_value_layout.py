import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etc_data.audit.independent_components import independent_components
from etc_data.audit.topology import TopologyAttack
from etc_data.audit.value_layout import correlate_values, lay_out
from etc_data.sources.images import load_rgb, resize_to


@given(seed=st.integers(0, 2**32 - 1), size=st.sampled_from([4, 8, 16]))
def test_rows_columns_and_colors_are_told_apart(seed, size):
    numbers = np.arange(size * size * 3)
    grid = np.stack([numbers // 3 // size, numbers // 3 % size, numbers % 3], axis=1).astype(float)
    grid = (grid - grid.mean(axis=0)) / grid.std(axis=0) / np.sqrt(len(grid))
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    found = independent_components(grid @ rotation)
    likeness = np.abs(found.T @ grid) / np.sqrt(len(grid))
    assert np.allclose(np.sort(likeness, axis=1), [0, 0, 1], atol=1e-3)
    assert np.allclose(likeness.sum(axis=0), 1, atol=1e-2)


def laid_out(block, seed=0):
    """Shuffles and negates the values of a block, [n, size, size, 3], and lays them out.

    Returns where the value at each place was, and the share of polarities found, up to all of them.
    """
    random = np.random.default_rng(seed)
    plain = block.reshape(len(block), -1)
    order, negated = random.permutation(plain.shape[1]), random.random(plain.shape[1]) < 0.5
    shuffled = np.where(negated, 255 - plain[:, order], plain[:, order])
    layout = lay_out(correlate_values(shuffled), block.shape[1], 3)
    right = (layout.negated == negated).mean()
    return order[layout.order].reshape(block.shape[1:]), max(right, 1 - right)


def neighbors_kept(places):
    """Returns the share of neighbor places that hold values of one color from neighbor pixels."""
    pixel, color = np.divmod(places, 3)
    y, x = np.divmod(pixel, len(places))

    def kept(here, there):
        distance = np.abs(y[here] - y[there]) + np.abs(x[here] - x[there])
        return ((distance == 1) & (color[here] == color[there])).mean()

    return (kept(np.s_[1:], np.s_[:-1]) + kept(np.s_[:, 1:], np.s_[:, :-1])) / 2


@pytest.mark.parametrize(("size", "images"), [(4, 200), (8, 1000), (16, 1000)])
def test_the_values_of_a_block_find_their_places(cifar_images, size, images):
    block = cifar_images("train_00", images)[:, 8 : 8 + size, 8 : 8 + size]
    places, polarities = laid_out(block)
    assert neighbors_kept(places) > 0.99
    assert polarities == 1


@pytest.mark.parametrize("colors", [1, 3])
def test_blocks_of_the_fewest_values_are_laid_out(small_photos, colors):
    values = small_photos[:, :2, :2, :colors].reshape(len(small_photos), -1)
    layout = lay_out(correlate_values(values), 2, colors)
    assert sorted(layout.order) == list(range(4 * colors))


def test_a_few_images_do_not_tell_the_places_of_many_values(cifar_images):
    places, _ = laid_out(cifar_images("train_00", 20)[:, 8:24, 8:24])
    assert neighbors_kept(places) < 0.5


def test_values_of_unrelated_images_tell_nothing(cifar_images):
    """What one shuffle for each image leaves."""
    block = cifar_images("train_00", 1000)[:, 8:16, 8:16].reshape(1000, -1)
    mixed = np.random.default_rng(0).permuted(block, axis=1)
    assert neighbors_kept(laid_out(mixed.reshape(1000, 8, 8, 3))[0]) < 0.1


@pytest.fixture(scope="module")
def centers(pictures):
    """The middle of 500 photos of 64 px, uint8 [500, 32, 32, 3]."""
    files = sorted((pictures / "imagenette224" / "train").glob("*/*"))[::2]
    photos = [np.asarray(resize_to(load_rgb(file.read_bytes()), 64, 64)) for file in files]
    return np.stack(photos)[:, 16:48, 16:48]


def test_independent_shuffles_of_large_blocks_are_undone(find, centers):
    finding = find(TopologyAttack(shown=4), centers, "shuffle-ind-16")
    assert finding.success
    assert finding.scores["joins"] > 0.9
    assert finding.scores["ssim"] > 0.95


def test_a_shuffle_for_each_image_withstands_it(find, centers):
    finding = find(TopologyAttack(shown=4), centers[:100, :16, :16], "shuffle-ind-8", "image")
    assert not finding.success
    assert finding.scores["joins"] < 0.1
