"""Which sample goes into which shard, and where in it: a secret order, cut into equal stretches."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from etc_data.cipher import Cipher
from etc_data.errors import AugmentationError, SourceError
from etc_data.keystream import IntArray, derived_permutation
from etc_data.shards.job import ShardJob
from etc_data.shards.manifest import SPLIT_PATTERN
from etc_data.shards.samples import AUGMENTED_SPLIT, SampleEncoder
from etc_data.sources.item import Source

_LEAST_SAMPLES_PER_SHARD = 64
_SHARDS_WANTED = 20
_MOST_BYTES_PER_SHARD = 128 * 2**20
_UNKNOWN_SIZE_PIXELS = 512 * 512
_MOST_SHARDS = 10**6  # of a split; their numbers have six digits


def lay_out(source: Source, encoder: SampleEncoder, samples_per_shard: int | None) -> dict[str, int]:
    """Returns into how many shards the samples of each split go.

    Raises:
        AugmentationError: there is no split to augment.
        SourceError: the source is empty, or a split's name is unusable.
        ValueError: there would be too many shards.
    """
    shards = {}
    for split in source.splits:
        if not re.fullmatch(SPLIT_PATTERN, split):
            raise SourceError(f"split {split!r} does not match {SPLIT_PATTERN}")
        samples = len(source.items(split)) * encoder.copies_of(split)
        shards[split] = shard_count(samples, encoder, samples_per_shard)
        if shards[split] > _MOST_SHARDS:
            raise ValueError(
                f"samples_per_shard is {samples_per_shard}; {samples} samples would make more than "
                f"{_MOST_SHARDS} shards"
            )
    if not any(len(source.items(split)) for split in source.splits):
        raise SourceError("the source holds no image")
    changed = encoder.augmentation is not None or encoder.copies > 1
    if changed and AUGMENTED_SPLIT not in source.splits:
        raise AugmentationError(
            f"only the split {AUGMENTED_SPLIT} is augmented and copied, and the source has "
            f"{', '.join(source.splits)}"
        )
    return shards


def shard_count(items: int, encoder: SampleEncoder, samples_per_shard: int | None) -> int:
    """Returns into how many shards the items of a split go; it depends on nothing else."""
    if samples_per_shard is not None:
        return max(1, -(-items // samples_per_shard))
    pixels = _UNKNOWN_SIZE_PIXELS if encoder.size is None else encoder.size[0] * encoder.size[1]
    bytes_per_pixel = 1 if encoder.codec.extension == "jpg" else 3
    most = max(1, _MOST_BYTES_PER_SHARD // (pixels * bytes_per_pixel))
    return max(1, -(-items // most), min(_SHARDS_WANTED, items // _LEAST_SAMPLES_PER_SHARD))


def shard_name(split: str, number: int) -> str:
    """Returns the file name of a shard."""
    return f"{split}-{number:06d}.tar"


def sample_order(cipher: Cipher, split: str, count: int) -> IntArray:
    """Returns the secret order of a split: position k holds item ``order[k]``."""
    purpose = (cipher.context.encode("utf-8"), split.encode("ascii"))
    return derived_permutation(cipher.subkey("sample-order"), purpose, count)


@dataclass(frozen=True)
class ShardJobs(Iterable[ShardJob]):
    """The jobs of all shards, made as they are asked for.

    Attributes:
        source: the images.
        encoder: key and options.
        shards: split → number of shards.
        standing: names of shards that need not be written.
    """

    source: Source
    encoder: SampleEncoder
    shards: Mapping[str, int]
    standing: Collection[str] = ()

    @property
    def samples(self) -> int:
        """How many samples all shards are to hold."""
        return sum(self._samples_of(split) for split in self.shards)

    @property
    def names(self) -> Iterator[str]:
        """The names of all shards."""
        for split, count in self.shards.items():
            yield from (shard_name(split, number) for number in range(count))

    def _samples_of(self, split: str) -> int:
        return len(self.source.items(split)) * self.encoder.copies_of(split)

    def __iter__(self) -> Iterator[ShardJob]:
        for split, count in self.shards.items():
            items, copies = self.source.items(split), self.encoder.copies_of(split)
            samples = self._samples_of(split)
            order = sample_order(self.encoder.cipher, split, samples)
            borders = np.arange(count + 1) * samples // count
            for number in range(count):
                name = shard_name(split, number)
                if name in self.standing:
                    continue
                first, end = int(borders[number]), int(borders[number + 1])
                chosen = (divmod(int(index), copies) for index in order[first:end])
                members = tuple((items[item], copy) for item, copy in chosen)
                yield ShardJob(name, split, first, members, self.encoder)
