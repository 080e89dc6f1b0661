"""Findings: how they look, and that they hold no secret."""

import re

import pytest

from etc_data.cli.findings import Finding, public


def test_finding_is_a_line_and_its_hint_below(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    Finding("s3fs", "missing", "streams shards from s3:// and back", "pip install 's3'").show()
    assert capsys.readouterr().out.splitlines() == [
        "  missing  s3fs            streams shards from s3:// and",
        "                           back",
        "                           → pip install 's3'",
    ]


@pytest.mark.parametrize(
    ("state", "failed"),
    [("ok", 0), ("pass", 0), ("warning", 0), ("missing", 1), ("broken", 1), ("fail", 1)],
)
def test_states(state, failed, capsys):
    finding = Finding("x", state, "y")
    assert finding.failed == bool(failed)
    finding.show()
    shown = capsys.readouterr().out.split()[0]
    assert shown == (state.upper() if state in ("pass", "fail") else state)


SECRET = "wJalrXUtnFEMI/K7MDENG"


@pytest.mark.parametrize(
    "variable",
    ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "HF_TOKEN", "ETC_DATA_PASSPHRASE", "https_proxy"],
)
def test_values_of_secret_variables_are_hidden(monkeypatch, variable):
    monkeypatch.setenv(variable, SECRET)
    assert public(f"no {SECRET}, no") == "no …, no"
    finding = Finding("x", "broken", f"a\n{SECRET}", f"b {SECRET}")
    assert finding.to_dict() == {"name": "x", "state": "broken", "detail": "a …", "hint": "b …"}


def test_other_values_and_short_ones_stay(monkeypatch):
    monkeypatch.setenv("TMPDIR", "/scratch/ana")
    monkeypatch.setenv("HF_TOKEN", "1")
    monkeypatch.setenv("API_TOKEN", "")
    assert public("1 GiB at /scratch/ana") == "1 GiB at /scratch/ana"


def test_keys_and_users_of_urls_are_hidden_and_control_characters_shown(key_line):
    assert key_line.rpartition("-")[2][:12] not in public(f"no {key_line}")
    assert public("s3://ana:hunter2@bucket/x") == "s3://…@bucket/x"
    assert not re.search(r"[\x00-\x1f]", public("a\x1b[2J\r\nb"))
