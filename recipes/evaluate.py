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

from etc_data.cipher import Cipher
from etc_data.errors import ManifestError, SettingsError
from etc_data.keys import SecretKey
from etc_data.models import encrypt_model, load_encrypted_model, model_info
from etc_data.models.encrypted_files import PREFIX
from etc_data.models.named_networks import make_network
from etc_data.recipes.batches import TensorBatches, manifest_of, open_batches
from etc_data.recipes.checkpoints import load_weights
from etc_data.recipes.encryption import check_images, encryption_of_model
from etc_data.recipes.normalize import Normalize
from etc_data.recipes.plain_images import load_images
from etc_data.recipes.scores import Scores, score
from etc_data.recipes.settings import DataSettings, Settings
from etc_data.sources.spec import open_source


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
    def device(self) -> torch.device:
        """Where the model lies, and tests run."""
        return next(self.model.parameters()).device

    @property
    def normalize(self) -> Normalize:
        """What brings uint8 images to the values that the model was trained on."""
        return Normalize(self.facts["mean"], self.facts["std"]).to(self.device)

    @classmethod
    def load(cls, path: str | Path, device: torch.device | str | None = None) -> "TrainedModel":
        """Reads a file that `train` wrote, or that of an encrypted model.

        Args:
            path: of the file.
            device: where the model goes; None takes the accelerator if there is one.

        Raises:
            ManifestError: it is no such file, or its weights do not suit its model.
            ModelError: timm does not know its network, or it is an encrypted model of a newer format.
        """
        device = device or torch.accelerator.current_accelerator() or torch.device("cpu")
        if _is_encrypted(path):
            return cls._of_encrypted(load_encrypted_model(path).to(device, torch.float32))
        tensors, facts = load_weights(Path(path))
        try:
            options = {**facts["options"], "num_classes": facts["classes"]}
            model = make_network(Path(path), facts["model"], options)
            model.load_state_dict(tensors)
        except (KeyError, RuntimeError, TypeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ManifestError(f"{path} does not suit its model: {reason}") from None
        return cls(model.to(device).eval(), facts)

    @classmethod
    def _of_encrypted(cls, model: nn.Module) -> "TrainedModel":
        info = model_info(model)
        facts = {
            "classes": model.num_classes,
            "size": info.image_size,
            "mean": info.normalization.mean,
            "std": info.normalization.std,
            "encryption": encryption_of_model(info),
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
    settings = _test_settings(trained, data, batch)
    batches = open_batches(settings, training=False, device=trained.device, cipher=cipher)
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


def _test_settings(trained: TrainedModel, data: DataSettings, batch: int = 128) -> Settings:
    """Returns the settings of a test: plain images are brought to the model's size."""
    return Settings(data=dataclasses.replace(data, size=trained.image_size[0]), batch=batch)


def class_names(place: str) -> tuple[str, ...]:
    """Returns the names of a source's classes; none where a manifest keeps them to itself.

    Raises:
        EtcError: there is no such source.
    """
    manifest = manifest_of(place)
    return open_source(place).class_names if manifest is None else manifest.class_names


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

    Raises:
        SettingsError: the model is for encrypted images already.
        EtcError: the images cannot be read, or are encrypted.
    """
    encrypted = trained.encrypted(cipher)
    settings = _test_settings(trained, data)
    images, labels = load_images(settings.data, training=False)
    generator = np.random.default_rng(seed)
    accuracies = []
    for _ in range(keys):
        key = SecretKey(generator.bytes(32))
        wrong = Cipher(cipher.scheme, key, key_scope="dataset", context=cipher.context)
        batches = TensorBatches(images, labels, settings, False, trained.device, wrong)
        accuracies.append(score(encrypted.model, batches, trained.normalize, trained.classes).accuracy)
        tick(1)
    return accuracies


def _is_encrypted(path: str | Path) -> bool:
    try:
        with safe_open(path, framework="pt") as file:
            return any(name.startswith(PREFIX) for name in file.keys())
    except (OSError, SafetensorError):
        return False
