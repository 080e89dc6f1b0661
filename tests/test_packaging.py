"""The list of packages, the two links and the wheel agree on what is installed where."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import etc_data

ROOT = Path(__file__).resolve().parent.parent
LINKED = ("models", "recipes")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
SETUPTOOLS = PYPROJECT["tool"]["setuptools"]


def packages_on_disk() -> set[str]:
    found = set()
    for folder, _, names in os.walk(ROOT / "etc_data", followlinks=True):
        if "__init__.py" in names:
            found.add(".".join(Path(folder).relative_to(ROOT).parts))
    return found


def test_package_and_metadata_tell_the_same_version():
    assert etc_data.__version__ == PYPROJECT["project"]["version"]


def test_listed_packages_are_the_folders():
    listed = SETUPTOOLS["packages"]
    assert len(listed) == len(set(listed))
    assert set(listed) == packages_on_disk()


@pytest.mark.parametrize("room", LINKED)
def test_room_is_linked_into_the_package(room):
    link = ROOT / "etc_data" / room
    assert link.is_symlink()
    assert link.readlink() == Path("..", room)
    assert (ROOT / room / "__init__.py").is_file()


def test_only_the_linked_rooms_install_from_elsewhere():
    assert SETUPTOOLS["package-dir"] == {f"etc_data.{room}": room for room in LINKED}


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory):
    checkout = tmp_path_factory.mktemp("checkout")
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        if (ROOT / name).exists():
            shutil.copy2(ROOT / name, checkout)
    for name in ("etc_data", *LINKED):
        shutil.copytree(
            ROOT / name,
            checkout / name,
            symlinks=True,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "wheels"]
    built = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = (checkout / "wheels").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_wheel_holds_every_module(wheel_names):
    sources = {
        str(path.relative_to(ROOT))
        for package in packages_on_disk()
        for path in ROOT.joinpath(*package.split(".")).glob("*.py")
    }
    assert {"etc_data/models/__init__.py", "etc_data/recipes/__init__.py"} <= sources
    assert {name for name in wheel_names if name.endswith(".py")} == sources


def test_wheel_holds_nothing_outside_the_package(wheel_names):
    metadata = f"etc_data-{PYPROJECT['project']['version']}.dist-info"
    assert {name.split("/")[0] for name in wheel_names} == {"etc_data", metadata}


def test_wheel_is_marked_as_typed(wheel_names):
    assert "etc_data/py.typed" in wheel_names
