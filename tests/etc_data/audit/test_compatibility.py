import numpy as np
import pytest

from etc_data.audit.compatibility import Compatibility
from etc_data.audit.edges import line_pixels
from etc_data.audit.loops import loop_support
from etc_data.audit.tones import ORDERS, SIGNS, TONES

TILE = 16
COUNT = 8


def gallagher(line, inner, beyond, noise):
    """D(L → X) pixel by pixel, as the formula stands, in double precision."""
    gradient = line - inner
    mean = gradient.mean(axis=0)
    precision = np.linalg.inv(np.cov(gradient.T) + noise * np.eye(3))
    steps = (beyond[p] - line[p] - mean for p in range(len(line)))
    return sum(float(step @ precision @ step) for step in steps)


def direct_cost(image, first, second, backward, tone, noise):
    pixels = image.reshape(-1, 3).astype(np.float64)
    edge = line_pixels(*image.shape[:2], TILE)
    inward = np.tile([image.shape[1], -image.shape[1], 1, -1], len(edge) // 4)
    here, there = ((pixels[edge[line]], pixels[edge[line] + inward[line]]) for line in (first, second))
    turned = [lines[::-1] if backward else lines for lines in there]
    turned = [127.5 + SIGNS[tone] * (lines[:, ORDERS[tone]] - 127.5) for lines in turned]
    return gallagher(*here, turned[0], noise) + gallagher(*turned, here[0], noise)


@pytest.fixture(scope="module")
def image(photos):
    return photos[3]


@pytest.mark.parametrize("noise", [1.0, 10.0])
def test_costs_are_those_of_the_formula(image, noise):
    found = Compatibility.of(image, TILE, noise)
    random = np.random.default_rng(0)
    for _ in range(60):
        first, second = random.integers(0, 4 * COUNT**2, 2)
        backward, tone = random.integers(0, 2), random.integers(0, TONES)
        cost = found.costs(np.array([first]), np.array([second]))[0, 0, backward, tone]
        assert cost == pytest.approx(
            direct_cost(image, first, second, backward, tone, noise), rel=1e-3, abs=0.2
        )


def test_a_join_costs_the_same_seen_from_either_side(image):
    found = Compatibility.of(image, TILE)
    lines = np.arange(0, 4 * COUNT**2, 7)
    costs = found.costs(lines, lines)
    same = [0, 1, 2, 3, 4, 5, 10, 11]  # tones that are their own inverses
    np.testing.assert_allclose(
        costs[..., same], costs.transpose(1, 0, 2, 3)[..., same], rtol=1e-3, atol=0.3
    )


def test_best_partners_are_the_cheapest_of_all(image):
    found = Compatibility.of(image, TILE)
    partners = found.best_partners(5)
    lines = np.arange(4 * COUNT**2)
    costs = found.costs(lines, lines)
    costs[lines[:, None] // 4 == lines // 4] = np.inf
    cheapest = np.sort(costs.reshape(len(lines), -1), axis=1)[:, :5]
    np.testing.assert_allclose(partners.cost, cheapest, rtol=1e-4, atol=0.1)
    again = costs[lines[:, None], partners.other, partners.backward.astype(int), partners.tone]
    np.testing.assert_allclose(partners.cost, again, rtol=1e-4, atol=0.1)


def test_most_cheapest_partners_are_true_neighbors(image):
    partners = Compatibility.of(image, TILE).best_partners(8)
    tile = np.arange(COUNT**2).reshape(COUNT, COUNT)
    right = 4 * tile[:, :-1].reshape(-1) + 3
    left = 4 * tile[:, 1:].reshape(-1) + 2
    true = (partners.other[right, 0] == left) & (partners.tone[right, 0] == 0)
    assert true.mean() > 0.7


def test_rings_support_true_joins_and_few_others(image):
    partners = Compatibility.of(image, TILE).best_partners(8)
    certainty = partners.cost[:, 1:2] / (1 + partners.cost)
    support = loop_support(partners, certainty).sum(axis=2)
    row, column = np.divmod(np.arange(COUNT**2), COUNT)
    tile, other = np.arange(4 * COUNT**2)[:, None] // 4, partners.other // 4
    beside = np.abs(row[tile] - row[other]) + np.abs(column[tile] - column[other]) == 1
    facing = (np.arange(4 * COUNT**2)[:, None] ^ 1) % 4 == partners.other % 4
    true = beside & facing & (partners.tone == 0) & ~partners.backward
    print(support[true].mean(), support[~beside].mean(), (support[~beside] > 0).mean())
    assert support[true].mean() > 3 * support[~beside].mean()
