"""What a run leaves on the disk: its state, to go on from, and weights, to use."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from etc_data.errors import ManifestError, SettingsError
from etc_data.models.encrypted_files import write_tensors
from etc_data.shards.files import published

STATE_NAME = "state.pt"
METADATA_NAME = "etc_data"
_FORMAT = "etc-data-training/1"


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Replaces the state of a run by a later one, whole or not at all."""
    with published(folder / STATE_NAME) as file:
        torch.save({"format": _FORMAT, **state}, file)


def load_state(folder: Path) -> dict[str, Any] | None:
    """Returns the state that a run was left in, or None.

    Raises:
        SettingsError: there is a file, but it is damaged or of another version.
    """
    path = folder / STATE_NAME
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds
        raise SettingsError(f"{path} is damaged: {type(error).__name__}", "start anew") from None
    if not isinstance(state, dict) or state.get("format") != _FORMAT:
        raise SettingsError(f"{path} is no state of a run of this version", "start anew")
    return state


def save_weights(model: nn.Module, path: Path, facts: dict[str, Any]) -> None:
    """Writes a model as safetensors with what must be known to use it; the same gives the same bytes.

    Args:
        model: whose weights and buffers are written.
        path: of the file.
        facts: what JSON can hold: model name and options, classes, normalization, encryption.
    """
    write_tensors(model.state_dict(), path, (METADATA_NAME, json.dumps(facts)))


def load_weights(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Returns a model's tensors and what was noted of it.

    Raises:
        ManifestError: the file was not written by `save_weights`.
    """
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})[METADATA_NAME])
        return load_file(path), facts
    except FileNotFoundError:
        raise ManifestError(f"{path} does not exist") from None
    except Exception as error:  # of safetensors, JSON, or a missing entry
        raise ManifestError(f"{path} is no model of a recipe: {type(error).__name__}") from None
