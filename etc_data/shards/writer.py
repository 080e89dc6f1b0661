"""`write_shards`: from a source of plain images to a folder of encrypted shards."""

import os
import platform
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import etc_data
from etc_data.cipher import Cipher
from etc_data.codecs import Codec, JpegCodec, available_engines
from etc_data.errors import EtcError, GeometryError, SourceError, UnreadableImageError
from etc_data.fitting import Fit, Resize
from etc_data.keystream import IntArray, derived_permutation
from etc_data.shards.engine import Tick, run_jobs
from etc_data.shards.files import publish_json, writing
from etc_data.shards.indexes import side_indexes
from etc_data.shards.job import Failure, ShardJob
from etc_data.shards.ledger import Ledger
from etc_data.shards.manifest import SPLIT_PATTERN, Manifest, ShardEntry
from etc_data.shards.output import prepare_output
from etc_data.shards.samples import SampleEncoder
from etc_data.sources.images import load_rgb
from etc_data.sources.item import Item, Source, Stray
from etc_data.sources.spec import open_source

_LEAST_SAMPLES_PER_SHARD = 64
_SHARDS_WANTED = 20
_MOST_BYTES_PER_SHARD = 128 * 2**20
_UNKNOWN_SIZE_PIXELS = 512 * 512
_SIZES_TRIED = 8
_REASONS_TOLD = 3
_MOST_SHARDS = 10**6  # of a split; their numbers have six digits

StartProgress = Callable[[int], Tick]
"""Called once with the number of items; what it returns is called as they are done."""


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
    """

    manifest: Manifest
    failures: tuple[Failure, ...]
    strays: tuple[Stray, ...]
    seconds: float
    source_bytes: int
    ledger: Path


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
    samples_per_shard: int | None = None,
    workers: int = 1,
    force: bool = False,
    skip_bad: bool = False,
    progress: StartProgress | None = None,
) -> WriteSummary:
    """Encrypts all images of a source into webdataset shards and returns what was done.

    Every image is decoded, turned upright, resized, encrypted, coded and put into a tar in a secret
    order.  The same source, key and options give the same bytes for every number of workers.
    docs/format.md, "Shards", tells what lies in `out`; ``OUT.ledger/`` beside it is for the owner.

    Args:
        source: a folder of images, anything that `open_source` understands (tars of a webdataset,
            ``hf:NAME``, ``torchvision:NAME?root=…``), or any `Source`.
        out: a folder that does not exist or is empty.
        cipher: scheme, key and key scope.
        size: pixels per side, or (height, width), that all images are brought to with an antialiased
            bicubic filter; None keeps each image's own, which must then fit the grid.
        resize: ``"crop"`` covers `size` and cuts around the center, ``"exact"`` stretches.
        fit: what to do with images that do not fit the grid of blocks.
        codec: JPEG of quality 95, 4:4:4, by default.
        allow_noise: accept JPEG for a scheme that is noise to it.
        labels: whether class labels are written.
        samples_per_shard: at most; by default at least 20 shards once each would hold 64 samples, and
            about 128 MiB at most.
        workers: processes that work at the same time.
        force: replace the data set that stands in `out`.
        skip_bad: accept that items which cannot be read are left out.
        progress: for a progress bar.

    Raises:
        CodecError: the scheme is noise to JPEG and `allow_noise` is not set.
        GeometryError: `size` does not fit the grid; or there is none and the images do not fit.
        OutputExistsError: `out` holds something.
        SourceError: the source cannot be listed, overlaps with `out`, or none of it can be read.
        SkippedItemsError: items were left out and `skip_bad` is not set; the rest is written.
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
        allow_noise=allow_noise,
    )
    encoder.check()
    check_counts(workers=workers, samples_per_shard=samples_per_shard)
    folder = Path(out)
    if isinstance(source, str | os.PathLike):
        source = open_source(source)
    total = _check_source(source, encoder, samples_per_shard)
    _check_sizes(source, encoder)
    root = getattr(source, "root", None)
    ledger = prepare_output(folder, force=force, source=None if root is None else Path(root))

    tick = progress(total) if progress else lambda _: None
    jobs = _jobs(source, encoder, samples_per_shard)
    written: list[ShardEntry] = []
    found_bad: list[Failure] = []
    source_bytes = classes = 0
    for result in run_jobs(jobs, folder, workers, tick):
        found_bad += result.failures
        source_bytes += result.source_bytes
        if result.entry.samples:
            written.append(result.entry)
            ledger.write_samples(result.entry.name, result.samples)
            classes = max(classes, *(label + 1 for _, _, label in result.samples))
        else:
            # A shard of which no item could be read holds nothing that a reader could want.
            with writing(folder):
                (folder / result.entry.name).unlink()
    failures = tuple(sorted(found_bad, key=lambda failure: failure.item))
    shards = tuple(sorted(written, key=lambda shard: (source.splits.index(shard.split), shard.name)))
    if not shards:
        # There is nothing to keep, and what is left behind would stand in the way of the next try.
        ledger.remove()
        with writing(folder):
            folder.rmdir()
        reasons = "; ".join(f"{bad.item}: {bad.reason}" for bad in failures[:_REASONS_TOLD])
        raise SourceError(f"none of the {total} images could be taken: {reasons}")
    _write_notes(ledger, source, failures)
    # A source may number its classes without naming them.
    classes = max(classes, len(source.class_names)) if labels and classes else 0
    manifest = make_manifest(encoder, shards, classes)
    manifest = publish_manifest(folder, manifest, cipher)
    seconds = time.monotonic() - start
    summary = WriteSummary(
        manifest=manifest,
        failures=failures,
        strays=source.strays,
        seconds=seconds,
        source_bytes=source_bytes,
        ledger=ledger.folder,
    )
    ledger.write_json("run.json", _run_record(summary, workers))
    if failures and not skip_bad:
        raise SkippedItemsError(
            f"{len(failures)} of {total} images could not be taken and are not in {folder}; "
            f"the first: {failures[0].item}: {failures[0].reason}",
            f"{ledger.folder}/failures.jsonl lists all; --skip-bad accepts that",
            summary,
        )
    return summary


def _check_source(source: Source, encoder: SampleEncoder, samples_per_shard: int | None) -> int:
    """Returns how many items a source has, all splits together."""
    total = 0
    for split in source.splits:
        if not re.fullmatch(SPLIT_PATTERN, split):
            raise SourceError(f"split {split!r} does not match {SPLIT_PATTERN}")
        items = len(source.items(split))
        if shard_count(items, encoder, samples_per_shard) > _MOST_SHARDS:
            raise ValueError(
                f"samples_per_shard is {samples_per_shard}; {items} samples would make more than "
                f"{_MOST_SHARDS} shards"
            )
        total += items
    if not total:
        raise SourceError("the source holds no image")
    return total


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


def check_counts(*, workers: int, samples_per_shard: int | None) -> None:
    """Checks the numbers that a caller chooses.

    Raises:
        ValueError: one is less than 1.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}; it must be at least 1")
    if samples_per_shard is not None and samples_per_shard < 1:
        raise ValueError(f"samples_per_shard is {samples_per_shard}; it must be at least 1")


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


def _jobs(source: Source, encoder: SampleEncoder, samples_per_shard: int | None) -> Iterator[ShardJob]:
    for split in source.splits:
        items = source.items(split)
        order = sample_order(encoder.cipher, split, len(items))
        shards = shard_count(len(items), encoder, samples_per_shard)
        borders = np.arange(shards + 1) * len(items) // shards
        for number in range(shards):
            first, end = int(borders[number]), int(borders[number + 1])
            chosen: tuple[Item, ...] = tuple(items[int(index)] for index in order[first:end])
            yield ShardJob(shard_name(split, number), split, first, chosen, encoder)


def make_manifest(encoder: SampleEncoder, shards: tuple[ShardEntry, ...], classes: int) -> Manifest:
    """Returns the manifest of shards written with an encoder, not yet sealed."""
    cipher = encoder.cipher
    return Manifest(
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
    )


def publish_manifest(folder: Path, manifest: Manifest, cipher: Cipher) -> Manifest:
    """Writes the side indexes and then, last of all, the sealed manifest; returns it."""
    with writing(folder):
        for name, content in side_indexes(manifest).items():
            publish_json(folder / name, content)
        return manifest.write(folder, cipher.subkey("manifest"))


def _write_notes(ledger: Ledger, source: Source, failures: tuple[Failure, ...]) -> None:
    ledger.write_json("classes.json", list(source.class_names))
    rows = [{"item": f.item, "reason": f.reason, "kind": "failure"} for f in failures]
    rows += [{"item": s.id, "reason": s.reason, "kind": "stray"} for s in source.strays]
    ledger.write_lines("failures.jsonl", rows)


def _run_record(summary: WriteSummary, workers: int) -> dict[str, object]:
    return {
        "etc_data": etc_data.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "codecs": available_engines(),
        "workers": workers,
        "seconds": round(summary.seconds, 3),
        "samples": summary.manifest.samples,
        "failures": len(summary.failures),
        "strays": len(summary.strays),
        "source_bytes": summary.source_bytes,
        "bytes": summary.manifest.total_bytes,
    }
