"""`TrainedFacts`: what `etc-data train` notes in a file of weights beside them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open

from etc_data.errors import ModelError
from etc_data.models.folding import Normalization

METADATA_KEY = "etc_data"


@dataclass(frozen=True)
class TrainedFacts:
    """How a trained network is made, and what images it is for; from a file, so trusted in nothing.

    Attributes:
        name: of the architecture in timm.
        options: further arguments of `timm.create_model`.
        classes: number of logits.
        image_size: (height, width) in pixels.
        normalization: of the images.
        scheme: what they were encrypted with, or None if they were plain.
    """

    name: str
    options: dict[str, Any]
    classes: int
    image_size: tuple[int, int]
    normalization: Normalization
    scheme: str | None

    @classmethod
    def read(cls, path: Path) -> "TrainedFacts | None":
        """Returns the facts of a file, or None where there are none.

        Args:
            path: of a checkpoint; only safetensors files hold facts.

        Raises:
            ModelError: they are malformed.
        """
        if path.suffix != ".safetensors":
            return None
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(METADATA_KEY)
        if text is None:
            return None
        try:
            return cls._from_fields(json.loads(text))
        except (KeyError, TypeError, ValueError, RecursionError, ModelError) as error:
            what = f"field {error} is missing" if isinstance(error, KeyError) else str(error)
            raise ModelError(
                f"what etc-data train noted in {path} is malformed: {what}",
                "name the architecture and use a file with weights alone",
            ) from None

    @classmethod
    def _from_fields(cls, value: dict[str, Any]) -> "TrainedFacts":
        size, encryption = value["size"], value["encryption"]
        for name, kind in (("model", str), ("options", dict), ("classes", int), ("size", list)):
            if type(value[name]) is not kind:
                raise ValueError(f"{name} is {value[name]!r}")
        if len(size) != 2 or any(type(side) is not int or side < 1 for side in size):
            raise ValueError(f"size is {size!r}")
        return cls(
            name=value["model"],
            options=value["options"],
            classes=value["classes"],
            image_size=(size[0], size[1]),
            normalization=Normalization.of(value["mean"], value["std"]),
            scheme=None if encryption is None else str(encryption["scheme"]),
        )
