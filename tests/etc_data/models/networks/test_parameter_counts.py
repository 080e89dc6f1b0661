"""The papers' formulas, and the figure drawn with them."""

import sys

import pytest
from PIL import Image

from etc_data.errors import EtcError
from etc_data.models.parameter_counts import (
    adaptive_convmixer_parameters,
    draw_parameter_figure,
    ele_parameters,
    figure_counts,
)


def test_equation_2_is_the_figure_of_the_adaptation_network():
    assert ele_parameters(256, 4, 32, classifier_parameters=0) == 823_296
    assert round(ele_parameters(256, 4, 32) / 1e6, 2) == 29.31


def test_equation_4_adds_the_square_of_the_patches():
    assert adaptive_convmixer_parameters(512, 16, 9, 16, 10, image_size=224) == 5_306_890 + 196**2


def test_the_figure_tells_what_the_paper_says():
    counts = figure_counts()
    different, same, ours = counts.values()
    assert list(counts)[:2] == ["ELE_different", "ELE_same"]
    assert different[0] == same[0]
    assert all(more > less for more, less in zip(different[1:], same[1:], strict=True))
    assert different[-1] > 20 * different[0]
    assert ours[-1] == 5_345_306
    assert max(ours) < 1.1 * min(ours)


def test_the_figure_is_a_png(tmp_path):
    pytest.importorskip("matplotlib")
    draw_parameter_figure(tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as figure:
        assert figure.format == "PNG"
        assert figure.size == (1400, 800)
        assert len(figure.convert("RGB").getcolors(100_000)) > 50


def test_without_matplotlib_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(EtcError, match="needs matplotlib") as caught:
        draw_parameter_figure(tmp_path / "figure.png")
    assert caught.value.hint == "pip install 'etc-data[audit]'"
    assert not list(tmp_path.iterdir())
