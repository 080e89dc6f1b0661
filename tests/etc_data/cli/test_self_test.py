"""The self-test passes here, and tells which step fails where something is broken."""

import pytest

from etc_data.cli.self_test import run_self_test

STEPS = ["key and cipher", "image files", "tensors", "shards"]


def verdicts() -> dict[str, tuple[str, str]]:
    return {found.name: (found.state, found.detail) for found in run_self_test()}


def test_all_steps_pass_and_leave_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    found = verdicts()
    assert list(found) == STEPS
    assert {state for state, _ in found.values()} == {"pass"}, found
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def broken_torch(tmp_path, monkeypatch):
    def make(content: str) -> None:
        (tmp_path / "torch.py").write_text(content)
        monkeypatch.syspath_prepend(tmp_path)

    return make


def test_step_that_fails_is_told_and_the_others_go_on(broken_torch):
    broken_torch("raise RuntimeError('Numpy is not available')")
    found = verdicts()
    assert found.pop("tensors") == ("fail", "RuntimeError: Numpy is not available")
    assert {state for state, _ in found.values()} == {"pass"}, found


def test_crash_is_blamed_on_the_step_it_came_in(broken_torch):
    broken_torch("import os; os.abort()")
    found = verdicts()
    assert list(found) == STEPS
    assert found["image files"][0] == "pass"
    assert found["tensors"] == ("fail", "it crashed: Aborted")
    assert found["shards"] == ("fail", "it was not reached")
