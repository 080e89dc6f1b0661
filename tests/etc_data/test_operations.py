"""Operations: what each step does to an image, and what its draws depend on."""

from functools import partial

import numpy as np
import pytest

from etc_data import Cipher, Plan, Scheme, SecretKey
from etc_data.errors import SchemeError
from etc_data.keystream import StreamFactory
from etc_data.operations import (
    OPERATIONS,
    NegateValues,
    NegativePositive,
    Operation,
    RotateFlip,
    ScrambleBlocks,
    ScrambleSubBlocks,
    ShuffleColorComponents,
    ShuffleValues,
)

KEY = SecretKey(bytes(range(32)))
IMAGE = np.random.default_rng(0).integers(0, 256, (24, 36, 3), np.uint8)


def plan_of(step: Operation, height=24, width=36, *, key=KEY, context="", nonce=b"") -> Plan:
    factory = StreamFactory.for_image(key, step.text(), context, nonce)
    return step.plan(height, width, partial(factory.stream, f"0:{step.text()}"))


def blocks_of(image: np.ndarray, size: int) -> np.ndarray:
    """Returns the blocks in raster order, [N, size, size, 3], with plain slices."""
    rows, columns = image.shape[0] // size, image.shape[1] // size
    return np.stack(
        [
            image[row * size : (row + 1) * size, column * size : (column + 1) * size]
            for row in range(rows)
            for column in range(columns)
        ]
    )


def treated(step: Operation, size: int) -> tuple[np.ndarray, np.ndarray]:
    return blocks_of(IMAGE, size), blocks_of(plan_of(step).apply(IMAGE), size)


def as_set(block: np.ndarray) -> bytes:
    return np.sort(block.reshape(-1)).tobytes()


# -- what each step does ------------------------------------------------------------------------


def test_scramble_blocks_moves_whole_blocks():
    before, after = treated(ScrambleBlocks(6), 6)
    assert sorted(block.tobytes() for block in before) == sorted(block.tobytes() for block in after)
    assert not (before == after).all()


@pytest.mark.parametrize("assignment", ["common", "independent"])
def test_rotate_flip_turns_each_sub_block_in_its_place(assignment):
    before, after = treated(RotateFlip(12, assignment, 4), 4)
    for plain, turned in zip(before, after, strict=True):
        orientations = [np.rot90(side, turns) for side in (plain, plain[:, ::-1]) for turns in range(4)]
        assert any((turned == orientation).all() for orientation in orientations)


@pytest.mark.parametrize("assignment", ["common", "independent"])
def test_negative_positive_negates_whole_sub_blocks_or_leaves_them(assignment):
    before, after = treated(NegativePositive(12, assignment, 4), 4)
    negated = [bool((result == 255 - plain).all()) for plain, result in zip(before, after, strict=True)]
    kept = [bool((result == plain).all()) for plain, result in zip(before, after, strict=True)]
    assert all(a != b for a, b in zip(negated, kept, strict=True))
    assert any(negated)
    assert any(kept)


@pytest.mark.parametrize("assignment", ["common", "independent"])
def test_shuffle_color_components_keeps_every_component(assignment):
    before, after = treated(ShuffleColorComponents(12, assignment, 4), 4)
    for plain, shuffled in zip(before, after, strict=True):
        planes = sorted(plain[..., c].tobytes() for c in range(3))
        assert sorted(shuffled[..., c].tobytes() for c in range(3)) == planes


@pytest.mark.parametrize("assignment", ["common", "independent"])
def test_scramble_sub_blocks_stays_inside_the_block(assignment):
    step = ScrambleSubBlocks(12, assignment, 4)
    before, after = treated(step, 12)
    for plain, scrambled in zip(before, after, strict=True):
        pieces = [
            sorted(piece.tobytes() for piece in blocks_of(part, 4)) for part in (plain, scrambled)
        ]
        assert pieces[0] == pieces[1]
    assert not (before == after).all()


@pytest.mark.parametrize("assignment", ["common", "independent"])
@pytest.mark.parametrize("unit", ["value", "pixel", "half"])
def test_shuffle_values_moves_units_inside_the_block(assignment, unit):
    before, after = treated(ShuffleValues(6, assignment, unit), 6)
    for plain, shuffled in zip(before, after, strict=True):
        if unit == "half":
            plain = np.stack([plain & 15, plain >> 4])
            shuffled = np.stack([shuffled & 15, shuffled >> 4])
        if unit == "pixel":
            pixels = [sorted(map(tuple, part.reshape(-1, 3).tolist())) for part in (plain, shuffled)]
            assert pixels[0] == pixels[1]
        assert as_set(plain) == as_set(shuffled)
        assert not (plain == shuffled).all()


@pytest.mark.parametrize("assignment", ["common", "independent"])
@pytest.mark.parametrize("unit", ["value", "pixel", "half"])
@pytest.mark.parametrize("share", ["random", "half"])
def test_negate_values_leaves_every_unit_in_its_place(assignment, unit, share):
    before, after = treated(NegateValues(6, assignment, unit, share), 6)
    if unit == "half":
        before, after = (np.stack([part & 15, part >> 4], axis=1) for part in (before, after))
    top = 15 if unit == "half" else 255
    negated = after != before
    assert (after[negated] == top - before[negated]).all()
    if unit == "pixel":
        assert (negated == negated[..., :1]).all()
    counts = negated.reshape(len(negated), -1).sum(axis=1)
    if share == "half":
        assert (counts == negated[0].size // 2).all()
    else:
        assert 0.4 < counts.sum() / negated.size < 0.6
    if assignment == "common":
        assert (negated == negated[:1]).all()
    else:
        assert (negated != negated[:1]).any()


# -- what the draws depend on -------------------------------------------------------------------

COMMON_STEPS = [
    RotateFlip(12, "common", 4),
    NegativePositive(12, "common", 2),
    ShuffleColorComponents(12, "common", 3),
    ScrambleSubBlocks(12, "common", 4),
    ShuffleValues(12, "common"),
    ShuffleValues(12, "common", "pixel"),
    ShuffleValues(12, "common", "half"),
    NegateValues(12, "common"),
    NegateValues(12, "common", "pixel", "half"),
    NegateValues(12, "common", "half"),
]


@pytest.mark.parametrize("step", COMMON_STEPS, ids=Operation.text)
def test_common_draws_do_not_depend_on_the_image_size(step):
    small, wide, tall = (
        plan_of(step, *size).regrouped((12, 12)) for size in ((12, 12), (12, 60), (48, 24))
    )
    assert small.value_order.shape[0] == small.negate.shape[0] == 1
    changed = (small.value_order != np.arange(small.value_order.shape[1])).any() or small.negate.any()
    assert changed
    for other in (wide, tall):
        assert (other.value_order == small.value_order).all()
        assert (other.negate == small.negate).all()
        assert (other.tile_order == np.arange(len(other.tile_order))).all()


@pytest.mark.parametrize("name", ["com-16", "com-16/8", "shuffle-com-16", "flip-16", "le-16"])
def test_one_key_treats_the_blocks_of_every_resolution_alike(name):
    cipher = Cipher(name, KEY)
    block = np.random.default_rng(1).integers(0, 256, (16, 16, 3), np.uint8)
    expected = cipher.encrypt(block)
    for rows, columns in ((1, 3), (4, 2)):
        encrypted = blocks_of(cipher.encrypt(np.tile(block, (rows, columns, 1))), 16)
        assert (encrypted == expected).all()


@pytest.mark.parametrize("name", ["ind-16", "ind-16/8", "shuffle-ind-16"])
def test_independent_draws_differ_from_block_to_block_and_with_the_size(name):
    cipher = Cipher(name, KEY)
    block = np.random.default_rng(1).integers(0, 256, (16, 16, 3), np.uint8)
    wide = blocks_of(cipher.encrypt(np.tile(block, (2, 8, 1))), 16)
    tall = blocks_of(cipher.encrypt(np.tile(block, (8, 2, 1))), 16)
    assert len({part.tobytes() for part in wide}) >= 14
    assert (wide != tall).any()


@pytest.mark.parametrize(
    "step", [ScrambleBlocks(4), RotateFlip(4, "independent"), ShuffleValues(4, "common")]
)
def test_context_nonce_key_scheme_and_position_all_change_the_draws(step):
    plans = [
        plan_of(step, 64, 64),
        plan_of(step, 64, 64, context="a"),
        plan_of(step, 64, 64, context="b"),
        plan_of(step, 64, 64, nonce=bytes(16)),
        plan_of(step, 64, 64, nonce=bytes(15) + b"\1"),
        plan_of(step, 64, 64, key=SecretKey(bytes(32))),
    ]
    factory = StreamFactory.for_image(KEY, "another scheme")
    plans.append(step.plan(64, 64, partial(factory.stream, f"0:{step.text()}")))
    plans.append(step.plan(64, 64, partial(factory.stream, f"1:{step.text()}")))
    assert len({plan.value_index()[0].tobytes() for plan in plans}) == len(plans)


def test_draws_under_two_contexts_are_unrelated():
    step = RotateFlip(2, "independent")
    codes = [plan_of(step, 128, 128, context=context).state_of_tile for context in ("a", "b")]
    agreement = np.mean(codes[0] == codes[1])
    assert abs(agreement - 1 / 8) < 5 * np.sqrt(1 / 8 * 7 / 8 / len(codes[0]))


def test_learning_one_scheme_tells_nothing_of_another():
    common, full = Scheme.preset("com-16"), Scheme.preset("etc-16")
    assert full.steps[1:] != common.steps
    streams = set()
    for scheme in (common, full):
        for number, step in enumerate(scheme.steps):
            stream = StreamFactory.for_image(KEY, scheme.canonical).stream(
                f"{number}:{step.text()}", ""
            )
            streams.add(stream.read(16).tobytes())
    assert len(streams) == len(common.steps) + len(full.steps)


def test_a_step_twice_in_a_scheme_draws_twice():
    step = ShuffleValues(4, "common")
    once = Cipher(Scheme((step,)), KEY).plan(4, 4)
    twice = Cipher(Scheme((step, step)), KEY).plan(4, 4)
    assert (twice.value_index()[0] != once.then(once).value_index()[0]).any()


@pytest.mark.parametrize(
    "step", [RotateFlip(2, "independent"), ShuffleColorComponents(2, "independent")], ids=Operation.text
)
def test_states_are_drawn_evenly(step):
    plan = plan_of(step, 256, 256)
    counts = np.bincount(plan.state_of_tile, minlength=len(plan.states))
    expected = counts.sum() / len(counts)
    # At most 7 degrees of freedom: 30 is passed once in 10,000 keys, and the key is fixed.
    assert ((counts - expected) ** 2 / expected).sum() < 30


# -- values and texts ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (ScrambleBlocks(16), "scramble-blocks(16)"),
        (RotateFlip(16, "common"), "rotate-flip(16,common,16)"),
        (NegativePositive(16, "independent", 8), "negative-positive(16,independent,8)"),
        (ShuffleColorComponents(8, "common", 4), "shuffle-color-components(8,common,4)"),
        (ScrambleSubBlocks(16, "common", 8), "scramble-sub-blocks(16,common,8)"),
        (ShuffleValues(4, "common"), "shuffle-values(4,common,value)"),
        (NegateValues(4, "common", "half", "half"), "negate-values(4,common,half,half)"),
    ],
)
def test_canonical_text_is_that_of_the_format_page(step, text):
    assert step.text() == text
    assert OPERATIONS[step.name] is type(step)


def test_every_operation_is_registered():
    assert len(OPERATIONS) == 7


@pytest.mark.parametrize("size", [0, -1, 1.0, "8", None, True, np.int64(8)])
def test_size_that_is_no_whole_number_of_pixels_is_refused(size):
    with pytest.raises(SchemeError, match=r"rotate-flip: block_size is .*≥ 1"):
        RotateFlip(size, "common")


@pytest.mark.parametrize("sub_block_size", [-4, 3, 16, 4.0, "4"])
def test_sub_block_that_does_not_divide_the_block_is_refused(sub_block_size):
    with pytest.raises(SchemeError, match="sub_block_size"):
        RotateFlip(8, "common", sub_block_size)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: RotateFlip(8, "shared"), "assignment is 'shared'; it must be one of common, indep"),
        (lambda: RotateFlip(8, ["common"]), "assignment is"),
        (lambda: ShuffleValues(8, "common", "byte"), "unit is 'byte'; it must be one of value, pixel"),
        (lambda: NegateValues(8, "common", "value", "third"), "share is 'third'; it must be one of"),
    ],
)
def test_unknown_choice_is_refused(build, message):
    with pytest.raises(SchemeError) as caught:
        build()
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("size", "unit", "count"), [(3, "value", 27), (1, "value", 3), (5, "pixel", 25)]
)
def test_half_of_an_odd_number_is_refused(size, unit, count):
    with pytest.raises(SchemeError) as caught:
        NegateValues(size, "common", unit, "half")
    assert f"exactly half of {count} {unit}s cannot be negated" in str(caught.value)


def test_half_of_an_even_number_of_halves_is_fine_in_odd_blocks():
    assert plan_of(NegateValues(3, "common", "half", "half"), 3, 3).negate.sum() == 27
