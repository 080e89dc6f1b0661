"""`open_shards`: encrypted images and labels as an iterable PyTorch dataset, every sample once."""

import os
from collections.abc import Callable, Iterator
from typing import IO, Any, Literal

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

# Whoever trains imports timm next, which on a CPU-only torch needs this.
import etc_data.torchvision_cpu  # noqa: F401
from etc_data.codecs import decode
from etc_data.errors import CodecError, DamagedShardError, ManifestError
from etc_data.keys import SecretKey
from etc_data.shards.cache import ShardCache
from etc_data.shards.manifest import Manifest, ShardEntry
from etc_data.shards.samples import Sample
from etc_data.shards.storage import LocalStorage, RemoteStorage, open_storage
from etc_data.shards.tar import SamplePlace
from etc_data.shards.verify import check_shard, open_shard

Form = Literal["tensor", "pil", "numpy", "sample"]
_FORMS: tuple[Form, ...] = ("tensor", "pil", "numpy", "sample")


def open_shards(
    folder: str | os.PathLike[str],
    *,
    split: str | None = None,
    shuffle: bool = False,
    seed: int = 0,
    form: Form = "tensor",
    transform: Callable[[Any], Any] | None = None,
    verify: bool = True,
    key: SecretKey | None = None,
    rank: int | None = None,
    world_size: int | None = None,
    cache: ShardCache | None = None,
) -> "EtcShards":
    """Opens a data set of shards for training or evaluation.

    Every sample comes once per epoch, over all ranks and DataLoader workers together, however many
    shards there are; a rank's and a worker's share are equal within one sample.

    Args:
        folder: the data set: a local folder, or a URL that fsspec knows, such as ``s3://bucket/set``
            or ``https://host/set``.  Remote shards are fetched into the cache, whole and verified.
        split: such as ``"train"``; None reads all splits, one after the other.
        shuffle: a new order every epoch, from `seed` and the epoch alone; else the order of the
            files.  Call `EtcShards.set_epoch` before each epoch.
        seed: of the order.
        form: what an image is: ``"tensor"`` uint8 [3, H, W], ``"pil"``, ``"numpy"`` uint8 [H, W, 3];
            or ``"sample"``: not (image, label) but the undecoded `Sample`.
        transform: applied to each image (with ``"sample"``: to each sample).
        verify: check each shard's size, SHA-256 and count before its first sample is given out.
        key: the owner's key, to check the manifest's seal as well.
        rank: of this process; by default torch.distributed's, or 0.
        world_size: number of such processes; by default torch.distributed's, or 1.
        cache: where remote shards are kept; by default 10 GiB under ``ETC_DATA_CACHE`` or
            ``~/.cache/etc-data``.

    Raises:
        ManifestError: the manifest is missing, malformed, newer or (with the key) altered, or has no
            such split.
        WrongKeyError: the key is another.
        DamagedShardError: while iterating: a shard is missing, cut short or altered.
        StorageError: a URL cannot be reached, after several tries with growing pauses.
    """
    place = open_storage(folder)
    if isinstance(place, RemoteStorage):
        manifest = Manifest.fetch(place)
        cache = cache or ShardCache()
    else:
        manifest, cache = Manifest.read(place.folder), None
    if key is not None:
        manifest.check_seal(key)
    if split is not None and split not in manifest.splits:
        raise ManifestError(f"there is no split {split!r}; there are {', '.join(manifest.splits)}")
    if form not in _FORMS:
        raise ValueError(f"form is {form!r}; it must be one of {', '.join(_FORMS)}")
    if (rank is None) != (world_size is None):
        raise ValueError("give both rank and world_size, or none of them")
    if rank is not None and world_size is not None and not 0 <= rank < world_size:
        raise ValueError(f"rank {rank} is not in 0 … {world_size - 1}")
    if seed < 0:
        raise ValueError(f"seed is {seed}; it must be at least 0")
    shards = manifest.shards if split is None else manifest.splits[split]
    return EtcShards(
        place, cache, manifest, shards, shuffle, seed, form, transform, verify, rank, world_size
    )


class EtcShards(IterableDataset[Any]):
    """What `open_shards` returns; give it to a DataLoader.

    Attributes:
        manifest: of the data set.
    """

    def __init__(
        self,
        place: LocalStorage | RemoteStorage,
        cache: ShardCache | None,
        manifest: Manifest,
        shards: tuple[ShardEntry, ...],
        shuffle: bool,
        seed: int,
        form: Form,
        transform: Callable[[Any], Any] | None,
        verify: bool,
        rank: int | None,
        world_size: int | None,
    ) -> None:
        """See `open_shards`."""
        super().__init__()
        self.manifest = manifest
        self._place = place
        self._cache = cache
        self._shards = shards
        self._shuffle = shuffle
        self._seed = seed
        self._form = form
        self._transform = transform
        self._verify = verify
        self._rank = rank
        self._world_size = world_size
        # In shared memory, so that set_epoch reaches workers that live through many epochs.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    @property
    def samples(self) -> int:
        """How many samples all ranks together see in an epoch."""
        return sum(shard.samples for shard in self._shards)

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order of the next epoch; it reaches running DataLoader workers too.

        Raises:
            ValueError: `epoch` is negative.
        """
        if epoch < 0:
            raise ValueError(f"epoch is {epoch}; it must be at least 0")
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        """Returns how many samples this rank sees in an epoch."""
        first, end = self._share_of_rank()
        return end - first

    def _share_of_rank(self) -> tuple[int, int]:
        rank, world_size = self._rank, self._world_size
        if rank is None or world_size is None:
            rank, world_size = _distributed()
        return self.samples * rank // world_size, self.samples * (rank + 1) // world_size

    def _share(self) -> tuple[int, int]:
        """Returns the range of the epoch's order that this process gives out."""
        first, end = self._share_of_rank()
        worker = get_worker_info()
        if worker is None:
            return first, end
        count = end - first
        return (
            first + count * worker.id // worker.num_workers,
            first + count * (worker.id + 1) // worker.num_workers,
        )

    def __iter__(self) -> Iterator[Any]:
        """Yields this process's share of the epoch."""
        first, end = self._share()
        random = np.random.default_rng((self._seed, int(self._epoch)))
        order = random.permutation(len(self._shards)) if self._shuffle else range(len(self._shards))
        position = 0
        for number in order:
            shard = self._shards[number]
            start, position = position, position + shard.samples
            if start >= end:
                return
            # Each shard's inner order is drawn even if this process skips it: all draw alike.
            inner_seed = random.integers(2**63)
            if position <= first:
                continue
            inner = np.arange(shard.samples)
            if self._shuffle:
                inner = np.random.default_rng(inner_seed).permutation(shard.samples)
            yield from self._read(shard, inner[max(0, first - start) : end - start])

    def _read(self, shard: ShardEntry, chosen: "np.ndarray[Any, np.dtype[np.intp]]") -> Iterator[Any]:
        with self._open(shard) as file:
            # The cache gives out nothing that it has not checked.
            places = check_shard(file, shard, hashed=self._verify and self._cache is None)
            for number in chosen:
                place = places[number]
                try:
                    content = self._content(place, file)
                except (CodecError, DamagedShardError) as error:
                    raise DamagedShardError(
                        f"shard {shard.name}: sample {place.key} cannot be read: {error}"
                    ) from None
                if isinstance(content, Sample):
                    yield self._transformed(content)
                else:
                    image, label = content
                    yield self._transformed(image), label

    def _open(self, shard: ShardEntry) -> IO[bytes]:
        if isinstance(self._place, RemoteStorage):
            assert self._cache is not None
            return self._cache.open(self._place, shard)
        return open_shard(self._place.folder, shard)

    def _content(self, place: SamplePlace, file: IO[bytes]) -> Sample | tuple[Any, int]:
        if self._form == "sample":
            return place.read(file)
        data, label = place.read_image_and_label(file)
        return self._decoded(data), label

    def _decoded(self, data: bytes) -> Any:
        pixels = decode(data)
        if self._form == "numpy":
            return pixels
        if self._form == "pil":
            from PIL import Image

            return Image.fromarray(pixels)
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))

    def _transformed(self, value: Any) -> Any:
        return value if self._transform is None else self._transform(value)

    def __repr__(self) -> str:
        order = f"shuffled by seed {self._seed}" if self._shuffle else "in file order"
        return (
            f"EtcShards({str(self._place)!r}, {self.samples} samples in {len(self._shards)} shards, "
            f"scheme {self.manifest.scheme.name!r}, key {self.manifest.key_id!r}, {order})"
        )


def _distributed() -> tuple[int, int]:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
