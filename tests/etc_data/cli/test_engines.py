"""Which engines are at work."""

import PIL
import pytest
from PIL import features

from etc_data.cli.engines import describe_turbo, find_cuda, find_jpeg, find_pillow
from etc_data.cli.findings import Finding
from etc_data.codecs import available_engines


def test_pillow_and_its_libraries_are_told():
    found = find_pillow()
    assert PIL.__version__ in found.detail
    if features.check("libjpeg_turbo"):
        assert f"libjpeg-turbo {features.version('libjpeg_turbo')}" in found.detail
        assert found.state == "ok"


def test_pillow_simd_is_known_by_its_version(monkeypatch):
    monkeypatch.setattr(PIL, "__version__", "12.1.1.post0")
    found = find_pillow()
    assert found.detail.startswith("pillow-simd 12.1.1.post0, ")
    assert found.hint == ""


def test_library_of_turbojpeg_is_told_with_its_version():
    if "turbo" not in available_engines():
        pytest.skip("no PyTurboJPEG")
    told = describe_turbo()
    assert told.startswith("libjpeg-turbo ")
    if "(" in told:  # on Linux
        assert told.split()[1][0].isdigit()
        assert "libturbojpeg.so" in told


def test_jpeg_engine_follows_turbojpeg():
    assert find_jpeg(Finding("PyTurboJPEG", "ok", "")).detail.startswith("PyTurboJPEG")
    assert find_jpeg(Finding("PyTurboJPEG", "broken", "")).detail == "Pillow"


def fake_torch(tmp_path, monkeypatch, content: str) -> None:
    (tmp_path / "torch.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)


TORCH = """
import types, warnings
__version__ = "9.0"
version = types.SimpleNamespace(cuda={version!r})
def is_available():
    if {warning!r}: warnings.warn({warning!r})
    return {cards} > 0
cuda = types.SimpleNamespace(
    is_available=is_available,
    device_count=lambda: {cards},
    get_device_properties=lambda n: types.SimpleNamespace(name=f"Card {{n}}", total_memory=2**33),
)
"""


@pytest.mark.parametrize(
    ("version", "cards", "warning", "state", "detail"),
    [
        (None, 0, "", "missing", "torch 9.0 is built without it"),
        ("12.8", 0, "", "missing", "torch is built for CUDA 12.8 and finds no card"),
        (
            "12.8",
            0,
            "driver too old",
            "warning",
            "torch is built for CUDA 12.8 and finds no card; driver",
        ),
        ("12.8", 2, "", "ok", "CUDA 12.8; Card 0, 8.0 GiB; Card 1, 8.0 GiB"),
    ],
)
def test_cards_are_told(tmp_path, monkeypatch, version, cards, warning, state, detail):
    # No machine of the tests has all of these cards and drivers.
    fake_torch(tmp_path, monkeypatch, TORCH.format(version=version, cards=cards, warning=warning))
    found = find_cuda()
    assert found.state == state
    assert found.detail.startswith(detail)
    assert bool(found.hint) == (state != "ok")


def test_broken_torch_is_no_crash(tmp_path, monkeypatch):
    fake_torch(tmp_path, monkeypatch, "raise OSError('libcudart.so.12: cannot open')")
    found = find_cuda()
    assert (found.state, found.detail) == ("broken", "OSError: libcudart.so.12: cannot open")
