"""`write_shards`: from a source of plain images to a folder of encrypted shards."""

import contextlib
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

import etc_data
from etc_data.augmentation import Augmentation
from etc_data.cipher import Cipher
from etc_data.codecs import Codec, JpegCodec, available_engines
from etc_data.errors import EtcError, GeometryError, SourceError, UnreadableImageError
from etc_data.fitting import Fit, Resize
from etc_data.shards.destination import Destination
from etc_data.shards.engines.local import Tick, run_jobs
from etc_data.shards.engines.ray import import_ray, run_jobs_on_ray
from etc_data.shards.files import readable_json, writing
from etc_data.shards.indexes import side_indexes
from etc_data.shards.job import Failure
from etc_data.shards.layout import ShardJobs, lay_out
from etc_data.shards.ledger import Ledger
from etc_data.shards.manifest import MANIFEST_NAME, Manifest, ShardEntry
from etc_data.shards.output import prepare_output
from etc_data.shards.run_plan import make_plan
from etc_data.shards.samples import SampleEncoder
from etc_data.shards.storage import LocalStorage
from etc_data.shards.tally import Tally, standing
from etc_data.sources.images import load_rgb
from etc_data.sources.item import Source, Stray
from etc_data.sources.spec import open_source

_SIZES_TRIED = 8
_REASONS_TOLD = 3

Engine = Literal["local", "ray"]
_RUN_JOBS = {"local": run_jobs, "ray": run_jobs_on_ray}

StartProgress = Callable[[int], Tick]
"""Called once with the number of samples; what it returns is called as they are done."""


@dataclass(frozen=True)
class WriteSummary:
    """What `write_shards` did.

    Attributes:
        manifest: as published.
        failures: items that could not be read or do not fit, with reasons.
        strays: what lay in the source and was not taken, with reasons.
        seconds: of wall time.
        source_bytes: of the plain image files read.
        ledger: the owner's ledger, never to be uploaded.
        resumed: how many samples stood there from an earlier run.
        unchanged: whether there was nothing to do, and nothing was touched.
    """

    manifest: Manifest
    failures: tuple[Failure, ...]
    strays: tuple[Stray, ...]
    seconds: float
    source_bytes: int
    ledger: Path
    resumed: int = 0
    unchanged: bool = False


class SkippedItemsError(EtcError):
    """The data set is written and whole, but some items of the source are not in it."""

    def __init__(
        self, message: str, hint: str | None = None, summary: WriteSummary | None = None
    ) -> None:
        super().__init__(message, hint)
        self.summary = summary


def write_shards(
    source: str | os.PathLike[str] | Source,
    out: str | os.PathLike[str],
    cipher: Cipher,
    *,
    size: int | tuple[int, int] | None = None,
    resize: Resize = "crop",
    fit: Fit | None = None,
    codec: Codec | None = None,
    allow_noise: bool = False,
    labels: bool = True,
    class_names: bool = False,
    augment: str | None = None,
    copies: int = 1,
    samples_per_shard: int | None = None,
    workers: int = 1,
    engine: Engine = "local",
    force: bool = False,
    resume: bool = False,
    skip_bad: bool = False,
    ledger: str | os.PathLike[str] | None = None,
    progress: StartProgress | None = None,
) -> WriteSummary:
    """Encrypts all images of a source into webdataset shards and returns what was done.

    Every image is decoded, turned upright, resized, encrypted, coded and put into a tar in a secret
    order.  The same source, key and options give the same bytes for every engine and number of
    workers, and for a run that was killed and resumed.  docs/format.md, "Shards", tells what lies in
    `out`; the ledger is for the owner alone.

    Args:
        source: a folder of images, anything that `open_source` understands (tars of a webdataset,
            ``hf:NAME``, ``torchvision:NAME?root=…``), or any `Source`.
        out: a folder that does not exist or is empty, or a URL to upload to, such as
            ``s3://bucket/set``; its manifest appears when every shard has arrived.
        cipher: scheme, key and key scope.
        size: pixels per side, or (height, width), that all images are brought to with an antialiased
            bicubic filter; None keeps each image's own, which must then fit the grid.
        resize: ``"crop"`` covers `size` and cuts around the center, ``"exact"`` stretches.
        fit: what to do with images that do not fit the grid of blocks.
        codec: JPEG of quality 95, 4:4:4, by default.
        allow_noise: accept JPEG for a scheme that is noise to it.
        labels: whether class labels are written.
        class_names: whether the manifest, which is public, names the classes.
        augment: a recipe of `Augmentation` for the split ``"train"``, since encrypted images can
            neither be cropped nor flipped.
        copies: how many samples each image of that split becomes, each augmented in its own way.
        samples_per_shard: at most; by default at least 20 shards once each would hold 64 samples, and
            about 128 MiB at most.
        workers: processes that work at the same time.
        engine: ``"local"`` processes, or tasks of a ``"ray"`` cluster, which must be the owner's: it
            sees the key and the plain images.
        force: replace the data set that stands in `out`.
        resume: continue what a run with the same source, key and options left unfinished in `out`;
            start if there is nothing, do nothing if it is finished.
        skip_bad: accept that items which cannot be read are left out; without it, `resume` tries
            them again.
        ledger: the ledger's folder; by default ``OUT.ledger`` beside `out`, or in the current folder
            if `out` is a URL.
        progress: for a progress bar.

    Raises:
        AugmentationError: the recipe is unknown, or its copies would be equal or give the plain
            images away.
        CodecError: the scheme is noise to JPEG and `allow_noise` is not set.
        GeometryError: `size` does not fit the grid; or there is none and the images do not fit.
        OutputExistsError: `out` holds something, another run is writing there, or it cannot be
            resumed since something differs.
        SourceError: the source cannot be listed, overlaps with `out`, or none of it can be read.
        SkippedItemsError: items were left out and `skip_bad` is not set; the rest is written.
        StorageError: the URL cannot be written to.
        EtcError: `out` cannot be written, or a worker process was killed.
    """
    start = time.monotonic()
    encoder = SampleEncoder(
        cipher=cipher,
        codec=codec or JpegCodec(),
        size=(size, size) if isinstance(size, int) else size,
        resize=resize,
        fit=fit,
        labels=labels,
        augmentation=None if augment is None else Augmentation(augment),
        copies=copies,
        allow_noise=allow_noise,
    )
    encoder.check()
    check_counts(workers=workers, samples_per_shard=samples_per_shard)
    if engine not in _RUN_JOBS:
        raise ValueError(f"engine is {engine!r}; it must be one of {', '.join(_RUN_JOBS)}")
    if class_names and not labels:
        raise ValueError("class_names needs labels: without them the manifest has no classes to name")
    if force and resume:
        raise ValueError("force starts anew and resume continues; give one of them")
    if isinstance(source, str | os.PathLike):
        source = open_source(source)
    shards = lay_out(source, encoder, samples_per_shard)
    _check_sizes(source, encoder)
    if engine == "ray":
        import_ray()
    if force:
        _check_readable(source)
    root = getattr(source, "root", None)
    destination, notes = prepare_output(
        out,
        force=force,
        plan=make_plan(encoder, source, shards, class_names=class_names),
        resume=resume,
        source=None if root is None else Path(root),
        ledger=ledger,
    )
    try:
        jobs = ShardJobs(source, encoder, shards)
        tally = Tally()
        if resume:
            tally, is_all = standing(jobs, destination, notes, skip_bad=skip_bad)
            if is_all:
                destination = replace(destination, claim=None)
        with _can_be_resumed():
            _run(jobs, tally, destination, notes, engine, workers, progress)
        failures = tuple(sorted(tally.failures, key=lambda failure: failure.item))
        if not tally.entries:
            _remove_all(destination, notes)
            raise _nothing_taken(jobs.samples, failures)
        # A source may number its classes without naming them.
        classes = max(tally.classes, len(source.class_names)) if labels and tally.classes else 0
        names = source.class_names if class_names else ()
        manifest = make_manifest(encoder, tally.ordered(source.splits), classes, names)
        with _can_be_resumed():
            _write_notes(notes, source, failures)
            published = publish_manifest(destination, manifest, tally.marks)
        summary = WriteSummary(
            manifest=manifest,
            failures=failures,
            strays=source.strays,
            seconds=time.monotonic() - start,
            source_bytes=tally.source_bytes,
            ledger=notes.folder,
            resumed=tally.resumed,
            unchanged=not published,
        )
        if published:
            notes.write_json("run.json", _run_record(summary, workers, engine))
    finally:
        notes.unlock()
    if failures and not skip_bad:
        raise SkippedItemsError(
            f"{len(failures)} of {jobs.samples} images could not be taken and are not in "
            f"{destination}; the first: {failures[0].item}: {failures[0].reason}",
            f"{notes.folder}/failures.jsonl lists all; --skip-bad accepts that, --resume tries again",
            summary,
        )
    return summary


@contextlib.contextmanager
def _can_be_resumed() -> Iterator[None]:
    """Tells whoever meets an error that what is written by now need not be written again."""
    try:
        yield
    except EtcError as error:
        error.hint = error.hint or "put that right, and continue with --resume"
        raise


def _run(
    jobs: ShardJobs,
    tally: Tally,
    destination: Destination,
    notes: Ledger,
    engine: Engine,
    workers: int,
    progress: StartProgress | None,
) -> None:
    """Writes all shards that do not stand yet, and adds them to the tally."""
    tick = progress(jobs.samples) if progress else lambda _: None
    if tally.names:
        tick(tally.resumed + len(tally.failures))
    rest = replace(jobs, standing=frozenset(tally.names))
    # A process more than there are shards would be started for nothing.
    workers = max(1, min(workers, sum(jobs.shards.values()) - len(tally.names)))
    for result in _RUN_JOBS[engine](rest, destination, workers, tick):
        if not result.entry.samples:
            # Of which no item could be read; it holds nothing that a reader could want.
            destination.delete(result.entry.name)
        notes.write_result(result)
        tally.add(result)


def _remove_all(destination: Destination, notes: Ledger) -> None:
    # There is nothing to keep, and what is left behind would stand in the way of the next try.
    destination.drop_claim()
    notes.clear()
    if isinstance(destination.storage, LocalStorage):
        with contextlib.suppress(OSError):
            destination.storage.folder.rmdir()


def _check_sizes(source: Source, encoder: SampleEncoder) -> None:
    """Checks a few images of a source whose images keep their own sizes, before any work.

    Raises:
        GeometryError: none of them fits the grid.
    """
    if encoder.size is not None or encoder.fit is not None:
        return
    items = source.items(source.splits[0])
    first: GeometryError | None = None
    for item in items[:: max(1, len(items) // _SIZES_TRIED)][:_SIZES_TRIED]:
        try:
            image = load_rgb(item.read())
            encoder.cipher.scheme.check_size(image.height, image.width)
        except UnreadableImageError:
            continue
        except GeometryError as error:
            first = first or GeometryError(
                f"{item.id}: {error}",
                "bring all images to one size with --size, or each to the grid with --fit",
            )
        else:
            return
    if first is not None:
        raise first


def _check_readable(source: Source) -> None:
    """Checks that there is anything to write, before an old data set is deleted for it.

    Raises:
        SourceError: none of the images can be read.
    """
    failures = []
    for split in source.splits:
        for item in source.items(split):
            try:
                load_rgb(item.read())
            except UnreadableImageError as error:
                failures.append(Failure(item.id, str(error)))
            else:
                return
    raise _nothing_taken(len(failures), failures)


def _nothing_taken(count: int, failures: Sequence[Failure]) -> SourceError:
    reasons = "; ".join(f"{bad.item}: {bad.reason}" for bad in failures[:_REASONS_TOLD])
    return SourceError(f"none of the {count} images could be taken: {reasons}")


def check_counts(*, workers: int, samples_per_shard: int | None) -> None:
    """Checks the numbers that a caller chooses.

    Raises:
        ValueError: one is less than 1.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}; it must be at least 1")
    if samples_per_shard is not None and samples_per_shard < 1:
        raise ValueError(f"samples_per_shard is {samples_per_shard}; it must be at least 1")


def make_manifest(
    encoder: SampleEncoder,
    shards: tuple[ShardEntry, ...],
    classes: int,
    class_names: tuple[str, ...] = (),
) -> Manifest:
    """Returns the sealed manifest of shards written with an encoder."""
    cipher = encoder.cipher
    manifest = Manifest(
        scheme=cipher.scheme,
        key_id=cipher.key_id,
        key_scope=cipher.key_scope,
        context=cipher.context,
        size=encoder.size,
        resize=encoder.resize,
        fit=encoder.fit,
        codec=dict(encoder.codec.describe()),
        labels="keep" if classes else "none",
        classes=classes,
        shards=shards,
        augmentation=None if encoder.augmentation is None else str(encoder.augmentation),
        copies=encoder.copies,
        class_names=class_names if classes == len(class_names) else (),
    )
    return manifest.sealed(cipher.subkey("manifest"))


def publish_manifest(destination: Destination, manifest: Manifest, marks: Mapping[str, str]) -> bool:
    """Writes the side indexes and then, last of all, the manifest.

    Args:
        destination: where the shards are.
        manifest: that tells of them.
        marks: shard → mark that it got when it was written.

    Returns:
        Whether any of them was not there yet; those that were are left alone.

    Raises:
        StorageError: a shard has not arrived, or a file cannot be uploaded.
        OutputExistsError: another run has laid a claim to the URL meanwhile.
        EtcError: the folder cannot be written.
    """
    destination.check_arrived(manifest.shards, marks)
    written = [_publish(destination, *index) for index in side_indexes(manifest).items()]
    # The manifest makes it a whole data set, and a whole one is claimed by nobody.
    destination = destination.drop_claim()
    return _publish(destination, MANIFEST_NAME, manifest.to_dict()) or any(written)


def _publish(destination: Destination, name: str, content: object) -> bool:
    """Writes a file of JSON, unless it is there as it should be; returns whether it was not."""
    data = readable_json(content)
    with writing(Path(str(destination))):
        if destination.holds(name, data):
            return False
        with destination.publishing(name) as file:
            file.write(data)
    return True


def _write_notes(ledger: Ledger, source: Source, failures: tuple[Failure, ...]) -> None:
    ledger.write_json("classes.json", list(source.class_names))
    rows = [{"item": f.item, "reason": f.reason, "kind": "failure"} for f in failures]
    rows += [{"item": s.id, "reason": s.reason, "kind": "stray"} for s in source.strays]
    ledger.write_lines("failures.jsonl", rows)


def _run_record(summary: WriteSummary, workers: int, engine: Engine) -> dict[str, object]:
    return {
        "etc_data": etc_data.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "codecs": available_engines(),
        "engine": engine,
        "workers": workers,
        "seconds": round(summary.seconds, 3),
        "samples": summary.manifest.samples,
        "resumed": summary.resumed,
        "failures": len(summary.failures),
        "strays": len(summary.strays),
        "source_bytes": summary.source_bytes,
        "bytes": summary.manifest.total_bytes,
    }
