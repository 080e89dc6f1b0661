"""Plans as signed permutations: inverse, joining, other tiles, and the forms they can be read in."""

from functools import partial

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from etc_data import Cipher, Plan, Scheme, SecretKey
from etc_data.errors import GeometryError, PlanError
from etc_data.keystream import StreamFactory
from etc_data.operations import (
    NegateValues,
    NegativePositive,
    RotateFlip,
    ScrambleBlocks,
    ScrambleSubBlocks,
    ShuffleColorComponents,
    ShuffleValues,
)
from etc_data.presets import PRESET_NAMES
from etc_data.states import StateTable, identity_states

KEY = SecretKey(bytes(range(32)))
SMALL_PRESETS = ["etc-4", "com-4", "ind-4/2", "com-4/2", "shuffle-com-2", "shuffle-ind-4", "flip-2"]
SMALL_PRESETS += ["adaptive-4", "adaptive-pixel-2", "vit-4/2", "le-2", "ele-2", "pe"]


@st.composite
def steps(draw):
    """Draws an operation whose blocks have 1 to 6 pixels per side, so that 12 is a common multiple."""
    block = draw(st.sampled_from([1, 2, 3, 4, 6]))
    assignment = draw(st.sampled_from(["common", "independent"]))
    sub_block = draw(st.sampled_from([size for size in (1, 2, 3, 4, 6) if block % size == 0]))
    unit = draw(st.sampled_from(["value", "pixel", "half"]))
    share = draw(st.sampled_from(["random", "half"])) if block % 2 == 0 else "random"
    return draw(
        st.sampled_from(
            [
                ScrambleBlocks(block),
                RotateFlip(block, assignment, sub_block),
                NegativePositive(block, assignment, sub_block),
                ShuffleColorComponents(block, assignment, sub_block),
                ScrambleSubBlocks(block, assignment, sub_block),
                ShuffleValues(block, assignment, unit),
                NegateValues(block, assignment, unit, share),
            ]
        )
    )


@st.composite
def plans(draw, height=None, width=None):
    """Draws the plan of a composed scheme, or of a preset, for a size that is rarely square."""
    if draw(st.booleans()):
        scheme = Scheme(draw(st.lists(steps(), min_size=1, max_size=4)))
    else:
        scheme = Scheme.preset(draw(st.sampled_from(SMALL_PRESETS)))
    height = height or scheme.block_size * draw(st.integers(1, 3))
    width = width or scheme.block_size * draw(st.integers(1, 3))
    context = str(draw(st.integers(0, 9)))
    return Cipher(scheme, KEY, key_scope="dataset", context=context).plan(height, width)


def pixels(plan: Plan, *leading: int) -> np.ndarray:
    shape = (*leading, plan.height, plan.width, 3)
    return np.random.default_rng(plan.height * plan.width).integers(0, 256, shape, np.uint8)


def applied_slowly(plan: Plan, image: np.ndarray) -> np.ndarray:
    """Applies the block form (tile_order, value_order, negate) value by value."""
    height, width = plan.tile
    columns = image.shape[1] // width
    parts = [image & 15, image >> 4] if plan.halves else [image]
    results = [np.empty_like(part) for part in parts]
    top = 15 if plan.halves else 255

    def place(tile, value):
        half, value = divmod(value, height * width * 3)
        y, rest = divmod(value, width * 3)
        x, color = divmod(rest, 3)
        return half, (tile // columns * height + y, tile % columns * width + x, color)

    value_order, negate = plan.value_order.tolist(), plan.negate.tolist()
    for tile, source_tile in enumerate(plan.tile_order.tolist()):
        row = tile if len(value_order) > 1 else 0
        for value, source_value in enumerate(value_order[row]):
            half, where = place(tile, value)
            source_half, source = place(source_tile, source_value)
            taken = int(parts[source_half][source])
            results[half][where] = top - taken if negate[row][value] else taken
    return results[0] | results[1] << 4 if plan.halves else results[0]


def same(first: Plan, second: Plan) -> bool:
    index, negated = first.in_halves().value_index()
    other_index, other_negated = second.in_halves().value_index()
    nothing = np.zeros(len(index), bool)
    signs = nothing if negated is None else negated
    other_signs = nothing if other_negated is None else other_negated
    return bool((index == other_index).all() and (signs == other_signs).all())


# -- inverse and joining ------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(plans())
def test_inverse_is_exact(plan):
    image = pixels(plan)
    inverse = plan.inverse()
    assert (inverse.apply(plan.apply(image)) == image).all()
    assert (plan.apply(inverse.apply(image)) == image).all()
    identity = Plan.identity(plan.height, plan.width, plan.tile)
    assert same(plan.then(inverse), identity)
    assert same(inverse.then(plan), identity)
    assert same(inverse.inverse(), plan)


@pytest.mark.parametrize("name", PRESET_NAMES)
def test_inverse_of_every_preset_is_exact(name):
    plan = Cipher(name, KEY, key_scope="dataset").plan(32, 48)
    image = pixels(plan, 2)
    encrypted = plan.apply(image)
    assert (plan.inverse().apply(encrypted) == image).all()
    assert 0.5 < np.mean(encrypted != image)


@settings(max_examples=80, deadline=None)
@given(plans(12, 24), plans(12, 24))
def test_then_applies_both(first, second):
    image = pixels(first)
    assert (first.then(second).apply(image) == second.apply(first.apply(image))).all()


@settings(max_examples=50, deadline=None)
@given(plans(12, 12), plans(12, 12), plans(12, 12))
def test_joining_is_associative(first, second, third):
    assert same(first.then(second).then(third), first.then(second.then(third)))


@settings(max_examples=50, deadline=None)
@given(plans(12, 12), plans(12, 12))
def test_inverse_of_two_is_the_inverses_the_other_way_round(first, second):
    assert same(first.then(second).inverse(), second.inverse().then(first.inverse()))


def test_plans_of_two_sizes_cannot_be_joined():
    cipher = Cipher("etc-4", KEY)
    with pytest.raises(
        PlanError, match=r"different sizes cannot be joined: Plan\(8×4 pixels, 2 tiles\)"
    ):
        cipher.plan(8, 4).then(cipher.plan(4, 8))


def test_many_rounds_keep_only_the_states_that_occur():
    rounds = Scheme(Scheme.preset("ind-2").steps * 4, "four-rounds")
    plan = Cipher(rounds, KEY).plan(8, 8)
    assert len(plan.states) <= 1024
    image = expected = pixels(plan)
    for step_plan in step_plans(rounds, 8, 8):
        expected = step_plan.apply(expected)
    assert (plan.apply(image) == expected).all()


def step_plans(scheme: Scheme, height: int, width: int) -> list[Plan]:
    factory = StreamFactory.for_image(KEY, scheme.canonical)
    return [
        step.plan(height, width, partial(factory.stream, f"{number}:{step.text()}"))
        for number, step in enumerate(scheme.steps)
    ]


@settings(max_examples=60, deadline=None)
@given(st.lists(steps(), min_size=1, max_size=5))
def test_scheme_acts_as_its_steps_one_after_another(composed):
    scheme = Scheme(composed)
    plan = Cipher(scheme, KEY).plan(12, 24)
    image = expected = pixels(plan)
    for step_plan in step_plans(scheme, 12, 24):
        expected = step_plan.apply(expected)
    assert (plan.apply(image) == expected).all()


# -- halves -------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(plans())
def test_seen_over_halves_a_plan_does_the_same(plan):
    halves = plan.in_halves()
    assert halves.halves
    assert halves.in_halves() is halves
    assert halves.states.values == 6 * plan.tile[0] * plan.tile[1]
    image = pixels(plan)
    assert (halves.apply(image) == plan.apply(image)).all()


# -- other tiles --------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(plans(12, 24), st.sampled_from([1, 2, 3, 4, 6, 12]), st.sampled_from([1, 2, 3, 4, 6, 8, 12, 24]))
def test_regrouped_plan_is_the_same_or_refused(plan, height, width):
    try:
        regrouped = plan.regrouped((height, width))
    except PlanError:
        assert most_sources_of_a_tile(plan, height, width) > 1
        return
    assert regrouped.tile == (height, width)
    assert same(regrouped, plan)
    assert most_sources_of_a_tile(plan, height, width) == 1


def most_sources_of_a_tile(plan: Plan, height: int, width: int) -> int:
    """Returns from how many input tiles the values of one output tile come, at most."""
    index, _ = plan.value_index()
    values = plan.height * plan.width * 3
    y, x = np.divmod(index % values // 3, plan.width)
    source = (y // height * (plan.width // width) + x // width).reshape(-1, plan.height, plan.width, 3)
    worst = 0
    for top in range(0, plan.height, height):
        for left in range(0, plan.width, width):
            tile = source[:, top : top + height, left : left + width]
            worst = max(worst, len(np.unique(tile)))
    return worst


def test_regrouping_to_finer_and_coarser_tiles():
    turned = Cipher(Scheme((RotateFlip(4, "independent"),)), KEY).plan(8, 8)
    assert same(turned.regrouped((8, 8)), turned)
    assert same(turned.regrouped((4, 8)), turned)
    assert same(turned.regrouped((2, 2)), turned)
    assert same(turned.regrouped((1, 1)), turned)
    assert turned.regrouped((4, 4)) is turned
    moved = Cipher(Scheme((ScrambleBlocks(4),)), KEY).plan(8, 16)
    assert same(moved.regrouped((2, 4)), moved)
    assert len(moved.regrouped((1, 1)).states) == 1
    assert same(moved.regrouped((8, 16)), moved)


def test_common_states_stay_one_row_after_regrouping():
    plan = Cipher("shuffle-com-2", KEY).plan(4, 8)
    assert plan.value_order.shape == plan.negate.shape == (1, 12)
    assert plan.regrouped((4, 2)).value_order.shape == (1, 24)
    assert Cipher("shuffle-ind-2", KEY).plan(4, 8).value_order.shape == (8, 12)


def test_regrouping_that_would_tear_values_apart_is_refused():
    with pytest.raises(PlanError, match="does not move tiles of 2×2 pixels as a whole"):
        Cipher("shuffle-com-4", KEY).plan(8, 8).regrouped((2, 2))
    with pytest.raises(PlanError, match="does not move tiles of 8×4 pixels as a whole"):
        Cipher("etc-4", KEY).plan(16, 16).regrouped((8, 4))


def test_tiles_that_do_not_divide_the_image_are_refused():
    plan = Cipher("etc-4", KEY).plan(8, 12)
    with pytest.raises(GeometryError, match="tiles of 3×4 pixels do not divide an image of 8×12"):
        plan.regrouped((3, 4))
    with pytest.raises(GeometryError, match="tiles of 5×4 pixels do not divide an image of 8×12"):
        Plan(8, 12, (5, 4), np.arange(6), identity_states(5, 4), np.zeros(6, np.intp))


# -- the forms of a plan ------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(plans())
def test_block_form_applied_value_by_value_gives_the_same(plan):
    image = pixels(plan)
    assert (applied_slowly(plan, image) == plan.apply(image)).all()


@settings(max_examples=60, deadline=None)
@given(plans())
def test_value_order_and_tile_order_are_permutations(plan):
    assert sorted(plan.tile_order) == list(range(len(plan.tile_order)))
    assert (np.sort(plan.value_order, axis=1) == np.arange(plan.states.values)).all()
    assert plan.negate.shape == plan.value_order.shape
    for layout in ("hwc", "chw"):
        index, _ = plan.value_index(layout)
        assert (np.sort(index) == np.arange(len(index))).all()


def matrix_of(plan: Plan) -> np.ndarray:
    """Returns the signed permutation matrix of the block form, over centered values."""
    size = plan.height * plan.width * 3
    number = np.arange(size).reshape(plan.height, plan.width, 3)
    height, width = plan.tile
    tiles = [
        number[top : top + height, left : left + width].reshape(-1)
        for top in range(0, plan.height, height)
        for left in range(0, plan.width, width)
    ]
    matrix = np.zeros((size, size))
    for tile, source_tile in enumerate(plan.tile_order):
        row = tile if len(plan.value_order) > 1 else 0
        signs = np.where(plan.negate[row], -1, 1)
        matrix[tiles[tile], tiles[source_tile][plan.value_order[row]]] = signs
    return matrix


@pytest.mark.parametrize(
    "name", ["etc-2", "com-2", "ind-4/2", "shuffle-ind-2", "flip-2", "adaptive-2", "pe"]
)
def test_plan_is_its_signed_permutation_matrix(name):
    plan = Cipher(name, KEY, key_scope="dataset").plan(4, 8)
    matrix = matrix_of(plan)
    assert set(np.unique(matrix)) <= {-1.0, 0.0, 1.0}
    assert (matrix @ matrix.T == np.eye(len(matrix))).all()
    assert (matrix_of(plan.inverse()) == matrix.T).all()
    image = pixels(plan)
    centered = matrix @ (image.reshape(-1) - 127.5) + 127.5
    assert (plan.apply(image).reshape(-1) == centered).all()
    other = Cipher("flip-4", KEY).plan(4, 8)
    assert (matrix_of(plan.then(other)) == matrix_of(other) @ matrix).all()


@settings(max_examples=60, deadline=None)
@given(plans())
def test_flat_forms_of_both_layouts_agree(plan):
    assume(not plan.halves)
    image = pixels(plan)
    results = {}
    for layout, flat in (("hwc", image.reshape(-1)), ("chw", image.transpose(2, 0, 1).reshape(-1))):
        index, mask = plan.byte_mask(layout)
        same_index, negated = plan.value_index(layout)
        assert index is same_index
        out = flat[index] ^ (0 if mask is None else mask)
        assert (
            out == np.where(False if negated is None else negated, 255 - flat[index], flat[index])
        ).all()
        results[layout] = out
    hwc = results["hwc"].reshape(image.shape)
    assert (hwc == results["chw"].reshape(3, plan.height, plan.width).transpose(1, 2, 0)).all()
    assert (hwc == plan.apply(image)).all()


@settings(max_examples=60, deadline=None)
@given(plans())
def test_pixel_index_moves_what_has_no_color(plan):
    position = np.arange(plan.height * plan.width)
    try:
        index = plan.pixel_index()
    except PlanError as error:
        assert "does not keep the values of a pixel together" in str(error)
        if not plan.halves:
            sources = plan.value_index()[0].reshape(-1, 3) // 3
            assert (sources != sources[:, :1]).any()
        return
    assert sorted(index) == list(position)
    gray = (position % 251).astype(np.uint8).reshape(plan.height, plan.width)
    encrypted = plan.apply(np.repeat(gray[..., None], 3, axis=2))
    moved = gray.reshape(-1)[index].reshape(gray.shape)[..., None]
    assert ((encrypted == moved) | (encrypted == 255 - moved)).all()


def test_pixel_index_of_presets():
    for name in ("etc-4", "com-4/2", "adaptive-pixel-4", "vit-4/2", "pe"):
        assert len(Cipher(name, KEY, key_scope="dataset").plan(8, 8).pixel_index()) == 64
    for name in ("shuffle-com-4", "flip-4", "adaptive-4", "le-4", "ele-4"):
        with pytest.raises(PlanError, match="does not keep the values of a pixel together"):
            Cipher(name, KEY).plan(8, 8).pixel_index()


def test_states_cannot_be_written_to():
    rows = np.arange(12, dtype=np.int32).reshape(1, 12)
    table = StateTable(rows)
    with pytest.raises(ValueError, match="read-only"):
        table.rows[0, 0] = 1
