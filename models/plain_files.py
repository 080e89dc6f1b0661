"""Plain models from `etc-data train`, from timm's checkpoints and from its folders for Hugging Face."""

import json
from pathlib import Path
from typing import Any

import etc_data.torchvision_cpu  # noqa: F401

# isort: split
import timm
import torch
from timm.models import load_state_dict
from torch import nn

from etc_data.errors import ModelError
from etc_data.models.encrypted_files import PREFIX, write_tensors
from etc_data.models.foreign_errors import reason_of
from etc_data.models.named_networks import make_network
from etc_data.models.trained_facts import TrainedFacts

CONFIG_NAME = "config.json"
WEIGHTS_NAMES = ("model.safetensors", "pytorch_model.bin")

_ALONE = (
    "safetensors.torch.save_file(model.state_dict(), …) writes weights alone, which are safe to read"
)


def load_plain_model(
    path: str | Path, name: str | None = None, image_size: tuple[int, int] | None = None
) -> nn.Module:
    """Returns the model of a checkpoint; nothing is unpickled but tensors.

    Args:
        path: weights that `etc-data train` wrote, which tell their network; a folder with config.json,
            as timm's `save_for_hf` writes it, which does so too; or a checkpoint of timm: .safetensors,
            or .pth and the like.
        name: of the architecture in timm; only where the files do not tell it.
        image_size: (height, width) in pixels, for a checkpoint of a model with fixed input size that
            was made for another size than timm's.

    Raises:
        ModelError: the files cannot be read, or do not fit the architecture, or are of a model that
            was trained on encrypted images.
    """
    path = Path(path)
    if path.is_dir():
        return _load_folder(path, name)
    state = _read(path)
    facts = TrainedFacts.read(path)
    model = _by_name(path, name, image_size, state) if facts is None else _by_facts(path, facts, name)
    return _with_weights(model, state, path)


def save_plain_model(model: nn.Module, path: str | Path) -> None:
    """Writes a model's weights to a safetensors file that timm loads, whole or not at all.

    Raises:
        EtcError: it cannot be written.
    """
    write_tensors(model.state_dict(), path, ("format", "pt"))


def _by_facts(path: Path, facts: TrainedFacts, name: str | None) -> Any:
    """Returns the network that `etc-data train` noted in the file, without the weights."""
    if name not in (None, facts.name):
        raise ModelError(f"{path} is of a {facts.name}; name no other architecture")
    if facts.scheme is not None:
        raise ModelError(
            f"{path} was trained on images of scheme {facts.scheme}, and takes such images as it is",
            "only a model that was trained on plain images can be encrypted",
        )
    configuration = {
        "input_size": (3, *facts.image_size),
        "mean": facts.normalization.mean,
        "std": facts.normalization.std,
    }
    arguments = {"num_classes": facts.classes, **facts.options}
    return make_network(path, facts.name, arguments, configuration)


def _by_name(
    path: Path, name: str | None, image_size: tuple[int, int] | None, state: dict[str, torch.Tensor]
) -> Any:
    """Returns timm's network of a name, as large as the weights ask for."""
    if name is None:
        raise ModelError(
            f"{path} does not tell its architecture",
            "give its name in timm, such as vit_tiny_patch16_224",
        )
    if not timm.is_model(name):
        raise ModelError(f"timm has no architecture {name!r}", "timm.list_models() lists them")
    options: dict[str, Any] = {}
    config = timm.get_pretrained_cfg(name)
    classifier = None if config is None else config.classifier
    if isinstance(classifier, str) and f"{classifier}.weight" in state:
        options["num_classes"] = len(state[f"{classifier}.weight"])
    if (
        config is not None
        and config.fixed_input_size
        and image_size not in (None, config.input_size[1:])
    ):
        options["img_size"] = image_size
    return timm.create_model(name, **options)


def _load_folder(folder: Path, name: str | None) -> nn.Module:
    if name is not None:
        raise ModelError(f"the config.json of {folder} names the architecture; name no other")
    _check_config(folder)
    path = next((folder / name for name in WEIGHTS_NAMES if (folder / name).is_file()), None)
    if path is None:
        raise ModelError(f"{folder} has no weights", f"they are called {' or '.join(WEIGHTS_NAMES)}")
    state = _read(path)
    place = f"local-dir:{folder.absolute()}"
    try:
        model = timm.create_model(place)
        if state.keys() != model.state_dict().keys():  # names of other days, which timm translates
            return timm.create_model(place, pretrained=True)
    except Exception as error:  # each network has its own
        raise ModelError(f"timm cannot load {folder}: {reason_of(error)}") from None
    return _with_weights(model, state, path)


def _check_config(folder: Path) -> None:
    hint = "timm.models.save_for_hf writes one; other libraries' folders are not read"
    path = folder / CONFIG_NAME
    if not path.is_file():
        raise ModelError(f"{folder} has no {CONFIG_NAME}", hint)
    try:
        config = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is no JSON: {reason_of(error)}", hint) from None
    if not isinstance(config, dict) or not isinstance(config.get("architecture"), str):
        raise ModelError(f"{path} names no architecture of timm", hint)


def _with_weights(model: Any, state: dict[str, torch.Tensor], path: Path) -> nn.Module:
    """Gives a model the weights of a file, in the file's dtypes; nothing is resampled."""
    try:
        model.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise ModelError(
            f"{path} does not fit {model.pretrained_cfg['architecture']}: {reason_of(error)}",
            "a model that was made with other arguments: save it with timm.models.save_for_hf first",
        ) from None
    network: nn.Module = model
    return network


def _read(path: Path) -> dict[str, torch.Tensor]:
    try:
        state: dict[str, torch.Tensor] = load_state_dict(str(path), weights_only=True)
    except FileNotFoundError:
        raise ModelError(f"{path} does not exist") from None
    except Exception as error:  # torch, pickle and safetensors have no common one
        raise ModelError(f"{path} cannot be read as a checkpoint: {reason_of(error)}", _ALONE) from None
    if not all(isinstance(tensor, torch.Tensor) for tensor in state.values()):
        raise ModelError(f"{path} is no checkpoint: it holds more than tensors", _ALONE)
    if any(name.startswith(PREFIX) for name in state):
        raise ModelError(f"{path} is an encrypted model already", "decrypt it first")
    return state
