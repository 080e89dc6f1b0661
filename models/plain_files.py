"""Plain models from timm's checkpoints and from the folders that timm writes for Hugging Face."""

import pickle
from pathlib import Path
from typing import Any

import etc_data.torchvision_cpu  # noqa: F401

# isort: split
import timm
import torch
from safetensors import SafetensorError
from timm.models import load_state_dict
from torch import nn

from etc_data.errors import ModelError
from etc_data.models.encrypted_files import PREFIX, write_tensors
from etc_data.models.foreign_errors import reason_of

CONFIG_NAME = "config.json"


def load_plain_model(
    path: str | Path, name: str | None = None, image_size: tuple[int, int] | None = None
) -> nn.Module:
    """Returns the model of a checkpoint; nothing is unpickled but tensors, and nothing is resampled.

    Args:
        path: a folder with config.json, as timm's `save_for_hf` writes it, which tells the
            architecture; or a checkpoint of timm: .safetensors, or .pth and the like.
        name: of the architecture in timm; for a checkpoint only.
        image_size: (height, width) in pixels, for a checkpoint of a model with fixed input size that
            was made for another size than timm's.

    Raises:
        ModelError: the files cannot be read, or do not fit the architecture.
    """
    path = Path(path)
    if path.is_dir():
        return _load_folder(path, name)
    if name is None:
        raise ModelError(f"{path} does not tell its architecture", "give its name in timm")
    if not timm.is_model(name):
        raise ModelError(f"timm has no architecture {name!r}", "timm.list_models() lists them")
    state = _read(path)
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
    model: nn.Module = timm.create_model(name, **options)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ModelError(
            f"{path} does not fit {name}: {reason_of(error)}",
            "a model that was made with other arguments: save it with timm.models.save_for_hf first",
        ) from None
    return model


def save_plain_model(model: nn.Module, path: str | Path) -> None:
    """Writes a model's weights to a safetensors file that timm loads, whole or not at all.

    Raises:
        EtcError: it cannot be written.
    """
    write_tensors(model.state_dict(), path, ("format", "pt"))


def _load_folder(folder: Path, name: str | None) -> nn.Module:
    if name is not None:
        raise ModelError(f"the config.json of {folder} names the architecture; name no other")
    if not (folder / CONFIG_NAME).is_file():
        raise ModelError(f"{folder} has no {CONFIG_NAME}", "timm.models.save_for_hf writes one")
    try:
        model: nn.Module = timm.create_model(f"local-dir:{folder.absolute()}", pretrained=True)
    except Exception as error:
        raise ModelError(f"timm cannot load {folder}: {reason_of(error)}") from None
    return model


def _read(path: Path) -> dict[str, torch.Tensor]:
    try:
        state: dict[str, torch.Tensor] = load_state_dict(str(path), weights_only=True)
    except FileNotFoundError:
        raise ModelError(f"{path} does not exist") from None
    except (
        OSError,
        RuntimeError,
        EOFError,
        KeyError,
        pickle.UnpicklingError,
        SafetensorError,
    ) as error:
        raise ModelError(f"{path} cannot be read as a checkpoint: {reason_of(error)}") from None
    if any(name.startswith(PREFIX) for name in state):
        raise ModelError(f"{path} is an encrypted model already", "decrypt it first")
    return state
