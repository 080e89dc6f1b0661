"""Code in a process of its own: its answers, and every way in which it can go wrong."""

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from etc_data.cli.children import ChildError, end_children, run_child


def fails(code: str, **options) -> ChildError:
    with pytest.raises(ChildError) as caught:
        run_child(code, **options)
    return caught.value


def test_only_answers_count():
    code = "import sys; print('noise'); print('noise', file=sys.stderr); answer('é'); answer(2)"
    assert run_child(code) == ["é", "2"]
    assert run_child("pass") == []


def test_error_is_told_in_one_line_with_the_answers_before_it():
    error = fails("answer('first'); print('noise'); raise ImportError('one\\n two\\n\\nthree')")
    assert str(error) == "ImportError: one two three"
    assert error.answers == ["first"]


@pytest.mark.parametrize("name", ["SystemExit", "KeyboardInterrupt"])
def test_exit_of_a_library_is_an_error(name):
    assert str(fails(f"raise {name}('enough')")) == f"{name}: enough"
    assert str(fails("import os; os._exit(3)")) == "it ended with exit code 3"


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_crash_is_told_by_its_signal():
    error = fails("import os, signal; answer('first'); os.kill(os.getpid(), signal.SIGSEGV)")
    assert str(error) == "it crashed: Segmentation fault"
    assert error.answers == ["first"]


def test_hang_ends():
    error = fails("answer('first'); import time; time.sleep(60)", seconds=2)
    assert str(error) == "no answer in 2 s"
    assert error.answers == ["first"]


def test_ended_code_removes_its_temporary_files(tmp_path):
    code = f"""
import tempfile, time
with tempfile.TemporaryDirectory(dir={str(tmp_path)!r}):
    time.sleep(60)
"""
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(fails, code)
        while not any(tmp_path.iterdir()):
            assert not running.done(), running.result()
            time.sleep(0.01)
        end_children()
        assert str(running.result(timeout=30)) == "SystemExit: terminated"
    assert list(tmp_path.iterdir()) == []


def test_what_runs_at_exit_is_not_waited_for():
    assert run_child("import atexit, time; atexit.register(time.sleep, 60); answer('x')") == ["x"]


def test_child_finds_the_modules_that_we_find_and_no_others(tmp_path, monkeypatch):
    (tmp_path / "ours.py").write_text("")
    monkeypatch.chdir(tmp_path)
    assert "No module named 'ours'" in str(fails("import ours"))
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    run_child("import ours, etc_data")
