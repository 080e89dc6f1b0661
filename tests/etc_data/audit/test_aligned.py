import numpy as np
import pytest

from etc_data import Cipher, Scheme, SecretKey
from etc_data.audit.aligned import AlignedTiles
from etc_data.audit.compatibility import Compatibility
from etc_data.audit.jigsaw import solve_aligned
from etc_data.operations import ScrambleBlocks

NOISE = 3.0


def scrambled(images, seed=0):
    """Images whose blocks are scrambled alike, and where in them block i of the plain ones lies."""
    plan = Cipher(Scheme((ScrambleBlocks(16),)), SecretKey(bytes([seed] * 32))).plan(*images.shape[1:3])
    return plan.apply(images), np.argsort(plan.tile_order)


@pytest.fixture
def unrelated():
    """Closeness that has nothing to do with any layout."""
    closeness = np.random.default_rng(0).normal(size=(64, 64))
    return (closeness + closeness.T) / 2**0.5


def test_costs_are_those_of_lines_as_they_are(photos):
    tiles = AlignedTiles.of(photos[:1], 16, NOISE)
    every = Compatibility.of(photos[0], 16, NOISE)
    for side, facing in ((0, 1), (1, 0), (2, 3), (3, 2)):
        lines, others = 4 * np.arange(64) + side, 4 * np.arange(64) + facing
        as_they_are = every.costs(lines, others)[:, :, 0, 0]
        apart = ~np.eye(64, dtype=bool)
        assert np.allclose(tiles.costs[lines][apart], as_they_are[apart], rtol=1e-3, atol=0.5)
        assert np.isinf(tiles.costs[lines, np.arange(64)]).all()


def test_only_facing_sides_of_two_tiles_meet(photos):
    tiles = AlignedTiles.of(photos[:1], 16, NOISE)
    partners = tiles.best_partners(8)
    line = np.arange(4 * 64)
    assert (partners.other % 4 == np.array([1, 0, 3, 2])[line % 4][:, None]).all()
    assert (partners.other // 4 != line[:, None] // 4).all()
    fits = np.stack([tiles.fit(number, line) for number in line])
    assert np.isinf(fits[:, 1]).all()
    assert np.isfinite(fits[:, 0, 0]).sum(axis=1).tolist() == [63] * 256
    best = partners.other[:, 0]
    assert np.array_equal(fits[:, 0, 0].max(axis=1), fits[line, 0, 0, best])


@pytest.mark.parametrize(("count", "least"), [(1, 0.8), (5, 1.0)])
def test_tiles_in_one_state_are_arranged_and_more_images_make_it_surer(photos, count, least):
    right = []
    for first in range(0, 30, 5):
        images, place = scrambled(photos[first : first + count])
        found = solve_aligned(AlignedTiles.of(images, 16, NOISE), 8, 8)
        right.append(np.mean(found.tile_at == place.reshape(8, 8)))
        assert not found.orientation.any() and not found.tone.any()
    assert np.mean(right) >= least


def test_a_picture_wider_than_high_is_arranged_even_when_it_was_turned(photos):
    images, _ = scrambled(photos[:5, :96])
    turned = np.ascontiguousarray(images.reshape(5, 6, 16, 8, 16, 3).swapaxes(2, 4)).reshape(
        5, 96, 128, 3
    )
    found = solve_aligned(AlignedTiles.of(turned, 16, NOISE), 6, 8)
    assert (found.orientation == 4).all()
    assert len(np.unique(found.tile_at)) == 48


def test_unrelated_closeness_counts_next_to_nothing(photos, unrelated):
    images, _ = scrambled(photos[:3])
    tiles = AlignedTiles.of(images, 16, NOISE)
    drawn = tiles.drawn_together(unrelated)
    assert np.array_equal(solve_aligned(drawn, 8, 8).tile_at, solve_aligned(tiles, 8, 8).tile_at)
    meet = np.isfinite(tiles.costs) & (tiles.costs > 0)
    assert abs(np.log(drawn.costs[meet] / tiles.costs[meet])).mean() < 0.1


@pytest.mark.parametrize("shape", [(16, 16), (16, 32), (32, 16), (32, 32)])
def test_the_smallest_grids_are_arranged_too(photos, shape):
    image = np.ascontiguousarray(photos[:1, 40 : 40 + shape[0], 40 : 40 + shape[1]])
    rows, columns = shape[0] // 16, shape[1] // 16
    found = solve_aligned(AlignedTiles.of(image, 16, NOISE), rows, columns)
    assert sorted(found.tile_at.reshape(-1)) == list(range(rows * columns))
