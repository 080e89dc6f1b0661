"""The command as a whole: help, the form of errors, --debug, warnings, interruption."""

import re

import pytest

import etc_data
import etc_data.cli.verify
from etc_data.cli.main import cli
from etc_data.errors import EtcError

COMMANDS = sorted(cli.commands)


def test_version_goes_to_standard_output(command):
    result = command("--version")
    assert (result.code, result.out, result.err) == (0, f"etc-data {etc_data.__version__}\n", "")


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_lists_every_command_and_begins_with_examples(etc, flag):
    result = etc(flag)
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("Usage: etc-data [OPTIONS] COMMAND")
    assert "Examples:\n    etc-data keygen clinic.key\n" in result.out
    assert all(re.search(rf"^  {name} ", result.out, re.MULTILINE) for name in COMMANDS)


@pytest.mark.parametrize("arguments", [[], ["--debug"]])
def test_bare_command_shows_help_as_an_error_of_usage(etc, arguments):
    result = etc(*arguments)
    assert (result.code, result.out) == (2, "")
    assert result.err == etc("-h").out


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_each_command_has_examples_and_tells_of_every_option(etc, name):
    result = etc(name, "-h")
    assert (result.code, result.err) == (0, "")
    assert result.out == etc(name, "--help").out
    assert re.search(rf"^  Examples?:\n    etc-data {name}\b", result.out, re.MULTILINE)
    for parameter in cli.commands[name].params:
        assert parameter.opts[0].startswith("-") <= (parameter.opts[0] in result.out)


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_in_the_help_use_options_that_exist(etc, name):
    examples = re.findall(r"^    .*etc-data (\S+) (.*)$", etc(name, "-h").out, re.MULTILINE)
    assert examples
    for used, rest in examples:
        options = {option for parameter in cli.commands[used].params for option in parameter.opts}
        assert set(re.findall(r"(?<!\S)--?[a-z][a-z-]*", rest)) <= options


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["fly"], "no such command 'fly'", "etc-data --help shows the options"),
        (["--bogus"], "no such option", "etc-data --help shows the options"),
        (["verify", "--bogus"], "no such option", "etc-data verify --help shows the options"),
        (["keygen"], "missing argument 'KEY'", "etc-data keygen --help shows the options"),
        (["keygen", "a", "b"], "got unexpected extra argument", "etc-data keygen --help"),
        (["keygen", "k", "--passphrase=x"], "does not take a value", "etc-data keygen --help"),
        (["preview", "."], "missing option '-o'", "etc-data preview --help"),
        (["verify", "nowhere"], "directory 'nowhere' does not exist", "etc-data verify --help"),
        (["decrypt", "nowhere", "x"], "path 'nowhere' does not exist", "etc-data decrypt --help"),
        (["encrypt", ".", "x", "--key"], "requires an argument", "etc-data encrypt --help"),
        (["encrypt", ".", "x", "--workers", "0"], "0 is not in the range x>=1", "etc-data encrypt"),
        (["encrypt", ".", "x", "--quality", "101"], "not in the range 1<=x<=100", "etc-data encrypt"),
        (["encrypt", ".", "x", "--fit", "trim"], "'trim' is not one of", "etc-data encrypt"),
        (["encrypt", ".", "x", "--size", "0"], "'0' is no size; give pixels", "etc-data encrypt"),
        (["encrypt", ".", "x", "--key-scope", "all"], "'all' is not one of", "etc-data encrypt"),
    ],
)
def test_wrong_usage_is_one_line_and_a_hint(etc, tmp_path, monkeypatch, arguments, message, hint):
    monkeypatch.chdir(tmp_path)
    result = etc(*arguments)
    assert (result.code, result.out) == (2, "")
    assert message in result.error
    assert result.hint.startswith(hint)
    assert len(result.err.splitlines()) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--loseless", "--lossles", "--formt", "--keys"])
@pytest.mark.parametrize("name", ["encrypt", "decrypt"])
def test_misspelled_option_may_bring_a_suggestion_in_the_hint(etc, name, option):
    result = etc(name, option)
    assert re.fullmatch(f"no such option:? '?{option}'?", result.error)
    assert re.fullmatch(rf"(did you mean .*--[a-z-]+'?; )?etc-data {name} --help .*", result.hint)


def test_suggestion_names_the_option_that_was_meant(etc):
    assert "did you mean" in etc("encrypt", "--loseless").hint
    assert "--lossless" in etc("encrypt", "--loseless").hint


def test_real_command_tells_wrong_usage_the_same_way(command):
    result = command("verify", "--bogus")
    assert (result.code, result.out) == (2, "")
    assert result.error.startswith("no such option")


def test_failure_is_one_line_and_exit_1(command, tmp_path):
    result = command("verify", tmp_path)
    assert (result.code, result.out) == (1, "")
    assert result.error == f"{tmp_path} is no finished data set: it has no manifest.json"
    assert result.hint == "the manifest is written last; encrypt again with --resume"


@pytest.mark.parametrize("place", [0, 1, 2])
def test_debug_shows_the_traceback_wherever_it_stands(command, tmp_path, place):
    arguments = ["verify", tmp_path]
    arguments.insert(place, "--debug")
    result = command(*arguments)
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("Traceback (most recent call last):\n")
    assert result.err.count("Traceback") == 1
    assert "\netc_data.errors.ManifestError: " in result.err
    lines = result.err.splitlines()[-2:]
    assert lines[0].startswith("etc-data: error: ")
    assert lines[1].startswith("etc-data: hint: ")


def test_debug_changes_nothing_where_nothing_fails(etc):
    assert etc("schemes", "etc-16", "--json", "--debug") == etc("schemes", "etc-16", "--json")


def test_after_two_dashes_debug_is_a_name(etc, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = etc("verify", "--", "--debug")
    assert result.error == "invalid value for 'OUT': directory '--debug' does not exist"


def failing(monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(etc_data.cli.verify, "verify_shards", fail)


def test_system_error_is_told_with_its_file(etc, written, monkeypatch):
    failing(monkeypatch, PermissionError(13, "Permission denied", "/somewhere/file"))
    result = etc("verify", written)
    assert (result.code, result.error) == (1, "/somewhere/file: Permission denied")


def test_unexpected_error_shows_no_traceback_but_the_way_to_it(etc, written, monkeypatch):
    failing(monkeypatch, RuntimeError("it broke\nin two lines"))
    result = etc("verify", written)
    assert (result.code, result.out) == (1, "")
    assert result.err == (
        "etc-data: error: internal error: RuntimeError: it broke in two lines\n"
        "etc-data: hint: --debug shows where\n"
    )
    assert "in fail" in etc("--debug", "verify", written).err


def test_error_cannot_play_tricks_on_the_terminal(etc, written, monkeypatch):
    failing(monkeypatch, EtcError("evil\x1b[2J\x07", "worse\x9b1m"))
    result = etc("verify", written)
    assert result.err == (
        "etc-data: error: evil\\x1b[2J\\x07\netc-data: hint: worse\\x9b1m\n"  # nothing else
    )


@pytest.mark.parametrize("debug", [False, True])
def test_interruption_exits_130_without_traceback(etc, written, monkeypatch, debug):
    failing(monkeypatch, KeyboardInterrupt())
    result = etc(*["--debug"] * debug, "verify", written)
    assert (result.code, result.out) == (130, "")
    assert result.error == "interrupted"
    assert result.hint == "no half-written file is left behind"


@pytest.mark.parametrize("debug", [[], ["--debug"]])
@pytest.mark.parametrize(
    "arguments",
    [
        ["{line}"],
        ["--{line}"],
        ["keygen", "{line}"],
        ["keygen", "k", "{line}"],
        ["keygen", "--passphrase={line}"],
        ["verify", "{line}"],
        ["verify", "{data}", "--key", "{line}"],
        ["verify", "{data}", "--key={line}"],
        ["inspect", "{line}"],
        ["schemes", "{line}"],
        ["preview", "{photo}", "--key", "{line}", "-o", "{line}"],
        ["encrypt", "{line}", "-o", "q.png", "--key", "{key}"],
        ["encrypt", "{photo}", "-o", "q.png", "--key", "{line}"],
        ["encrypt", "{photo}", "-o", "{line}", "--key", "{key}"],
        ["encrypt", "{photo}", "-o", "q.png", "--key", "{key}", "--scheme", "{line}"],
        ["encrypt", "{photo}", "-o", "q.png", "--key", "{key}", "--key-scope", "{line}"],
        ["encrypt", "{photo}", "-o", "q.png", "--key", "{key}", "--size", "{line}"],
        ["decrypt", "{line}", "x", "--key", "{key}"],
        ["decrypt", "{data}", "x", "--key", "./{line}"],
        ["decrypt", "{data}", "x", "--passphrase", "--key", "{line}"],
    ],
)
def test_key_given_as_an_argument_is_refused_and_never_shown(
    etc, tmp_path, monkeypatch, photo, written, key, key_line, arguments, debug
):
    monkeypatch.chdir(tmp_path)
    values = {"line": key_line, "photo": photo, "data": written, "key": key}
    result = etc(*debug, *[argument.format_map(values) for argument in arguments])
    assert result.code in (1, 2)
    assert "etc-data: error: " in result.err
    secret = key_line.rpartition("-")[2]
    shown = result.out + result.err
    assert not any(secret[start : start + 12].lower() in shown.lower() for start in range(0, 48, 4))
    assert list(tmp_path.iterdir()) == []


def test_refused_key_argument_tells_what_to_give(etc, written, key_line):
    result = etc("verify", written, "--key", key_line)
    assert result.code == 2
    assert "this is a key, not the name of a key file" in result.error
