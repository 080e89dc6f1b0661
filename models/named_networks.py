"""Networks by their names in timm, as files name them.

What a file says may choose a network, but never a place to load something from.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import etc_data.torchvision_cpu  # noqa: F401

# isort: split
import timm
from torch import nn

from etc_data.errors import ModelError
from etc_data.models.foreign_errors import reason_of

# Arguments of timm.create_model that choose files and places, not the network.
NOT_OF_THE_NETWORK = frozenset(
    {"cache_dir", "checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay"}
)


def make_network(
    path: Path,
    name: str,
    arguments: Mapping[str, Any],
    configuration: dict[str, Any] | None = None,
) -> nn.Module:
    """Returns a network with random weights, for the weights of a file.

    Args:
        path: of the file, for messages.
        name: of the architecture in timm.
        arguments: of `timm.create_model`, from the file; trusted in nothing.
        configuration: what the network's ``pretrained_cfg`` is to say of its input.

    Raises:
        ModelError: timm does not know the name, or not the arguments.
    """
    if not timm.is_model(name):
        raise ModelError(
            f"{path} names the architecture {name!r}, which timm does not know here",
            "import the module that registers it, or give a plain model",
        )
    if places := NOT_OF_THE_NETWORK & set(arguments):
        raise ModelError(
            f"{path} gives {name} the argument {min(places)}, which is a place and not the network's",
            "do not use a file that wants to load others",
        )
    try:
        return timm.create_model(name, pretrained_cfg_overlay=configuration, **arguments)
    except Exception as error:  # each network has its own
        raise ModelError(
            f"{path}: timm cannot make {name} with {dict(arguments)}: {reason_of(error)}",
            "give a plain model",
        ) from None
