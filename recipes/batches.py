"""Batches of images for training and testing: from EtC shards, or from plain images in memory.

All that is random in a batch follows from (seed, epoch, step), so that a run which was killed goes
on exactly as it would have.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from etc_data.augmentation import Augmentation
from etc_data.cipher import Cipher
from etc_data.codecs import JpegCodec, decode
from etc_data.errors import SettingsError
from etc_data.recipes.augmenting import augment_batch, change_batch
from etc_data.recipes.encryption import Encryption, encryption_of_cipher, encryption_of_shards
from etc_data.recipes.plain_images import load_images
from etc_data.recipes.resizing import resize_batch
from etc_data.recipes.settings import AugmentSettings, Settings
from etc_data.shards import open_shards
from etc_data.shards.manifest import MANIFEST_NAME, Manifest
from etc_data.shards.shares import rank_share
from etc_data.shards.storage import is_url

Batch = tuple[torch.Tensor, torch.Tensor]
"""uint8 [N, 3, H, W] and int64 [N]."""


class Batches(Protocol):
    """One split, batch by batch.

    Attributes:
        samples: of an epoch, over all ranks.
        classes: how many labels there are.
        size: height and width in pixels.
        grid: pixels per side of the blocks that are encrypted; 1 if plain.
        encryption: what a summary says of the images: scheme, key id, key scope; None if plain.
    """

    samples: int
    classes: int
    size: tuple[int, int]
    grid: int
    encryption: Encryption | None

    @property
    def steps(self) -> int:
        """How many batches this rank sees in an epoch."""

    def epoch(self, epoch: int, state: dict[str, Any] | None = None) -> Iterator[Batch]:
        """Yields the batches of an epoch; from a state on, those that had been left of it."""

    def state(self) -> dict[str, Any]:
        """Returns where the epoch stands after the batch that was yielded last."""


def manifest_of(place: str) -> Manifest | None:
    """Returns the manifest of EtC shards, or None where a place holds something else.

    Raises:
        ManifestError: there is one, but damaged or of a newer format.
        StorageError: the URL cannot be reached.
    """
    if place.startswith(("hf:", "torchvision:")):
        return None
    if is_url(place) or (Path(place) / MANIFEST_NAME).exists():
        return Manifest.read(place)
    return None


def open_batches(
    settings: Settings,
    *,
    training: bool,
    device: torch.device,
    cipher: Cipher | None = None,
    rank: int = 0,
    world_size: int = 1,
) -> Batches:
    """Opens a split of the settings' source.

    Args:
        settings: of the run.
        training: the training split, shuffled and augmented; else the other, in order.
        device: where batches are made.
        cipher: for plain images that are to be encrypted.
        rank: of this process.
        world_size: number of processes.

    Raises:
        EtcError: the source cannot be read, or the settings do not suit it.
    """
    data = settings.data
    manifest = manifest_of(data.source)
    if manifest is None:
        images, labels = load_images(data, training=training)
        return TensorBatches(
            images, labels, settings, training, device, cipher, rank=rank, world_size=world_size
        )
    if cipher is not None:
        raise SettingsError(
            f"{data.source} holds encrypted images, which scheme {cipher.scheme.name} cannot encrypt"
        )
    _check_shards(manifest, settings)
    return ShardBatches(manifest, settings, training, device)


def _check_shards(manifest: Manifest, settings: Settings) -> None:
    data, augment = settings.data, settings.augment
    for name in ("scheme", "key_scope", "quality", "limit", "val_limit"):
        value = getattr(data, name)
        if value is not None:
            raise SettingsError(
                f"data.{name} is {value}, but {data.source} holds encrypted shards, which are read as "
                "they are",
                "encrypt it that way, or name plain images",
            )
    if augment.flip or augment.shift or augment.erase or augment.recipe:
        raise SettingsError(
            f"{data.source} is encrypted, and no encrypted image can be flipped, shifted or augmented",
            "augment before encrypting: etc-data encrypt --augment flip+shift --copies K",
        )
    if not manifest.classes:
        raise SettingsError(f"{data.source} has no labels to learn from")
    if manifest.size is None:
        raise SettingsError(f"{data.source} holds images of different sizes; encrypt it with --size")


class ShardBatches:
    """Batches of EtC shards, streamed by worker processes and verified."""

    def __init__(
        self, manifest: Manifest, settings: Settings, training: bool, device: torch.device
    ) -> None:
        """Opens a split; see `open_batches`."""
        from torchdata.stateful_dataloader import StatefulDataLoader

        data = settings.data
        self._dataset = open_shards(
            data.source,
            split=data.train if training else data.val,
            shuffle=training,
            seed=settings.seed,
            batch_size=settings.batch,
        )
        with warnings.catch_warnings():
            # torchdata 0.11 calls what torch 2.13 has given up.
            warnings.filterwarnings("ignore", ".*set_vital", UserWarning)
            self._loader = StatefulDataLoader(
                self._dataset,
                batch_size=settings.batch,
                num_workers=data.workers,
                multiprocessing_context="spawn" if data.workers else None,
                pin_memory=device.type == "cuda",
                persistent_workers=data.workers > 0,
            )
        self._device = device
        self.samples = self._dataset.samples
        self.classes = manifest.classes
        assert manifest.size is not None
        self.size = manifest.size
        self.grid = manifest.scheme.block_size
        self.encryption: Encryption | None = encryption_of_shards(manifest)

    @property
    def steps(self) -> int:
        """How many batches this rank sees in an epoch."""
        return len(self._loader)

    def epoch(self, epoch: int, state: dict[str, Any] | None = None) -> Iterator[Batch]:
        """Yields the batches of an epoch; from a state on, those that had been left of it."""
        self._dataset.set_epoch(epoch)
        if state is not None:
            self._loader.load_state_dict(state)
        for images, labels in self._loader:
            yield (
                images.to(self._device, non_blocking=True),
                labels.to(self._device, non_blocking=True),
            )

    def state(self) -> dict[str, Any]:
        """Returns where the epoch stands after the batch that was yielded last."""
        state: dict[str, Any] = self._loader.state_dict()
        return state


@dataclass
class TensorBatches:
    """Batches of plain images that lie in memory: augmented, encrypted and coded as they are needed.

    Attributes:
        images: uint8 [N, 3, H, W], of the settings' size, or smaller squares, which are enlarged.
        labels: int64 [N].
        settings: of the run.
        training: shuffled and augmented.
        device: where batches are made.
        cipher: what encrypts them; None leaves them plain.
        rank: of this process.
        world_size: number of processes.
    """

    images: torch.Tensor
    labels: torch.Tensor
    settings: Settings
    training: bool
    device: torch.device
    cipher: Cipher | None = None
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        """Prepares once what is the same in all epochs."""
        self.samples = len(self.images)
        self.classes = int(self.labels.max()) + 1
        self.size = (self.settings.data.size, self.settings.data.size)
        self.grid = 1
        self.encryption = None
        self._step = 0
        augment = self.settings.augment if self.training else AugmentSettings()
        self._augment = augment
        self._recipe = None if augment.recipe is None else Augmentation(augment.recipe)
        self._codec = None
        if self.settings.data.quality is not None:
            self._codec = JpegCodec(quality=self.settings.data.quality)
        if self.cipher is not None:
            self.cipher.scheme.check_size(*self.size)
            self.grid = self.cipher.scheme.block_size
            coding = None if self._codec is None else self._codec.describe()
            self.encryption = encryption_of_cipher(self.cipher, coding)
        changes = augment.flip or augment.shift or augment.erase or augment.recipe
        fresh = self.cipher is not None and self.cipher.key_scope == "image" and self.training
        self._ready = not (changes or fresh)
        self.images, self.labels = self.images.to(self.device), self.labels.to(self.device)
        if self._ready and (self.cipher is not None or self._codec is not None):
            generator = _generator(self.settings.seed, _ALL, self.training)
            parts = [self._encrypted(self._sized(part), generator) for part in self.images.split(256)]
            self.images = torch.cat(parts)

    @property
    def _share(self) -> range:
        return rank_share(self.samples, self.rank, self.world_size, "pad" if self.training else "exact")

    @property
    def steps(self) -> int:
        """How many batches this rank sees in an epoch."""
        return -(-len(self._share) // self.settings.batch)

    def epoch(self, epoch: int, state: dict[str, Any] | None = None) -> Iterator[Batch]:
        """Yields the batches of an epoch; from a state on, those that had been left of it."""
        order = np.arange(self.samples)
        if self.training:
            order = _generator(self.settings.seed, _ORDER, epoch).permutation(self.samples)
        share, batch = self._share, self.settings.batch
        mine = torch.from_numpy(np.take(order, share, mode="wrap")).to(self.device)
        for step in range(0 if state is None else state["step"], self.steps):
            chosen = mine[step * batch : (step + 1) * batch]
            images = self.images[chosen]
            if not self._ready:
                generator = _generator(self.settings.seed, _STEP, epoch, step, self.rank)
                images = self._encrypted(self._augmented(images, generator), generator)
            self._step = step + 1
            yield self._sized(images), self.labels[chosen]

    def state(self) -> dict[str, Any]:
        """Returns where the epoch stands after the batch that was yielded last."""
        return {"step": self._step}

    def _augmented(self, images: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
        if self._recipe is None:
            images = self._sized(images)
        else:
            images = change_batch(images, self._recipe, self.size[0], generator)
        return augment_batch(images, self._augment, generator)

    def _sized(self, images: torch.Tensor) -> torch.Tensor:
        return resize_batch(images, self.size[0])

    def _encrypted(self, images: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
        if self.cipher is not None and self.cipher.key_scope == "image":
            nonces = [self.cipher.new_nonce(generator) for _ in images]
            images = self.cipher.encrypt(images, nonce=nonces)
        elif self.cipher is not None:
            images = self.cipher.encrypt(images)
        if self._codec is None:
            return images
        pixels = images.permute(0, 2, 3, 1).contiguous().cpu().numpy()
        coded = np.stack([decode(self._codec.encode(image)) for image in pixels])
        return torch.from_numpy(coded).permute(0, 3, 1, 2).to(images.device)


_ALL, _ORDER, _STEP = range(3)


def _generator(seed: int, *place: int) -> np.random.Generator:
    """Returns the generator of one place in a run.

    As spawn keys, places of any length differ; as plain seeds, (1,) and (1, 0) would be the same, and
    test images could get the nonces of training images.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=place))
