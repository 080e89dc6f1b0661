"""Schemes: the table of presets, names, JSON, and the key spaces that the papers print."""

import json
import pickle
from math import comb, lgamma, log, log2

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etc_data import Cipher, Scheme, SecretKey
from etc_data.errors import GeometryError, SchemeError
from etc_data.operations import (
    NegateValues,
    NegativePositive,
    RotateFlip,
    ScrambleBlocks,
    ScrambleSubBlocks,
    ShuffleColorComponents,
    ShuffleValues,
)
from etc_data.presets import PRESET_FAMILIES, PRESET_NAMES, family_of

STATES = "rotate-flip({0}),negative-positive({0}),shuffle-color-components({0})"
CANONICAL = {
    "etc-16": "scramble-blocks(16)," + STATES.format("16,independent,16"),
    "etc-8": "scramble-blocks(8)," + STATES.format("8,independent,8"),
    "com-16": STATES.format("16,common,16"),
    "ind-16": STATES.format("16,independent,16"),
    "com-16/8": STATES.format("16,common,8") + ",scramble-sub-blocks(16,common,8)",
    "ind-16/8": STATES.format("16,independent,8") + ",scramble-sub-blocks(16,independent,8)",
    "ind-8/4": STATES.format("8,independent,4") + ",scramble-sub-blocks(8,independent,4)",
    "shuffle-com-16": "shuffle-values(16,common,value)",
    "shuffle-ind-16": "shuffle-values(16,independent,value)",
    "flip-4": "shuffle-values(4,common,value),negate-values(4,common,value,half)",
    "adaptive-16": "scramble-blocks(16),shuffle-values(16,common,value),"
    "negate-values(16,common,value,random)",
    "adaptive-pixel-16": "scramble-blocks(16),shuffle-values(16,common,pixel),"
    "negate-values(16,common,pixel,random)",
    "vit-16/8": "scramble-blocks(16),shuffle-values(8,common,pixel)",
    "le-4": "shuffle-values(4,common,half),negate-values(4,common,half,random)",
    "ele-4": "scramble-blocks(4),shuffle-values(4,independent,half),"
    "negate-values(4,independent,half,random)",
    "pe": "negate-values(1,independent,value,random),shuffle-color-components(1,independent,1)",
}


def log2_factorial(count: int) -> float:
    return lgamma(count + 1) / log(2)


STATE_BITS = 3 + 1 + log2(6)
assignments = st.sampled_from(["common", "independent"])


@st.composite
def operations(draw):
    """Draws an operation of blocks of up to 24 pixels."""
    sub_block_size = draw(st.integers(1, 6))
    block_size = sub_block_size * draw(st.integers(1, 4))
    kind = draw(
        st.sampled_from(
            [
                ScrambleBlocks,
                RotateFlip,
                NegativePositive,
                ShuffleColorComponents,
                ScrambleSubBlocks,
                ShuffleValues,
                NegateValues,
            ]
        )
    )
    if kind is ScrambleBlocks:
        return kind(block_size)
    assignment = draw(assignments)
    if kind in (ShuffleValues, NegateValues):
        unit = draw(st.sampled_from(["value", "pixel", "half"]))
        if kind is ShuffleValues:
            return kind(block_size, assignment, unit)
        shares = ["random"] if block_size % 2 and unit != "half" else ["random", "half"]
        return kind(block_size, assignment, unit, draw(st.sampled_from(shares)))
    return kind(block_size, assignment, sub_block_size)


schemes = st.builds(
    Scheme,
    st.lists(operations(), min_size=1, max_size=5),
    st.from_regex(r"x[a-z0-9/-]{0,63}", fullmatch=True),
)


# -- presets ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CANONICAL)
def test_preset_has_the_steps_of_its_paper(name):
    assert Scheme.preset(name).canonical == CANONICAL[name].replace("),", ")|")
    assert Scheme.preset(name).name == name


def test_every_preset_of_the_table_is_tested_here():
    assert set(PRESET_NAMES) <= set(CANONICAL)
    assert [family.example for family in PRESET_FAMILIES if family.example not in PRESET_NAMES] == []
    assert {family_of(name) for name in PRESET_NAMES} == set(PRESET_FAMILIES)


@pytest.mark.parametrize("name", PRESET_NAMES)
def test_family_tells_source_and_summary(name):
    family = family_of(name)
    assert family is not None
    assert family.source
    assert family.summary == family.summary.strip(" .")


def test_preset_equals_the_same_steps_by_hand_and_draws_the_same():
    preset = Scheme.preset("ind-16/8")
    by_hand = Scheme(preset.steps, name="mine")
    assert by_hand != preset
    assert by_hand.canonical == preset.canonical
    key = SecretKey(bytes(32))
    plans = [Cipher(scheme, key).plan(32, 16).value_index() for scheme in (preset, by_hand)]
    assert (plans[0][0] == plans[1][0]).all()
    assert (plans[0][1] == plans[1][1]).all()


@pytest.mark.parametrize(
    "name",
    [
        "",
        "etc",
        "etc-",
        "etc-0",
        "etc-016",
        "etc-16 ",
        " etc-16",
        "ETC-16",
        "etc-16/8",
        "etc-16\n",
        "com-16/",
        "com-/8",
        "vit-16",
        "pe-1",
        "flip-4/2",
        "xetc-16",
        "etc--16",
        "etc-1.5",
        "etc-99999",
        "etc-１６",
        "adaptive-value-16",
        "custom",
    ],
)
def test_unknown_preset_is_refused_and_the_known_are_told(name):
    with pytest.raises(SchemeError) as caught:
        Scheme.preset(name)
    assert f"there is no scheme {name!r}; there are etc-16, com-16" in str(caught.value)
    assert caught.value.hint == "etc-data schemes explains them"
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("com-16/5", "sub_block_size 5 does not divide block_size 16"),
        ("ind-8/16", "sub_block_size 16 does not divide block_size 8"),
        ("vit-16/6", "sub-block size 6 does not divide block size 16"),
        ("flip-3", "exactly half of 27 values cannot be negated"),
    ],
)
def test_preset_of_impossible_sizes_is_refused(name, message):
    with pytest.raises(SchemeError, match=message):
        Scheme.preset(name)


# -- composing ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "steps", [(), [], ("rotate-flip",), (RotateFlip,), (RotateFlip(8, "common"), 1)]
)
def test_steps_must_be_operations(steps):
    with pytest.raises(SchemeError, match="at least one step, and each is an Operation"):
        Scheme(steps)


@pytest.mark.parametrize("name", ["", "My", "a b", "-a", "/a", "a_b", "é", "a" * 65, "a\n", None, 5])
def test_bad_name_is_refused(name):
    with pytest.raises(SchemeError, match="is not 1–64 lower-case letters"):
        Scheme((ScrambleBlocks(8),), name)


@pytest.mark.parametrize("name", ["etc-16", "com-16/8", "pe", "le-4"])
def test_name_of_a_preset_is_not_given_to_other_steps(name):
    with pytest.raises(SchemeError, match="belongs to a preset with other steps"):
        Scheme((ScrambleBlocks(8),), name)
    assert Scheme(Scheme.preset(name).steps, name) == Scheme.preset(name)


def test_steps_given_as_a_list_are_kept_as_a_tuple():
    scheme = Scheme([ScrambleBlocks(8)])
    assert scheme == Scheme((ScrambleBlocks(8),))
    assert hash(scheme) == hash(Scheme((ScrambleBlocks(8),)))
    assert pickle.loads(pickle.dumps(scheme)) == scheme


def test_block_size_is_the_least_that_all_steps_fit():
    assert Scheme.preset("vit-16/8").block_size == 16
    assert Scheme((ScrambleBlocks(4), ScrambleBlocks(6))).block_size == 12


def test_only_pe_has_a_key_per_image_by_default():
    scopes = {name: Scheme.preset(name).default_key_scope for name in PRESET_NAMES}
    assert scopes.pop("pe") == "image"
    assert set(scopes.values()) == {"dataset"}


@pytest.mark.parametrize(
    ("name", "friendly"),
    [
        ("etc-16", True),
        ("etc-8", True),
        ("etc-24", True),
        ("etc-4", False),
        ("etc-12", False),
        ("com-16", True),
        ("ind-16", True),
        ("com-16/8", True),
        ("ind-16/8", True),
        ("com-48/24", True),
        ("com-16/4", False),
        ("ind-8/4", False),
        ("ind-24/12", False),
        ("com-4", False),
        ("shuffle-com-16", False),
        ("shuffle-ind-16", False),
        ("flip-4", False),
        ("flip-16", False),
        ("adaptive-16", False),
        ("adaptive-pixel-16", False),
        ("vit-16/8", False),
        ("vit-16/16", False),
        ("le-4", False),
        ("le-8", False),
        ("ele-4", False),
        ("pe", False),
    ],
)
def test_jpeg_friendly_where_whole_cells_of_8_move(name, friendly):
    assert Scheme.preset(name).jpeg_friendly is friendly


# -- geometry -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("height", "width", "message"),
    [
        (33, 32, "image height 33 is not a multiple of block_size 16; pad, crop or resize to 32 or 48"),
        (32, 47, "image width 47 is not a multiple of block_size 16; pad, crop or resize to 32 or 48"),
        (9, 16, "image height 9 is not a multiple of block_size 16; pad, crop or resize to 16"),
        (0, 16, "image height 0 is not a multiple of block_size 16"),
        (16, -16, "image width -16 is not a multiple of block_size 16"),
    ],
)
def test_size_off_the_grid_is_refused(height, width, message):
    scheme = Scheme.preset("etc-16")
    for check in (scheme.check_size, scheme.key_space_bits, Cipher(scheme, SecretKey(bytes(32))).plan):
        with pytest.raises(GeometryError) as caught:
            check(height, width)
        assert str(caught.value).startswith(message)
        assert 'fit="pad"' in str(caught.value.hint)


# -- key spaces ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "height", "width", "bits"),
    [
        # maungmaung2022 at 32 px has four blocks; the same number in com-16/8's four sub-blocks.
        ("etc-16", 32, 32, 30.92),
        ("com-16/8", 32, 32, 30.92),
        ("com-16/8", 224, 224, 30.92),  # lin2024 eq. 13: 8⁴·2⁴·6⁴·4!
        ("vit-16/8", 224, 224, 1510.8),  # qi2022-vision-transformer eq. (2): 196!·64!
        ("flip-4", 32, 32, 247.8),  # iijima §4.3: 48!·48!/(24!·24!)
    ],
)
def test_key_space_is_the_papers_number(name, height, width, bits):
    assert Scheme.preset(name).key_space_bits(height, width) == pytest.approx(bits, abs=0.05)


@pytest.mark.parametrize(
    ("name", "bits"),
    [  # lin2024 Table 1 at 224 px: N = 196 blocks; independent keys raise the block's number to N
        ("com-16", STATE_BITS),
        ("ind-16", 196 * STATE_BITS),
        ("com-16/8", 4 * STATE_BITS + log2(24)),
        ("ind-16/8", 196 * (4 * STATE_BITS + log2(24))),
        ("shuffle-com-16", log2_factorial(768)),
        ("shuffle-ind-16", 196 * log2_factorial(768)),
        ("etc-16", log2_factorial(196) + 196 * STATE_BITS),
        ("adaptive-16", log2_factorial(196) + log2_factorial(768) + 768),
        ("adaptive-pixel-16", log2_factorial(196) + log2_factorial(256) + 256),
        ("vit-16/8", log2_factorial(196) + log2_factorial(64)),
        ("flip-4", log2_factorial(48) + log2(comb(48, 24))),
        ("le-4", log2_factorial(96) + 96),  # (6B²)!·2^(6B²)
        ("ele-4", log2_factorial(3136) + 3136 * (log2_factorial(96) + 96)),
        ("pe", 224 * 224 * (3 + log2(6))),
    ],
)
def test_key_space_counts_all_draws(name, bits):
    cipher = Cipher(name, SecretKey(bytes(32)))
    assert cipher.key_space_bits(224, 224) == pytest.approx(bits, rel=1e-12)


@pytest.mark.parametrize(
    "scheme",
    [
        Scheme((RotateFlip(2, "common"), NegativePositive(2, "common"))),
        Scheme((ShuffleColorComponents(2, "common"), NegativePositive(2, "common"))),
        Scheme((ScrambleSubBlocks(2, "common", 1),)),
        Scheme((ShuffleValues(2, "common", "pixel"),)),
        Scheme((NegateValues(2, "common", "pixel", "half"),)),
        Scheme((NegateValues(1, "common", "half"),)),
        Scheme((NegateValues(1, "common", "half", "half"),)),
        Scheme((ScrambleBlocks(1),)),
        Scheme.preset("pe"),
    ],
    ids=lambda scheme: scheme.canonical,
)
def test_key_space_is_how_many_plans_there_are(scheme):
    size = (1, 1) if scheme.block_size == 1 and len(scheme.steps) == 2 else (2, 2)
    key, plans = SecretKey(bytes(32)), set()
    for number in range(800):
        plan = Cipher(scheme, key, key_scope="dataset", context=str(number)).plan(*size)
        index, negated = plan.value_index()
        plans.add(
            (index.tobytes(), None if negated is None or not negated.any() else negated.tobytes())
        )
    assert len(plans) == round(2 ** scheme.key_space_bits(*size))


# -- JSON ---------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(schemes)
def test_json_round_trips(scheme):
    text = scheme.to_json()
    twin = Scheme.from_json(text)
    assert twin == scheme
    assert twin.canonical == scheme.canonical
    assert Scheme.from_description(json.loads(text)) == scheme
    assert twin.to_json() == text


@pytest.mark.parametrize("name", PRESET_NAMES)
def test_json_of_a_preset_round_trips(name):
    assert Scheme.from_json(Scheme.preset(name).to_json()) == Scheme.preset(name)


def test_json_has_every_field_of_every_step():
    assert json.loads(Scheme.preset("flip-4").to_json()) == {
        "name": "flip-4",
        "steps": [
            {"step": "shuffle-values", "block_size": 4, "assignment": "common", "unit": "value"},
            {"step": "negate-values", "block_size": 4, "assignment": "common", "unit": "value"}
            | {"share": "half"},
        ],
    }
    assert json.loads(Scheme.preset("com-16").to_json())["steps"][0] == {
        "step": "rotate-flip",
        "block_size": 16,
        "assignment": "common",
        "sub_block_size": 16,
    }


def scramble(**changes):
    return {"name": "x", "steps": [{"step": "scramble-blocks", "block_size": 8, **changes}]}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "must be an object with exactly name and steps"),
        ("etc-16", "must be an object with exactly name and steps"),
        ({"name": "x"}, "must be an object with exactly name and steps"),
        (scramble() | {"key": 1}, "must be an object with exactly name and steps"),
        ({"name": "x", "steps": {}}, "steps must be a list"),
        ({"name": "x", "steps": []}, "at least one step"),
        ({"name": "x", "steps": ["pe"]}, "a step is an object whose step is one of scramble-blocks"),
        (scramble(step="rot13"), "a step is an object whose step is one of scramble-blocks"),
        (scramble(step=["scramble-blocks"]), "a step is an object whose step is one of"),
        (scramble(step={}), "a step is an object whose step is one of"),
        (scramble(step=None), "a step is an object whose step is one of"),
        (scramble(unit="value"), "step scramble-blocks takes block_size; met block_size, unit"),
        ({"name": "x", "steps": [{"step": "scramble-blocks"}]}, "takes block_size; met"),
        (scramble(block_size="8"), "block_size is '8'; it must be a whole number of pixels ≥ 1"),
        (scramble(block_size=8.0), "block_size is 8.0"),
        (scramble(block_size=0), "block_size is 0"),
        (scramble(block_size=-8), "block_size is -8"),
        (scramble(block_size=True), "block_size is True"),
        (scramble(block_size=None), "block_size is None"),
        (scramble() | {"name": 5}, "scheme name 5 is not"),
        (scramble() | {"name": "etc-16"}, "belongs to a preset with other steps"),
    ],
)
def test_json_of_no_scheme_is_refused(value, message):
    with pytest.raises(SchemeError) as caught:
        Scheme.from_json(json.dumps(value))
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "nope", '{"name":"x","steps":[}', "[" * 100_000, "\x00"])
def test_text_that_is_no_json_is_refused(text):
    with pytest.raises(SchemeError, match="a scheme's JSON cannot be read"):
        Scheme.from_json(text)
