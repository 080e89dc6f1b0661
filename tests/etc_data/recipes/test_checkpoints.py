import pytest
import torch
from torch import nn

from etc_data.errors import ManifestError, SettingsError
from etc_data.recipes.checkpoints import (
    STATE_NAME,
    load_state,
    load_weights,
    save_state,
    save_weights,
)


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4))


def test_weights_come_back_with_their_facts(tmp_path):
    model, facts = network(), {"model": "x", "size": [32, 32], "encryption": None}
    save_weights(model, tmp_path / "w.safetensors", facts)
    tensors, told = load_weights(tmp_path / "w.safetensors")
    assert told == facts
    assert tensors.keys() == model.state_dict().keys()
    assert all(torch.equal(tensors[name], value) for name, value in model.state_dict().items())


def test_the_same_weights_give_the_same_bytes(tmp_path):
    files = [tmp_path / f"{number}.safetensors" for number in range(8)]
    for file in files:
        save_weights(network(), file, {"model": "x"})
    assert len({file.read_bytes() for file in files}) == 1


@pytest.mark.parametrize("harm", ["missing", "cut", "other"])
def test_other_files_are_no_weights(tmp_path, harm):
    path = tmp_path / "w.safetensors"
    if harm != "missing":
        save_weights(network(), path, {"model": "x"})
        path.write_bytes(path.read_bytes()[:50] if harm == "cut" else b"hello")
    with pytest.raises(ManifestError, match=r"w.safetensors (does not exist|is no model of a recipe)"):
        load_weights(path)


def test_a_state_comes_back_and_no_state_is_none(tmp_path):
    assert load_state(tmp_path) is None
    save_state(tmp_path, {"epoch": 1, "model": network().state_dict()})
    save_state(tmp_path, {"epoch": 2, "model": network().state_dict()})
    state = load_state(tmp_path)
    assert state is not None
    assert state["epoch"] == 2
    assert [path.name for path in tmp_path.iterdir()] == [STATE_NAME]


def test_a_state_that_is_killed_while_written_leaves_the_one_before(tmp_path):
    save_state(tmp_path, {"epoch": 1})

    class Broken:
        def __reduce__(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_state(tmp_path, {"epoch": 2, "broken": Broken()})
    state = load_state(tmp_path)
    assert state is not None
    assert state["epoch"] == 1


@pytest.mark.parametrize("harm", ["cut", "other", "pickle"])
def test_a_damaged_state_is_refused(tmp_path, harm):
    path = tmp_path / STATE_NAME
    save_state(tmp_path, {"epoch": 1})
    if harm == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    else:
        torch.save([1] if harm == "other" else {"x": tmp_path}, path)
    with pytest.raises(SettingsError, match=r"is damaged|is no state"):
        load_state(tmp_path)
