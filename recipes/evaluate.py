"""Tests a trained classifier: on plain or encrypted images, as it is or encrypted, with wrong keys.

etc-data evaluate runs/one/best.safetensors shards/ --split val
etc-data evaluate runs/plain/best.safetensors photos/ --encrypt-model --scheme ind-4 --key clinic.key
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import etc_data.models
import etc_data.torchvision_cpu  # noqa: F401

# isort: split
import timm

from etc_data.cipher import Cipher
from etc_data.errors import ManifestError, SettingsError, WrongKeyError
from etc_data.keys import SecretKey
from etc_data.models import encrypt_model
from etc_data.recipes.batches import Batches, open_batches
from etc_data.recipes.checkpoints import load_weights
from etc_data.recipes.normalize import Normalize
from etc_data.recipes.scores import Scores, score
from etc_data.recipes.settings import DataSettings, Settings


@dataclass(frozen=True)
class TrainedModel:
    """A model from the file of a run, and what must be known to use it.

    Attributes:
        model: from normalized images to logits, in evaluation mode.
        facts: what the run noted: name, classes, size, mean, std, encryption of its training images.
    """

    model: nn.Module
    facts: dict[str, Any]

    @property
    def classes(self) -> int:
        """How many logits there are."""
        return int(self.facts["classes"])

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images it was trained on, in pixels."""
        height, width = self.facts["size"]
        return height, width

    @property
    def normalize(self) -> Normalize:
        """What brings uint8 images to the values that the model was trained on."""
        return Normalize(self.facts["mean"], self.facts["std"])

    @classmethod
    def load(cls, path: str | Path, device: torch.device | str = "cpu") -> "TrainedModel":
        """Reads a file that `train` wrote.

        Raises:
            ManifestError: it is no such file, or its weights do not suit its model.
        """
        tensors, facts = load_weights(Path(path))
        try:
            model = timm.create_model(
                facts["model"], pretrained=False, num_classes=facts["classes"], **facts["options"]
            )
            model.load_state_dict(tensors)
        except (KeyError, RuntimeError, TypeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ManifestError(f"{path} does not suit its model: {reason}") from None
        return cls(model.to(device).eval(), facts)

    def encrypted(self, cipher: Cipher) -> nn.Module:
        """Returns the model for images encrypted with a cipher (scenario B of the papers).

        Raises:
            SettingsError: it was trained on encrypted images already.
            ModelError: scheme or model do not allow it.
        """
        encryption = self.facts["encryption"]
        if encryption is not None:
            raise SettingsError(
                f"the model was trained on images of scheme {encryption['scheme']} already",
                "only a model that was trained on plain images can be encrypted",
            )
        facts = self.facts
        model = encrypt_model(
            self.model,
            cipher,
            image_size=self.image_size,
            mean=tuple(facts["mean"]),
            std=tuple(facts["std"]),
        )
        return model.eval()


def check_images(facts: dict[str, Any], encryption: dict[str, Any] | None) -> None:
    """Checks that images are encrypted as those were that a model learned from.

    Args:
        facts: of the model.
        encryption: of the images; None if they are plain.

    Raises:
        WrongKeyError: they have another key.
        SettingsError: they differ otherwise.
    """
    learned = facts["encryption"]
    names = ("scheme", "key_scope", "context")
    if (learned is None) != (encryption is None):
        kinds = ["plain" if e is None else f"encrypted ({e['scheme']})" for e in (learned, encryption)]
        raise SettingsError(
            f"the model learned from {kinds[0]} images, but these are {kinds[1]}",
            "--encrypt-model encrypts a model that learned from plain ones; --any tests it as it is",
        )
    if learned is None or encryption is None:
        return
    for name in names:
        if learned[name] != encryption[name]:
            raise SettingsError(
                f"the model learned from images of {name} {learned[name]!r}, but these have "
                f"{encryption[name]!r}",
                "--any tests it all the same",
            )
    if learned["key_scope"] == "dataset" and learned["key_id"] != encryption["key_id"]:
        raise WrongKeyError(
            f"the model learned from images of key {learned['key_id']}, but these have key "
            f"{encryption['key_id']}",
            "--any tests it all the same",
        )


def evaluate(
    trained: TrainedModel,
    data: DataSettings,
    *,
    cipher: Cipher | None = None,
    model: nn.Module | None = None,
    batch: int = 128,
    any_images: bool = False,
) -> Scores:
    """Tests a model on a split.

    Args:
        trained: the model.
        data: source and split (`DataSettings.val`).
        cipher: encrypts plain images.
        model: stands in for the model, such as its encrypted form.
        batch: images per step.
        any_images: also test on images that are not encrypted as those it learned from.

    Raises:
        WrongKeyError: the images have another key than those that the model learned from.
        SettingsError: they are encrypted in another way.
        EtcError: the images cannot be read.
    """
    batches = open_test_batches(data, cipher, trained.image_size, batch)
    if model is None and not any_images:
        check_images(trained.facts, batches.encryption)
    return score(model or trained.model, batches, trained.normalize, trained.classes)


def open_test_batches(
    data: DataSettings, cipher: Cipher | None, image_size: tuple[int, int], batch: int = 128
) -> Batches:
    """Opens the split `DataSettings.val` of a source, plain images brought to the model's size."""
    data = dataclasses.replace(data, size=image_size[0])
    return open_batches(
        Settings(data=data, batch=batch), training=False, device=torch.device("cpu"), cipher=cipher
    )


def wrong_key_accuracies(
    trained: TrainedModel,
    cipher: Cipher,
    data: DataSettings,
    keys: int,
    *,
    seed: int = 0,
    tick: Callable[[int], None] = lambda _: None,
) -> list[float]:
    """Returns the accuracies of an encrypted model on images that wrong keys encrypted (iijima Fig. 5).

    Args:
        trained: a model that learned from plain images; it is encrypted with the cipher.
        cipher: with the right key.
        data: plain images.
        keys: how many wrong keys.
        seed: of the wrong keys, which protect nothing.
        tick: called with the number of keys done, for a progress bar.
    """
    model = trained.encrypted(cipher)
    generator = np.random.default_rng(seed)
    accuracies = []
    for _ in range(keys):
        wrong = Cipher(
            cipher.scheme, SecretKey(generator.bytes(32)), key_scope="dataset", context=cipher.context
        )
        accuracies.append(evaluate(trained, data, cipher=wrong, model=model).accuracy)
        tick(1)
    return accuracies
