import dataclasses

import pytest
import yaml

from etc_data.errors import SettingsError
from etc_data.recipes.settings import Settings, load_settings, settings_from_dict

LEAST = {"data": {"source": "photos"}}


def refused(values: dict, match: str) -> SettingsError:
    with pytest.raises(SettingsError, match=match) as caught:
        settings_from_dict(LEAST | values)
    assert "\n" not in str(caught.value)
    return caught.value


def test_what_is_not_given_has_its_default():
    assert settings_from_dict(LEAST).epochs == Settings(data=settings_from_dict(LEAST).data).epochs


def test_settings_survive_yaml(tmp_path):
    settings = settings_from_dict(LEAST | {"precision": "bf16", "model": {"options": {"dim": 3}}})
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump(settings.to_dict()))
    assert load_settings(path) == settings


def test_all_unknown_settings_are_named_with_the_known_ones():
    error = refused(
        {"optimizer": {"lrr": 1, "speed": 2}}, "^optimizer.lrr, optimizer.speed are no settings$"
    )
    assert error.hint.startswith("did you mean optimizer.lr? known are optimizer.name, optimizer.lr,")
    refused({"epoch": 1}, "^epoch is no setting$")


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"epochs": "ten"}, "^epochs is 'ten'; it must be a whole number$"),
        ({"epochs": 1.5}, "^epochs is 1.5; it must be a whole number$"),
        ({"epochs": True}, "^epochs is True; it must be a whole number$"),
        ({"epochs": None}, "^epochs is None"),
        ({"epochs": 0}, "^epochs is 0; it must be at least 1"),
        ({"seed": -1}, "^seed is -1"),
        ({"ema": 1.0}, "^ema is 1.0; it must be from 0 to below 1$"),
        ({"ema": float("nan")}, "^ema is nan"),
        ({"precision": "int8"}, "^precision is 'int8'; it must be one of no, bf16, fp16$"),
        ({"out": ["a"]}, "^out is .*; it must be a text$"),
        ({"optimizer": 3}, "^optimizer is 3; it must hold settings$"),
        ({"optimizer": {"lr": "fast"}}, "^optimizer.lr is 'fast'; it must be a number$"),
        ({"optimizer": {"lr": float("nan")}}, "^optimizer.lr is nan"),
        ({"optimizer": {"lr": float("inf")}}, "^optimizer.lr is inf; .* finite$"),
        ({"optimizer": {"clip": -1}}, "^optimizer.clip is -1"),
        ({"optimizer": {"momentum": 1}}, "^optimizer.momentum is 1"),
        ({"augment": {"grid": 0}}, "^augment.grid is 0; it must be at least 1"),
        ({"augment": {"flip": "yes"}}, "^augment.flip is 'yes'; it must be true or false$"),
        ({"augment": {"smoothing": 1}}, "^augment.smoothing is 1"),
        ({"model": {"options": [1]}}, "^model.options is .*; it must be names with values$"),
        ({"data": {"source": "x", "mean": 0.5}}, "^data.mean is 0.5; it must be a list$"),
        ({"data": {"source": "x", "mean": [0.5]}}, "^data.mean is .*three finite numbers$"),
        ({"data": {"source": "x", "mean": ["a"]}}, "^data.mean is 'a'; it must be a number$"),
        ({"data": {"source": "x", "std": [1, 1, 0]}}, "^data.std is .*; it must be positive$"),
        ({"data": {"source": "x", "limit": 0}}, "^data.limit is 0"),
        ({"data": {"source": "x", "key_scope": "photo"}}, "one of dataset, image$"),
        ({"data": {}}, "^data.source is missing$"),
    ],
)
def test_a_wrong_value_is_refused(values, match):
    refused(values, match)


def test_yaml_reads_small_numbers_as_texts_and_no_as_false():
    values = yaml.safe_load(
        "{optimizer: {lr: 1e-3}, precision: no, out: 7, data: {source: x, std: [1, 1, 2]}}"
    )
    settings = settings_from_dict(values)
    assert settings.optimizer.lr == 1e-3
    assert settings.precision == "no"
    assert settings.out == "7"
    assert settings.data.std == [1.0, 1.0, 2.0]


def test_a_file_builds_on_its_base_and_changes_come_last(tmp_path):
    (tmp_path / "bases").mkdir()
    (tmp_path / "bases" / "one.yaml").write_text(
        "{epochs: 3, batch: 7, data: {source: x, size: 8}, model: {options: {dim: 1, depth: 2}}}"
    )
    (tmp_path / "two.yaml").write_text(
        "{base: bases/one.yaml, epochs: 4, data: {size: 16}, model: {options: {dim: 5}}}"
    )
    settings = load_settings(
        tmp_path / "two.yaml",
        ["batch=9", "model.options.depth=1", "data.scheme=etc-8", "data.limit=null"],
    )
    assert (settings.epochs, settings.batch, settings.data.source, settings.data.size) == (
        4,
        9,
        "x",
        16,
    )
    assert settings.model.options == {"dim": 5, "depth": 1}  # replaced as a whole by the file
    assert settings.data.scheme == "etc-8"
    assert settings.data.limit is None


@pytest.mark.parametrize(
    ("text", "changes", "match"),
    [
        ("{epochs: 3", (), "is no YAML: "),
        ("[1]", (), "holds no settings but list$"),
        ("epochs: 3", ("epochs",), "^'epochs' changes nothing; write it as name=value$"),
        ("epochs: 3", ("epochs.x=1",), "epochs has no parts$"),
        ("epochs: 3", ("epochs=[",), "has no value that YAML knows$"),
        ("base: self.yaml", (), "has itself as a base$"),
        ("base: other.yaml", (), "other.yaml cannot be read: No such file"),
    ],
)
def test_a_file_or_change_that_cannot_be_read_is_refused(tmp_path, text, changes, match):
    path = tmp_path / "self.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=match) as caught:
        load_settings(path, changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("part", ["", "model", "data", "augment", "optimizer"])
def test_every_setting_is_explained(part):
    section = getattr(settings_from_dict(LEAST), part) if part else settings_from_dict(LEAST)
    for field in dataclasses.fields(section):
        if not dataclasses.is_dataclass(getattr(section, field.name)):
            assert f"\n        {field.name}: " in type(section).__doc__
