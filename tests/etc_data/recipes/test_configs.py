"""The configs that come with the library: valid, and each trains for a step."""

from pathlib import Path

import pytest

import etc_data.recipes
from etc_data.errors import SettingsError
from etc_data.recipes.settings import config_names, load_settings
from etc_data.recipes.train import train

FOLDER = Path(etc_data.recipes.__file__).parent / "configs"

# What makes a network small enough for a test; the rest stays as it is.
SMALL = {
    "cifar10-etc": ["model.options={dim: 16, depth: 1, kernel_size: 3}"],
    "cifar10-plain": ["model.options={dim: 16, depth: 1, kernel_size: 3}"],
    "digits": [],
    "orderfree-cifar10": ["model.options={depth: 1}"],
    "orderfree-imagenette": ["model.options={depth: 1}"],
    "vit-finetune": [
        "model.pretrained=false",
        "model.options={embed_dim: 24, depth: 1, num_heads: 2}",
        "precision=no",
    ],
}
# EtC shards that a config names: scheme, key scope, size.
SHARDS = {
    "cifar10-etc": ("etc-8", "dataset", 32),
    "orderfree-imagenette": ("etc-16", "image", 128),
    "vit-finetune": ("etc-16", "dataset", 224),
}


def test_every_config_is_tested():
    assert config_names() == sorted(SMALL)
    assert sorted(path.stem for path in FOLDER.iterdir()) == config_names()


@pytest.mark.parametrize("name", SMALL)
def test_the_head_of_a_config_says_how_to_start_it_and_what_to_expect(name):
    head = "".join(line for line in (FOLDER / f"{name}.yaml").open() if line.startswith("#"))
    assert f"etc-data train {name}" in head
    assert "Expected: " in head
    assert load_settings(name).out == f"runs/{name}"


@pytest.fixture
def source(name, digits, key, tmp_path):
    """A few digits as the config wants them."""
    from etc_data import Cipher, SecretKey
    from etc_data.shards.writer import write_shards
    from etc_data.sources.selection import Selection
    from etc_data.sources.spec import open_source

    if name not in SHARDS:
        return digits
    scheme, scope, size = SHARDS[name]
    few = Selection(open_source(digits), splits=["train", "val"], limit=8)
    write_shards(
        few, tmp_path / "shards", Cipher(scheme, SecretKey.load(key), key_scope=scope), size=size
    )
    return tmp_path / "shards"


@pytest.mark.parametrize("name", SMALL)
def test_a_config_trains_for_a_step(name, source, key, tmp_path):
    changes = [f"out={tmp_path / 'run'}", f"data.source={source}", "data.val=val", "data.workers=0"]
    changes += ["epochs=1", "batch=8", *SMALL[name]]
    if name not in SHARDS:
        changes += ["data.limit=8", "data.val_limit=4"]
    if name == "orderfree-cifar10":
        changes.append(f"data.key={key}")
    assert train(load_settings(name, changes)).parameters > 0


def test_a_config_that_is_not_there_is_named_beside_those_that_are():
    with pytest.raises(SettingsError, match=r"^config 'cifar11' does not exist$") as caught:
        load_settings("cifar11")
    assert "cifar10-etc" in caught.value.hint
