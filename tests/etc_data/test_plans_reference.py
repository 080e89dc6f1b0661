"""A second, plain form of the steps in slices, `np.rot90` and flips; and the states that must occur.

Published code has defects that ours must not share: color orders that repeat a component, 4 of the 8
orientations, sub-block orders that are not uniform.
"""

from collections import Counter
from itertools import permutations

import numpy as np
import pytest

from etc_data import Cipher, SecretKey
from etc_data.keystream import StreamFactory
from etc_data.schemes import Scheme
from etc_data.states import (
    COLOR_ORDERS,
    color_states,
    identity_states,
    invert_rows,
    join_rows,
    orientation_states,
    polarity_states,
    sign_states,
)

KEY = SecretKey(bytes(range(32)))
ORIENTATIONS = [
    lambda tile: tile,
    np.fliplr,
    np.flipud,
    lambda tile: np.rot90(tile, 2),
    lambda tile: np.flipud(np.rot90(tile)),
    lambda tile: np.rot90(tile, 3),
    lambda tile: np.rot90(tile, 1),
    lambda tile: np.fliplr(np.rot90(tile)),
]
COLORS = ["RGB", "RBG", "GRB", "GBR", "BRG", "BGR"]


def split(image, size):
    rows = [image[top : top + size] for top in range(0, image.shape[0], size)]
    return [row[:, left : left + size] for row in rows for left in range(0, image.shape[1], size)]


def join(blocks, columns):
    rows = [np.hstack(blocks[start : start + columns]) for start in range(0, len(blocks), columns)]
    return np.vstack(rows)


def stream(scheme, number, geometry):
    return StreamFactory.for_image(KEY, scheme.canonical).stream(
        f"{number}:{scheme.steps[number].text()}", geometry
    )


def recolored(tile, code):
    return np.dstack([tile[..., "RGB".index(name)] for name in COLORS[code]])


def etc_plainly(image, size):
    """Encrypts as maungmaung2022 §II-B tells, block by block."""
    scheme = Scheme.preset(f"etc-{size}")
    blocks = split(image, size)
    columns = image.shape[1] // size
    grid = f"{image.shape[0] // size}x{columns}"
    order = stream(scheme, 0, grid).permutations(1, len(blocks))[0]
    turns = stream(scheme, 1, grid).integers(len(blocks), 8)
    negations = stream(scheme, 2, grid).bits(len(blocks))
    colors = stream(scheme, 3, grid).integers(len(blocks), 6)
    results = []
    for turn, negation, color, source in zip(turns, negations, colors, order, strict=True):
        tile = ORIENTATIONS[turn](blocks[source])
        tile = 255 - tile if negation else tile
        results.append(recolored(tile, color))
    return join(results, columns)


def sub_blocks_plainly(image, size, sub, assignment):
    """Encrypts as lin2024 §3.4 tells: sub-blocks treated, then scrambled inside their block."""
    name = "com" if assignment == "common" else "ind"
    scheme = Scheme.preset(f"{name}-{size}/{sub}")
    blocks, columns = split(image, size), image.shape[1] // size
    common = assignment == "common"
    grid = "" if common else f"{image.shape[0] // size}x{columns}"
    rows, per_block = 1 if common else len(blocks), (size // sub) ** 2
    turns = stream(scheme, 0, grid).integers(rows * per_block, 8).reshape(rows, per_block)
    negations = stream(scheme, 1, grid).bits(rows * per_block).reshape(rows, per_block)
    colors = stream(scheme, 2, grid).integers(rows * per_block, 6).reshape(rows, per_block)
    places = stream(scheme, 3, grid).permutations(rows, per_block)
    results = []
    for number, block in enumerate(blocks):
        row = 0 if common else number
        treated = []
        for piece, tile in enumerate(split(block, sub)):
            tile = ORIENTATIONS[turns[row, piece]](tile)
            tile = 255 - tile if negations[row, piece] else tile
            treated.append(recolored(tile, colors[row, piece]))
        results.append(join([treated[place] for place in places[row]], size // sub))
    return join(results, columns)


@pytest.mark.parametrize(
    ("size", "height", "width"), [(16, 48, 80), (8, 8, 64), (4, 32, 32), (1, 3, 5)]
)
def test_etc_agrees_with_the_plain_form(size, height, width):
    image = np.random.default_rng(size).integers(0, 256, (height, width, 3), np.uint8)
    assert (Cipher(f"etc-{size}", KEY).encrypt(image) == etc_plainly(image, size)).all()


@pytest.mark.parametrize("assignment", ["common", "independent"])
@pytest.mark.parametrize(
    ("size", "sub", "height", "width"), [(16, 8, 32, 64), (8, 2, 24, 16), (6, 3, 6, 12)]
)
def test_sub_block_schemes_agree_with_the_plain_form(assignment, size, sub, height, width):
    image = np.random.default_rng(size).integers(0, 256, (height, width, 3), np.uint8)
    name = "com" if assignment == "common" else "ind"
    expected = sub_blocks_plainly(image, size, sub, assignment)
    assert (Cipher(f"{name}-{size}/{sub}", KEY).encrypt(image) == expected).all()


# -- the states ---------------------------------------------------------------------------------


def test_orientations_are_the_eight_of_the_square():
    tile = np.arange(27).reshape(3, 3, 3)
    ours = [tile.reshape(-1)[row].reshape(3, 3, 3) for row in orientation_states(3).rows]
    for own, orientation in zip(ours, ORIENTATIONS, strict=True):
        assert (own == orientation(tile)).all()
    group = {np.rot90(side, turns).tobytes() for side in (tile, tile[::-1]) for turns in range(4)}
    assert {own.tobytes() for own in ours} == group
    assert len(group) == 8


def test_color_orders_are_the_six_permutations():
    assert sorted(COLOR_ORDERS) == sorted(permutations(range(3)))
    assert ["".join("RGB"[color] for color in order) for order in COLOR_ORDERS] == COLORS
    tile = np.arange(12).reshape(2, 2, 3)
    for code, row in enumerate(color_states(2).rows):
        assert sorted(row) == list(range(12))
        assert (tile.reshape(-1)[row].reshape(2, 2, 3) == recolored(tile, code)).all()


def test_polarities_and_signs():
    assert (polarity_states(1).rows == [[0, 1, 2], [-1, -2, -3]]).all()
    table = sign_states(3).rows
    assert len({row.tobytes() for row in table}) == 8
    for code, row in enumerate(table):
        assert [bool(code >> value & 1) for value in range(3)] == list(row < 0)


def test_rows_join_and_invert_as_signed_permutations():
    generator = np.random.default_rng(3)
    rows = np.stack([generator.permutation(30) for _ in range(40)]).astype(np.int32)
    rows ^= -generator.integers(0, 2, rows.shape).astype(np.int32)
    first, second = rows[:20], rows[20:]
    values = generator.integers(0, 256, 30).astype(np.uint8)

    def act(row, values):
        return np.array([values[v] if v >= 0 else 255 - values[~v] for v in row], np.uint8)

    for joined, inverse, one, two in zip(
        join_rows(second, first), invert_rows(first), first, second, strict=True
    ):
        assert (act(joined, values) == act(two, act(one, values))).all()
        assert (act(inverse, act(one, values)) == values).all()
    assert (join_rows(identity_states(2, 5).rows, first[:1]) == first[:1]).all()


@pytest.mark.parametrize("name", ["etc-2", "ind-2", "ind-4/2"])
def test_all_96_states_of_a_block_occur_about_equally_often(name):
    plan = Cipher(name, KEY).plan(160, 160)
    tile = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    encrypted = split(Cipher(name, KEY).encrypt(np.tile(tile, (80, 80, 1))), 2)
    seen = Counter(block.tobytes() for block in encrypted)
    expected = {
        recolored(polarity(turn(tile)), color).tobytes()
        for turn in ORIENTATIONS
        for polarity in (lambda part: part, lambda part: 255 - part)
        for color in range(6)
    }
    assert len(expected) == 96
    assert set(seen) == expected
    assert len(plan.states) == 96
    mean = 6400 / 96
    # 95 degrees of freedom: 160 is passed less than once in 10,000 keys, and the key is fixed.
    assert sum((count - mean) ** 2 / mean for count in seen.values()) < 160


def test_no_block_loses_a_value():
    image = np.arange(16 * 16 * 3, dtype=np.float32).reshape(16, 16, 3) / 768
    for name in ("etc-4", "ind-8/4", "pe"):
        encrypted = Cipher(name, KEY, key_scope="dataset").encrypt(image)
        folded = np.minimum(encrypted, 1 - encrypted).reshape(-1)
        assert np.allclose(
            np.sort(folded), np.sort(np.minimum(image, 1 - image).reshape(-1)), atol=1e-6
        )


def test_orders_of_sub_blocks_are_uniform_and_unrelated():
    plan = Cipher(Scheme(Scheme.preset("ind-4/2").steps[3:]), KEY).plan(192, 192)
    local = plan.tile_order.reshape(48, 2, 48, 2).transpose(0, 2, 1, 3).reshape(-1, 4)
    base = local.min(axis=1, keepdims=True)
    orders = Counter(tuple(row) for row in (local - base).tolist())
    assert len(orders) == 24
    mean = 2304 / 24
    # 23 degrees of freedom.
    assert sum((count - mean) ** 2 / mean for count in orders.values()) < 60
    neighbors = np.mean((local - base)[1:] == (local - base)[:-1])
    assert abs(neighbors - 0.25) < 0.03
