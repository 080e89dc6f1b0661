"""`etc-data schemes`: the table, and the same as JSON."""

import json
import re

import pytest

from etc_data import Scheme
from etc_data.cli.schemes import FACTS, facts_of
from etc_data.presets import PRESET_FAMILIES, PRESET_NAMES


def records(etc, *arguments) -> dict[str, dict]:
    result = etc("schemes", "--json", *arguments)
    assert (result.code, result.err) == (0, "")
    return {record["name"]: record for record in json.loads(result.out)}


def test_every_preset_is_told_in_a_paragraph(command):
    result = command("schemes")
    assert result.code == 0
    assert result.out.startswith("Schemes, with the key space of one image of 224 × 224 pixels\n")
    assert re.findall(r"^(\S+) +(?:2\^[\d,.]+) +(?:JPEG|PNG) +\S", result.out, re.MULTILINE) == [
        *PRESET_NAMES
    ]
    for label in ("steps", "models", "one key for all", "a key per image"):
        assert len(re.findall(rf"^  {label} +\S", result.out, re.MULTILINE)) == len(PRESET_NAMES)
    assert re.search(r"^etc-16 +2\^2,505\.5 +JPEG +maungmaung2022 §II-B$", result.out, re.MULTILINE)
    assert result.err.startswith("A large key space is no protection by itself")
    assert "\x1b" not in result.out


def test_names_choose_and_order(etc):
    result = etc("schemes", "pe", "etc-8")
    assert result.code == 0
    assert result.out.index("\npe ") < result.out.index("\netc-8 ")
    assert "com-16" not in result.out
    assert list(records(etc, "pe", "etc-8", "ind-8/4")) == ["pe", "etc-8", "ind-8/4"]


def test_json_tells_everything_of_every_preset(etc):
    found = records(etc)
    assert list(found) == list(PRESET_NAMES)
    for name, record in found.items():
        scheme = Scheme.preset(name)
        assert record["steps"] == scheme.describe()["steps"]
        assert record["block_size"] == scheme.block_size
        assert record["jpeg_friendly"] is scheme.jpeg_friendly
        assert record["default_key_scope"] == scheme.default_key_scope
        assert record["key_space_bits"] == pytest.approx(scheme.key_space_bits(224, 224), abs=0.06)
        assert all(
            record[field] for field in ("source", "summary", "models", "one_key", "key_per_image")
        )


def test_published_key_spaces_are_met(etc):
    assert records(etc)["vit-16/8"]["key_space_bits"] == 1510.8
    assert records(etc)["flip-4"]["key_space_bits"] == 247.8


def test_size_decides_the_key_space(etc):
    small = records(etc, "etc-16", "--size", "32x64")["etc-16"]
    assert small["key_space_bits"] == round(Scheme.preset("etc-16").key_space_bits(32, 64), 1)
    assert "one image of 32 × 64 pixels" in etc("schemes", "etc-16", "--size", "32x64").out


def test_size_that_does_not_fit_is_told_and_no_error(etc):
    assert records(etc, "etc-16", "--size", "100")["etc-16"]["key_space_bits"] is None
    result = etc("schemes", "etc-16", "--size", "100")
    assert result.code == 0
    assert "does not fit" in result.out


@pytest.mark.parametrize("name", ["bogus", "etc", "etc-", "etc-0", "etc-016", "ETC-16", ""])
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_bad_name_is_refused(etc, name, options):
    result = etc("schemes", "etc-16", name, *options)
    assert (result.code, result.out) == (1, "")
    assert result.error.startswith(f"there is no scheme {name!r}; there are etc-16, ")
    assert result.hint == "etc-data schemes explains them"


def test_sub_block_that_does_not_divide_the_block_is_refused(etc):
    result = etc("schemes", "ind-16/7")
    assert (result.code, result.out) == (1, "")
    assert "sub_block_size 7 does not divide block_size 16" in result.error


def test_every_family_has_its_facts():
    for family in PRESET_FAMILIES:
        assert facts_of(Scheme.preset(family.example)) is not None
    assert set(FACTS) <= set(PRESET_NAMES)


def test_other_block_sizes_share_the_facts_of_their_family():
    assert facts_of(Scheme.preset("etc-8")) == FACTS["etc-16"]
    assert facts_of(Scheme.preset("adaptive-pixel-8")) == FACTS["adaptive-16"]


def test_scheme_of_ones_own_has_no_facts():
    own = Scheme(Scheme.preset("etc-16").steps[:2], "own")
    assert facts_of(own) is None


def words(text: str) -> list[str]:
    return re.sub(r"\x1b\[[\d;]*m", "", text).split()


@pytest.mark.parametrize("columns", [80, 100, 140, 300])
def test_no_line_is_wider_than_the_terminal_or_than_people_read(etc, columns):
    result = etc("schemes", environment={"COLUMNS": str(columns)})
    lines = result.out.splitlines()
    assert max(map(len, lines)) <= min(columns, 100)
    assert not any(line != line.rstrip() for line in lines)
    assert words(result.out) == words(etc("schemes").out)


def test_pipe_gets_80_columns_and_a_terminal_its_own(command, terminal):
    piped = command("schemes", environment={"COLUMNS": ""}).out
    assert 70 < max(map(len, piped.splitlines())) <= 80
    shown = terminal("schemes")
    assert "\x1b[1metc-16 " in shown.out
    width = max(len(re.sub(r"\x1b\[[\d;]*m", "", line)) for line in shown.out.splitlines())
    assert 80 < width <= 100
