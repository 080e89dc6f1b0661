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

from etc_data.cipher import Cipher
from etc_data.codecs import JpegCodec, decode
from etc_data.errors import SettingsError, SourceError
from etc_data.recipes.settings import AugmentSettings, DataSettings, Settings
from etc_data.shards import open_shards
from etc_data.shards.manifest import MANIFEST_NAME, Manifest
from etc_data.shards.shares import rank_share
from etc_data.shards.storage import is_url
from etc_data.sources.images import load_rgb, resize_to
from etc_data.sources.selection import Selection
from etc_data.sources.spec import open_source

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
    encryption: dict[str, Any] | None

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
    if augment.flip or augment.shift:
        raise SettingsError(
            f"{data.source} is encrypted, and encrypted images can be neither flipped nor shifted",
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
        self.encryption: dict[str, Any] | None = {
            "scheme": manifest.scheme.name,
            "key_id": manifest.key_id,
            "key_scope": manifest.key_scope,
            "context": manifest.context,
            "codec": manifest.codec,
        }

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


def load_images(data: DataSettings, *, training: bool) -> Batch:
    """Reads a split of plain images into memory, brought to size, with their labels.

    Raises:
        SourceError: the source cannot be read, or has no labels.
    """
    split, limit = (data.train, data.limit) if training else (data.val, data.val_limit)
    items = Selection(open_source(data.source), splits=[split], limit=limit).items(split)
    images = np.empty((len(items), 3, data.size, data.size), np.uint8)
    labels = np.empty(len(items), np.int64)
    for number, item in enumerate(items):
        image = resize_to(load_rgb(item.read()), data.size, data.size, mode="crop")
        images[number] = np.asarray(image).transpose(2, 0, 1)
        labels[number] = item.label
    if not len(items) or labels.min() < 0:
        raise SourceError(f"split {split} of {data.source} has images without a label")
    return torch.from_numpy(images), torch.from_numpy(labels)


@dataclass
class TensorBatches:
    """Batches of plain images that lie in memory: augmented, encrypted and coded as they are needed.

    Attributes:
        images: uint8 [N, 3, H, W].
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
        self.size = (self.images.shape[-2], self.images.shape[-1])
        self.grid = 1
        self.encryption = None
        self._step = 0
        augment = self.settings.augment if self.training else AugmentSettings()
        self._augment = augment
        self._codec = None
        if self.settings.data.quality is not None:
            self._codec = JpegCodec(quality=self.settings.data.quality)
        if self.cipher is not None:
            self.cipher.scheme.check_size(*self.size)
            self.grid = self.cipher.scheme.block_size
            self.encryption = {
                "scheme": self.cipher.scheme.name,
                "key_id": self.cipher.key_id,
                "key_scope": self.cipher.key_scope,
                "context": self.cipher.context,
                "codec": None if self._codec is None else dict(self._codec.describe()),
            }
        changes = augment.flip or augment.shift
        fresh = self.cipher is not None and self.cipher.key_scope == "image" and self.training
        self._ready = not (changes or fresh)
        if self._ready:
            generator = _generator(self.settings.seed, _ALL, self.training)
            parts = [self._encrypted(part, generator) for part in self.images.split(256)]
            self.images = torch.cat(parts)
        self.images, self.labels = self.images.to(self.device), self.labels.to(self.device)

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
            yield images, self.labels[chosen]

    def state(self) -> dict[str, Any]:
        """Returns where the epoch stands after the batch that was yielded last."""
        return {"step": self._step}

    def _augmented(self, images: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
        count, _, height, width = images.shape
        if self._augment.shift:
            most = self._augment.shift
            padded = torch.nn.functional.pad(images, (most, most, most, most))
            moves = torch.from_numpy(generator.integers(2 * most + 1, size=(2, count)))
            top, left = moves.to(self.device)
            rows = top[:, None] + torch.arange(height, device=self.device)
            columns = left[:, None] + torch.arange(width, device=self.device)
            numbers = torch.arange(count, device=self.device)[:, None, None, None]
            planes = torch.arange(3, device=self.device)[:, None, None]
            images = padded[numbers, planes, rows[:, None, :, None], columns[:, None, None, :]]
        if self._augment.flip:
            turned = torch.from_numpy(generator.integers(2, size=count).astype(bool)).to(self.device)
            images = torch.where(turned[:, None, None, None], images.flip(-1), images)
        return images

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
