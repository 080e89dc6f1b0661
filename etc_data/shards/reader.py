"""`open_shards`: encrypted images and labels as an iterable PyTorch dataset, every sample once."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, Any, Literal

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

# Whoever trains imports timm next, which on a CPU-only torch needs this.
import etc_data.torchvision_cpu  # noqa: F401
from etc_data.codecs import decode
from etc_data.errors import CodecError, DamagedShardError
from etc_data.keys import SecretKey
from etc_data.shards.cache import ShardCache
from etc_data.shards.data_set import DataSet, Place, check_together, fingerprint
from etc_data.shards.integers import LARGEST, to_integer
from etc_data.shards.manifest import Manifest, ShardEntry
from etc_data.shards.order import Indices, Order
from etc_data.shards.position import Position
from etc_data.shards.samples import Sample
from etc_data.shards.shares import RankPolicy, Shares
from etc_data.shards.tar import SamplePlace

Form = Literal["tensor", "pil", "numpy", "sample"]
_FORMS: tuple[Form, ...] = ("tensor", "pil", "numpy", "sample")

_UNSET = -1


def open_shards(
    folder: Place | Sequence[Place],
    *,
    split: str | None = None,
    shuffle: bool = False,
    seed: int = 0,
    form: Form = "tensor",
    transform: Callable[[Any], Any] | None = None,
    verify: bool = True,
    key: SecretKey | None = None,
    mixed: bool = False,
    ranks: RankPolicy | None = None,
    rank: int | None = None,
    world_size: int | None = None,
    batch_size: int | None = None,
    cache: ShardCache | None = None,
) -> "EtcShards":
    """Opens one or more data sets of shards for training or evaluation.

    The order of an epoch is a function of seed and epoch alone.  Ranks divide it among themselves, and
    in each rank the DataLoader's workers.  docs/reading.md shows it in use.

    Args:
        folder: the data set: a local folder, or a URL that fsspec knows, such as ``s3://bucket/set``
            or ``https://host/set``.  Remote shards are fetched into the cache, whole and verified.
            Or a list of several, which are read as one.
        split: such as ``"train"``; None reads all splits, one after the other.
        shuffle: a new order every epoch; else the order of the files.  Call `EtcShards.set_epoch`
            before each epoch.
        seed: of the order.
        form: what an image is: ``"tensor"`` uint8 [3, H, W], ``"pil"``, ``"numpy"`` uint8 [H, W, 3];
            or ``"sample"``: not (image, label) but the undecoded `Sample`.
        transform: applied to each image (with ``"sample"``: to each sample).
        verify: check each shard's size, SHA-256 and count before its first sample is given out.
        key: the owner's key, to check the seal of every manifest as well.
        mixed: whether several data sets may differ in key, scheme, key scope or context.
        ranks: how N samples are divided among R ranks.  ``"exact"``: every sample once, some ranks
            give one more than others (what evaluation wants).  ``"pad"``: each rank gives ⌈N/R⌉, the
            missing ones are the first of the epoch again.  ``"drop"``: each rank gives ⌊N/R⌋, the
            last of the epoch are left out.  By default ``"pad"`` if shuffled, else ``"exact"``.
        rank: of this process; by default torch.distributed's, or 0.
        world_size: number of such processes; by default torch.distributed's, or 1.
        batch_size: the same that the DataLoader is given: its workers' shares are then whole batches,
            and ``len(loader)`` is exact.  Without it each worker may end with a short batch.
        cache: where remote shards are kept; by default 10 GiB under ``ETC_DATA_CACHE`` or
            ``~/.cache/etc-data``.

    Raises:
        ManifestError: a manifest is missing, malformed, newer or (with the key) altered, or has no
            such split; or data sets cannot be read as one.
        WrongKeyError: the key is another.
        DamagedShardError: while iterating: a shard is missing, cut short or altered.
        StorageError: a URL cannot be reached, after several tries with growing pauses.
        TypeError: an argument is of another type.
        ValueError: an argument is out of its range.
    """
    if form not in _FORMS:
        raise ValueError(f"form is {form!r}; it must be one of {', '.join(_FORMS)}")
    if isinstance(folder, str | os.PathLike) or not isinstance(folder, Iterable):
        folder = [folder]
    places = list(folder)
    if not places:
        raise ValueError("the list of data sets is empty")
    _check_types(places, split, transform, cache)
    if ranks is None:
        ranks = "pad" if shuffle else "exact"
    shares = Shares(ranks, batch_size, rank, world_size)
    data_sets = tuple(DataSet.find(place, split, key, cache) for place in places)
    check_together(data_sets, mixed=mixed)
    counts = tuple(shard.samples for data_set in data_sets for shard in data_set.shards)
    order = Order(counts, shuffle, seed)
    shares.of_rank(order.samples)  # raises where dropping would leave nothing
    return EtcShards(data_sets, order, shares, form=form, transform=transform, verify=verify)


def _check_types(places: list[Any], split: object, transform: object, cache: object) -> None:
    for place in places:
        if not isinstance(place, str | os.PathLike):
            raise TypeError(f"a data set is named by a path or a URL, not by a {type(place).__name__}")
    if not isinstance(split, str | None):
        raise TypeError(f"split is {split!r:.60}; it must be a name such as 'train', or None for all")
    if transform is not None and not callable(transform):
        raise TypeError(f"transform is a {type(transform).__name__}; it must be a function of an image")
    if not isinstance(cache, ShardCache | None):
        raise TypeError(f"cache is a {type(cache).__name__}; it must be a ShardCache(FOLDER)")


class EtcShards(IterableDataset[Any]):
    """What `open_shards` returns; give it to a DataLoader.

    Where an epoch was left is told by `state_dict`, and taken up by `load_state_dict`, with the same
    number of ranks and workers.  With workers, torchdata's ``StatefulDataLoader`` does both.

    Attributes:
        manifests: of the data sets.
    """

    def __init__(
        self,
        data_sets: tuple[DataSet, ...],
        order: Order,
        shares: Shares,
        *,
        form: Form,
        transform: Callable[[Any], Any] | None,
        verify: bool,
    ) -> None:
        """See `open_shards`."""
        super().__init__()
        self.manifests = tuple(data_set.manifest for data_set in data_sets)
        self._data_sets = data_sets
        self._parts = [(data_set, shard) for data_set in data_sets for shard in data_set.shards]
        self._data = fingerprint(data_sets)
        self._order = order
        self._shares = shares
        self._form = form
        self._transform = transform
        self._verify = verify
        self._position: Position | None = None
        self._loaded: dict[str, int | str] | None = None
        # In shared memory, so that set_epoch reaches workers that live through many epochs.
        self._epoch = torch.tensor(_UNSET, dtype=torch.int64).share_memory_()
        self._read_by_workers = torch.tensor(False).share_memory_()

    @property
    def manifest(self) -> Manifest:
        """The manifest, where there is one data set.

        Raises:
            ValueError: there are several.
        """
        if len(self.manifests) > 1:
            raise ValueError(f"there are {len(self.manifests)} data sets: ask for manifests")
        return self.manifests[0]

    @property
    def samples(self) -> int:
        """How many samples the shards hold: what all ranks together see in an exact epoch."""
        return self._order.samples

    def __len__(self) -> int:
        """Returns how many samples this rank gives out in an epoch."""
        return len(self._shares.of_rank(self.samples))

    # -- epochs and positions in them ------------------------------------------------------------

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order of the next epoch; it reaches running DataLoader workers too.

        Raises:
            TypeError: `epoch` is no integer.
            ValueError: `epoch` is negative, or over 2⁶³ − 1.
        """
        epoch = to_integer("epoch", epoch)
        if not 0 <= epoch <= LARGEST:
            raise ValueError(f"epoch is {epoch}; it must be at least 0, and at most {LARGEST}")
        self._epoch.fill_(epoch)
        self._position = None
        self._read_by_workers.fill_(False)

    def state_dict(self) -> dict[str, int | str]:
        """Returns where this process stands in its share of the epoch, for a checkpoint.

        Raises:
            RuntimeError: DataLoader workers read, and this process does not know how far they are.
        """
        if self._read_by_workers and get_worker_info() is None:
            raise RuntimeError(
                "DataLoader workers read this data set, and each of them knows only its own position; "
                "use torchdata's StatefulDataLoader and its state_dict"
            )
        if self._loaded is not None:
            return dict(self._loaded)
        position = self._position or Position(max(0, int(self._epoch)))
        return position.to_state(self._reading())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Lets the next iteration give out what `state_dict` had left of its epoch.

        Nothing is left after the last sample: that iteration is empty, unless `set_epoch` chose
        another epoch, which then begins.

        Raises:
            ValueError: the state is malformed, or of other data, another order or another share.
        """
        Position.from_state(state_dict, self._reading())
        self._loaded = dict(state_dict)
        self._read_by_workers.fill_(False)

    def _reading(self) -> dict[str, int | str]:
        """Returns what decides which samples this process gives out in an epoch."""
        return {
            "data": self._data,
            "shuffle": int(self._order.shuffle),
            "seed": self._order.seed,
            **self._shares.describe(),
        }

    def _begin(self, share_samples: int) -> Position:
        """Returns where the iteration that begins starts."""
        epoch = int(self._epoch)
        if self._loaded is None:
            return Position(max(0, epoch))
        position = Position.from_state(self._loaded, self._reading())
        if position.given > share_samples:
            raise ValueError(f"the state is damaged: given is {position.given} of {share_samples}")
        if epoch not in (_UNSET, position.epoch):
            if position.given < share_samples:
                raise ValueError(
                    f"the state stands at sample {position.given} of {share_samples} in epoch "
                    f"{position.epoch}, but set_epoch chose epoch {epoch}; go on with "
                    f"set_epoch({position.epoch})"
                )
            position = Position(epoch)
        self._epoch.fill_(position.epoch)
        self._loaded = None
        return position

    # -- reading ---------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Any]:
        """Yields this process's share of the epoch."""
        # Not a generator itself: the position is fixed here, before the first sample is asked for.
        share = self._shares.of_process(self.samples)
        self._position = position = self._begin(len(share))
        self._read_by_workers.fill_(get_worker_info() is not None)
        return self._rest(position, share[position.given :])

    def _rest(self, position: Position, positions: range) -> Iterator[Any]:
        for number, chosen in self._order.pieces(position.epoch, positions):
            for sample in self._read(*self._parts[number], chosen):
                position.given += 1
                yield sample

    def _read(self, data_set: DataSet, shard: ShardEntry, chosen: Indices) -> Iterator[Any]:
        try:
            file, places = data_set.open(shard, verify=self._verify)
        except DamagedShardError as error:
            raise self._located(error, data_set) from None
        with file:
            for number in chosen:
                place = places[number]
                try:
                    content = self._content(place, file)
                except (CodecError, DamagedShardError) as error:
                    damage = f"shard {shard.name}: sample {place.key} cannot be read: {error}"
                    raise self._located(DamagedShardError(damage), data_set) from None
                if isinstance(content, Sample):
                    yield self._transformed(content)
                else:
                    image, label = content
                    yield self._transformed(image), label

    def _located(self, error: DamagedShardError, data_set: DataSet) -> DamagedShardError:
        if len(self._data_sets) == 1:
            return error
        # Shards of several data sets have the same names.
        return DamagedShardError(f"{data_set}: {error}", error.hint)

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
        order = f"shuffled by seed {self._order.seed}" if self._order.shuffle else "in file order"
        sets = ", ".join(
            f"{str(data_set)!r} of scheme {data_set.manifest.scheme.name!r}, key "
            f"{data_set.manifest.key_id!r}"
            for data_set in self._data_sets
        )
        return f"EtcShards({sets}: {self.samples} samples in {len(self._parts)} shards, {order})"
