"""What the results of a run's shards say together, and which of them an earlier run has left."""

from dataclasses import dataclass, field

from etc_data.errors import ManifestError, OutputExistsError
from etc_data.shards.destination import Destination
from etc_data.shards.job import Failure, ShardResult
from etc_data.shards.layout import ShardJobs
from etc_data.shards.ledger import Ledger
from etc_data.shards.manifest import MANIFEST_NAME, Manifest, ShardEntry


@dataclass
class Tally:
    """What all results together say.

    Attributes:
        names: of the shards that are done.
        entries: of those that hold something, for the manifest.
        failures: the items that could not be taken.
        source_bytes: of the image files read.
        classes: one more than the largest label.
        resumed: samples that an earlier run has written.
        marks: shard → mark of the uploaded file, see `Stored`.
    """

    names: set[str] = field(default_factory=set)
    entries: list[ShardEntry] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    source_bytes: int = 0
    classes: int = 0
    resumed: int = 0
    marks: dict[str, str] = field(default_factory=dict)

    def add(self, result: ShardResult) -> None:
        """Counts one shard in."""
        self.names.add(result.entry.name)
        self.marks[result.entry.name] = result.mark
        self.failures += result.failures
        self.source_bytes += result.source_bytes
        if result.entry.samples:
            self.entries.append(result.entry)
            self.classes = max(self.classes, *(label + 1 for _, _, label in result.samples))

    def ordered(self, splits: tuple[str, ...]) -> tuple[ShardEntry, ...]:
        """Returns the entries in the order of the manifest."""
        key = {split: number for number, split in enumerate(splits)}
        return tuple(sorted(self.entries, key=lambda entry: (key[entry.split], entry.name)))


def standing(
    jobs: ShardJobs, destination: Destination, ledger: Ledger, *, skip_bad: bool
) -> tuple[Tally, bool]:
    """Returns what an earlier run has written and what is still there, and whether that is all.

    If it is not, the manifest is deleted: nobody shall take it for a whole data set.

    Args:
        jobs: of the whole data set.
        destination: where it stands.
        ledger: of the earlier run.
        skip_bad: whether shards with failures need not be tried again.

    Raises:
        OutputExistsError: what stands there is not what the ledger tells of.
        StorageError: the place cannot be listed.
    """
    present = destination.files()
    names = set(jobs.names)
    surplus = sorted(name for name in present if name.endswith(".tar") and name not in names)
    if surplus:
        raise _not_of_this_run(destination, ledger, surplus[0])
    listed = _listed(destination) if MANIFEST_NAME in present else {}
    tally = Tally()
    known = 0
    for name in jobs.names:
        result = ledger.read_result(name)
        if result is None:
            continue
        if name in listed:
            known += 1
            if listed[name] != result.entry:
                raise _not_of_this_run(destination, ledger, name)
        if result.failures and not skip_bad:
            continue
        if destination.is_unchanged(result.entry, result.mark, present.get(name)):
            tally.add(result)
            tally.resumed += result.entry.samples
    if listed and not known:
        raise _not_of_this_run(destination, ledger, next(iter(listed)))
    is_all = MANIFEST_NAME in present and len(tally.names) == len(names)
    if not is_all:
        destination.lay_claim()
        destination.delete(MANIFEST_NAME)
    return tally, is_all


def _listed(destination: Destination) -> dict[str, ShardEntry]:
    try:
        manifest = Manifest.read(destination.storage)
    except ManifestError:
        return {}  # damaged; it is written anew
    return {shard.name: shard for shard in manifest.shards}


def _not_of_this_run(destination: Destination, ledger: Ledger, name: str) -> OutputExistsError:
    return OutputExistsError(
        f"{destination} cannot be resumed: its {name} is of another run than {ledger.folder} tells of",
        "name the right ledger with --ledger, or start anew with --force",
    )
