import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from etc_data.errors import SettingsError
from etc_data.recipes.protection import Point, draw_protection, main, read_points

pytest.importorskip("matplotlib")

POINTS = [
    Point("digits, 32 px", "plain", 0.95, 1.0, 1.0),
    Point("digits, 32 px", "etc-8, one key", 0.9, 0.1, 1.0),
    Point("letters, 64 px", "etc-8, a key per image", 0.8, 0.1, 0.0),
]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "points.json"
    path.write_text(json.dumps([dataclasses.asdict(point) for point in POINTS]))
    return path


def test_points_survive_their_file(file):
    assert read_points(file) == POINTS


def test_the_command_draws_what_the_function_draws(file, tmp_path):
    main([str(file), str(tmp_path / "one.png")])
    draw_protection(POINTS, tmp_path / "two.png")
    pictures = [np.asarray(Image.open(tmp_path / name)) for name in ("one.png", "two.png")]
    assert np.array_equal(*pictures)
    draw_protection(POINTS[:2], tmp_path / "less.png")  # one data set, half as wide
    assert Image.open(tmp_path / "less.png").width < 0.6 * pictures[0].shape[1]


def test_a_moved_point_moves_in_the_picture(tmp_path):
    for name, accuracy in (("low", 0.2), ("high", 0.8)):
        draw_protection([Point("x", "y", accuracy, 0.5, 0.5), *POINTS[:1]], tmp_path / f"{name}.png")
    low, high = (np.asarray(Image.open(tmp_path / f"{name}.png")) for name in ("low", "high"))
    assert not np.array_equal(low, high)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("[{}]", "holds no points"),
        ("nothing", "holds no points"),
        (
            '[{"data": "a", "label": "b", "accuracy": 2, "joins_of_one": 0, "joins_of_many": 0}]',
            "accuracy of b is 2",
        ),
        (
            '[{"data": "a", "label": "b", "accuracy": "1", "joins_of_one": 0, "joins_of_many": 0}]',
            "is '1'",
        ),
    ],
)
def test_other_files_are_refused(tmp_path, text, match):
    path = tmp_path / "points.json"
    path.write_text(text)
    with pytest.raises(SettingsError, match=match):
        read_points(path)
    with pytest.raises(SettingsError, match=r"holds no points: .*No such file"):
        read_points(tmp_path / "none.json")
