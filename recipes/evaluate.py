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
from safetensors import SafetensorError, safe_open
from torch import nn

import etc_data.models
import etc_data.torchvision_cpu  # noqa: F401

# isort: split
import timm

from etc_data.cipher import Cipher
from etc_data.errors import ManifestError, SettingsError, WrongKeyError
from etc_data.keys import SecretKey
from etc_data.models import encrypt_model, load_encrypted_model, model_info
from etc_data.models.encrypted_files import PREFIX
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
        facts: what is known of it: classes, size, mean, std, and the encryption of the images that it
            is for, None if they are plain.
    """

    model: nn.Module
    facts: dict[str, Any]

    @property
    def classes(self) -> int:
        """How many logits there are."""
        return int(self.facts["classes"])

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images it is for, in pixels."""
        height, width = self.facts["size"]
        return height, width

    @property
    def normalize(self) -> Normalize:
        """What brings uint8 images to the values that the model was trained on."""
        return Normalize(self.facts["mean"], self.facts["std"])

    @classmethod
    def load(cls, path: str | Path, device: torch.device | str = "cpu") -> "TrainedModel":
        """Reads a file that `train` wrote, or that of an encrypted model.

        Raises:
            ManifestError: it is no such file, or its weights do not suit its model.
            ModelError: it is an encrypted model of a newer format.
        """
        if _is_encrypted(path):
            return cls._of_encrypted(load_encrypted_model(path).to(device))
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

    @classmethod
    def _of_encrypted(cls, model: nn.Module) -> "TrainedModel":
        info = model_info(model)
        encryption = {
            "scheme": info.scheme.name,
            "key_id": info.key_id,
            "key_scope": "dataset",
            "context": info.context,
        }
        facts = {
            "classes": model.num_classes,
            "size": info.image_size,
            "mean": info.normalization.mean,
            "std": info.normalization.std,
            "encryption": encryption,
        }
        return cls(model.eval(), facts)

    def encrypted(self, cipher: Cipher) -> "TrainedModel":
        """Returns the model for images encrypted with a cipher (scenario B of the papers).

        Raises:
            SettingsError: it is for encrypted images already.
            ModelError: scheme or model do not allow it.
        """
        encryption = self.facts["encryption"]
        if encryption is not None:
            raise SettingsError(
                f"the model is for images of scheme {encryption['scheme']} already",
                "only a model that was trained on plain images can be encrypted",
            )
        model = encrypt_model(
            self.model,
            cipher,
            image_size=self.image_size,
            mean=tuple(self.facts["mean"]),
            std=tuple(self.facts["std"]),
        )
        return self._of_encrypted(model)


def check_images(expected: dict[str, Any] | None, met: dict[str, Any] | None) -> None:
    """Checks that images are encrypted as those are that a model is for.

    Args:
        expected: the encryption that a model is for; None if it is for plain images.
        met: the encryption of the images.

    Raises:
        WrongKeyError: they have another key.
        SettingsError: they differ otherwise.
    """
    if expected is None or met is None:
        if expected is not met:
            kinds = ["plain" if e is None else f"encrypted ({e['scheme']})" for e in (expected, met)]
            raise SettingsError(
                f"the model is for {kinds[0]} images, but these are {kinds[1]}",
                "--encrypt-model encrypts a model for plain ones; --any tests it as it is",
            )
        return
    for name in ("scheme", "key_scope", "context"):
        if expected[name] != met[name]:
            raise SettingsError(
                f"the model is for images of {name.replace('_', ' ')} {expected[name]!r}, "
                f"but these have {met[name]!r}",
                "--any tests it all the same",
            )
    if expected["key_scope"] == "dataset" and expected["key_id"] != met["key_id"]:
        raise WrongKeyError(
            f"the model is for images of key {expected['key_id']}, but these have key {met['key_id']}",
            "--any tests it all the same",
        )


def evaluate(
    trained: TrainedModel,
    data: DataSettings,
    *,
    cipher: Cipher | None = None,
    batch: int = 128,
    any_images: bool = False,
) -> Scores:
    """Tests a model on a split.

    Args:
        trained: the model.
        data: source and split (`DataSettings.val`).
        cipher: encrypts plain images.
        batch: images per step.
        any_images: also test on images that are not encrypted as those that the model is for.

    Raises:
        WrongKeyError: the images have another key than those that the model is for.
        SettingsError: they are encrypted in another way, or have another size.
        EtcError: the images cannot be read.
    """
    batches = open_test_batches(data, cipher, trained.image_size, batch)
    if not any_images:
        check_images(trained.facts["encryption"], batches.encryption)
    if batches.size != trained.image_size:
        raise SettingsError(
            "the model is for images of {}×{} pixels, but these have {}×{}".format(
                *trained.image_size, *batches.size
            )
        )
    if batches.classes > trained.classes:
        raise SettingsError(
            f"the model knows {trained.classes} classes, but these images have {batches.classes}"
        )
    return score(trained.model, batches, trained.normalize, trained.classes)


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
    encrypted = trained.encrypted(cipher)
    generator = np.random.default_rng(seed)
    accuracies = []
    for _ in range(keys):
        wrong = Cipher(
            cipher.scheme, SecretKey(generator.bytes(32)), key_scope="dataset", context=cipher.context
        )
        accuracies.append(evaluate(encrypted, data, cipher=wrong, any_images=True).accuracy)
        tick(1)
    return accuracies


def _is_encrypted(path: str | Path) -> bool:
    try:
        with safe_open(path, framework="pt") as file:
            return any(name.startswith(PREFIX) for name in file.keys())
    except (OSError, SafetensorError):
        return False
