"""One shard's work: a pure function of (slice of the source, key, options), which any engine runs."""

from collections.abc import Callable
from dataclasses import dataclass

from etc_data.errors import CodecError, EtcError, GeometryError, UnreadableImageError
from etc_data.shards.destination import Destination
from etc_data.shards.files import HashingFile
from etc_data.shards.manifest import ShardEntry
from etc_data.shards.samples import SampleEncoder
from etc_data.shards.tar import SampleTar
from etc_data.sources.item import Item


@dataclass(frozen=True)
class ShardJob:
    """What a worker needs to write one shard.

    Attributes:
        name: of the shard file.
        split: such as ``"train"``.
        first_position: of the shard's first item in its split.
        items: (item, number of its copy), in the order of the split.
        encoder: key and options.
    """

    name: str
    split: str
    first_position: int
    items: tuple[tuple[Item, int], ...]
    encoder: SampleEncoder


@dataclass(frozen=True)
class Failure:
    """An item that could not be taken, and why; for the owner's eyes alone."""

    item: str
    reason: str


@dataclass(frozen=True)
class ShardResult:
    """What became of a job.

    Attributes:
        entry: for the manifest.
        samples: (sample key, item id, label) of each sample, for the ledger.
        failures: the items that could not be taken.
        source_bytes: of the image files read.
        mark: of the uploaded shard, see `Stored`.
    """

    entry: ShardEntry
    samples: tuple[tuple[str, str, int], ...]
    failures: tuple[Failure, ...]
    source_bytes: int
    mark: str = ""


def write_shard(job: ShardJob, destination: Destination, tick: Callable[[], None]) -> ShardResult:
    """Writes one shard under its final name and returns what it holds.

    Args:
        job: the work.
        destination: where to; the shard appears there whole or not at all.
        tick: called after every item.

    Raises:
        EtcError: the shard cannot be written.
    """
    samples: list[tuple[str, str, int]] = []
    failures: list[Failure] = []
    source_bytes = 0
    try:
        with destination.publishing(job.name) as publication:
            file = HashingFile(publication)
            tar = SampleTar(file)
            for position, (item, copy) in enumerate(job.items, job.first_position):
                try:
                    data = item.read()
                    source_bytes += len(data)
                    members = job.encoder.encode_file(data, item.label, job.split, position, copy)
                except (UnreadableImageError, GeometryError, CodecError) as error:
                    failures.append(Failure(item.id, str(error)))
                else:
                    tar.add(members)
                    samples.append((members[0][0].partition(".")[0], item.id, item.label))
                tick()
            tar.close()
    except OSError as error:
        raise EtcError(f"shard {job.name} cannot be written: {error.strerror or error}") from None
    entry = ShardEntry(job.name, job.split, file.bytes_written, len(samples), file.sha256())
    return ShardResult(entry, tuple(samples), tuple(failures), source_bytes, publication.mark)
