"""The packages of etc-data: the table agrees with pyproject.toml, and each state is found out."""

import re
import sys
import tomllib
from pathlib import Path

import pytest

from etc_data.cli.parts import NEEDED, OPTIONAL, Part, examine

ROOT = Path(__file__).resolve().parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = {
    name: requirements
    for name, requirements in PROJECT["optional-dependencies"].items()
    if name not in ("all", "dev")
}


def minimums(requirements: list[str]) -> dict[str, str]:
    return dict(
        re.fullmatch(r"([\w-]+)(?:\[\w+\])?>=([\d.]+)", entry).groups()
        for entry in requirements
        if not entry.startswith("etc-data[")  # another extra
    )


def test_needed_parts_are_the_dependencies():
    assert {part.name: part.minimum for part in NEEDED} == minimums(PROJECT["dependencies"])
    assert not any(part.extra or part.purpose for part in NEEDED)


def test_optional_parts_are_those_of_the_extras():
    wanted = {}
    for requirements in EXTRAS.values():
        wanted |= minimums(requirements)
    assert {part.name: part.minimum for part in OPTIONAL} == wanted
    for part in OPTIONAL:
        assert part.purpose
        assert part.name in minimums(EXTRAS[part.extra])


@pytest.fixture
def package(tmp_path, monkeypatch):
    """package(content, version) puts a package called `fake_part` where Python finds it."""

    def make(content: str, version: str | None = "2.1") -> None:
        (tmp_path / "fake_part").mkdir()
        (tmp_path / "fake_part" / "__init__.py").write_text(content)
        if version is not None:
            (tmp_path / "fake_part-2.1.dist-info").mkdir()
            metadata = f"Metadata-Version: 2.1\nName: fake-part\nVersion: {version}\n"
            (tmp_path / "fake_part-2.1.dist-info" / "METADATA").write_text(metadata)

    monkeypatch.syspath_prepend(tmp_path)
    yield make
    assert "fake_part" not in sys.modules


PART = Part("fake-part", "fake_part", "2", "does nothing", "fake")


def test_missing_part_tells_what_it_is_for_and_how_to_get_it():
    found = examine(PART)
    assert (found.state, found.detail) == ("missing", "does nothing")
    assert found.hint == "pip install 'etc-data[fake]'"
    assert examine(Part("fake-part", "fake_part", "2")).hint == "pip install 'fake-part>=2'"


def test_folder_that_happens_to_have_the_name_is_no_package(tmp_path, monkeypatch):
    (tmp_path / "fake_part").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert examine(PART).state == "missing"


@pytest.mark.parametrize("version", ["2", "2.0.0", "2.10rc1", "12.1.1.post0", "2.13.0+cpu"])
def test_part_that_works_tells_its_version(package, version):
    package("print('noise')", version)
    found = examine(PART)
    assert (found.state, found.detail, found.hint) == ("ok", f"{version}; does nothing", "")


@pytest.mark.parametrize("version", ["1", "1.99.9", "0.3+cpu9"])
def test_part_that_is_too_old_is_broken(package, version):
    package("", version)
    found = examine(PART)
    assert (found.state, found.detail) == ("broken", f"{version} is older than 2")
    assert found.hint == "pip install 'etc-data[fake]'"


def test_part_without_metadata_is_tried_all_the_same(package):
    package("", None)
    assert examine(PART).detail == "of unknown version; does nothing"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise OSError('libx.so:\\n no such file')", "OSError: libx.so: no such file"),
        ("raise SystemExit", "SystemExit:"),
        ("syntax error", "SyntaxError: invalid syntax (__init__.py, line 1)"),
        ("import os; os.abort()", "it crashed: Aborted"),
    ],
)
def test_part_that_cannot_be_imported_is_broken_and_harms_nobody(package, content, reason):
    package(content)
    found = examine(PART)
    assert (found.state, found.detail) == ("broken", f"2.1; {reason}")
    assert found.hint == "pip install --force-reinstall 'fake-part>=2'"


def test_answer_of_the_probe_is_told(package):
    package("value = 7")
    probe = "import fake_part; answer(f'value {fake_part.value}')"
    found = examine(Part("fake-part", "fake_part", "2", "does nothing", "fake", probe))
    assert found.detail == "2.1; value 7; does nothing"
