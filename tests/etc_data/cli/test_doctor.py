"""`etc-data doctor`: the whole report, where all is well and where much is broken."""

import json
import os
import re
import subprocess
import sys
import time

import pytest

SECRET = "wJalrXUtnFEMI/K7MDENG"
SECTIONS = ["needed", "optional", "engines", "machine", "self_test"]


@pytest.fixture
def doctor(tmp_path, child_environment):
    """doctor("--json", ray="raise …") runs the command where packages are replaced by broken ones."""

    def run(*options: str, **modules: str) -> subprocess.CompletedProcess[str]:
        for name, content in modules.items():
            (tmp_path / name).mkdir()
            (tmp_path / name / "__init__.py").write_text(content)
        environment = child_environment({"COLUMNS": "80", "AWS_SECRET_ACCESS_KEY": SECRET})
        environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), environment["PYTHONPATH"]])
        environment.pop("AWS_ACCESS_KEY_ID", None)
        return subprocess.run(
            [sys.executable, "-m", "etc_data", "doctor", *options],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def by_name(report: dict, section: str) -> dict[str, dict[str, str]]:
    return {found["name"]: found for found in report[section]}


def test_optional_parts_may_be_broken_in_any_way(doctor):
    result = doctor(
        "--json",
        ray=f"raise ImportError('token {SECRET} of\\n https://ana:hunter2@example.org')",
        datasets="import os; os.abort()",
        accelerate="import no_such_module",
        sklearn="raise SystemExit('enough')",
    )
    assert (result.returncode, result.stderr) == (0, "")
    report = json.loads(result.stdout)
    assert report["ok"] is True
    assert [key for key in report if isinstance(report[key], list)] == SECTIONS
    assert {found["state"] for found in report["needed"]} == {"ok"}
    assert {found["state"] for found in report["self_test"]} == {"pass"}
    optional = by_name(report, "optional")
    for name, reason in {
        "ray": "ImportError: token … of https://…@example.org",
        "datasets": "it crashed: Aborted",
        "accelerate": "ModuleNotFoundError: No module named 'no_such_module'",
        "scikit-learn": "SystemExit: enough",
    }.items():
        assert optional[name]["state"] == "broken"
        assert optional[name]["detail"].endswith(f"; {reason}")
        assert optional[name]["hint"].startswith(f"pip install --force-reinstall '{name}>=")
    credentials = by_name(report, "machine")["S3 credentials"]
    assert credentials["detail"] == "AWS_SECRET_ACCESS_KEY is set without its other half"
    assert SECRET not in result.stdout


def test_broken_need_is_exit_1_and_the_report_reads_well(doctor):
    result = doctor(torch="raise OSError('libcudart.so.12: cannot open shared object file')")
    assert result.returncode == 1
    error, hint = result.stderr.splitlines()
    assert re.match("etc-data: error: what etc-data needs does not work: torch, .*, tensors$", error)
    assert hint == "etc-data: hint: the report tells why, and how to mend it"
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in result.stdout
    assert lines[0].startswith("etc-data ")
    titles = [line for line in lines[1:] if line and not line.startswith(" ")]
    assert titles == ["Needed", "Optional", "Engines", "Machine", "Self-test"]
    assert re.search(r"^  broken   torch +\S+; OSError: libcudart", result.stdout, re.MULTILINE)
    assert "→ pip install --force-reinstall 'torch>=2.6'\n" in result.stdout
    assert re.search("^  FAIL     tensors ", result.stdout, re.MULTILINE)
    assert re.search("^  PASS     shards ", result.stdout, re.MULTILINE)
    assert SECRET not in result.stdout


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_terminated_examination_leaves_nothing_behind(tmp_path, child_environment):
    started = tmp_path / "started"
    (tmp_path / "torch.py").write_text(
        f"import pathlib, time; pathlib.Path({str(started)!r}).touch(); time.sleep(60)"
    )
    environment = child_environment({"TMPDIR": str(tmp_path / "temporary")})
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), environment["PYTHONPATH"]])
    (tmp_path / "temporary").mkdir()
    command = [sys.executable, "-m", "etc_data", "doctor"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as process:
        while not started.exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.terminate()
        assert process.communicate(timeout=30)[1].startswith(b"etc-data: error: terminated\n")
    assert process.returncode == 143
    assert list((tmp_path / "temporary").iterdir()) == []
