"""Times writing and reading of shards against the same without encryption, and against plain loops.

    python benchmarks/pipeline.py [PHOTOS] [--images N] [--memory N N] [--quick] [--json FILE]

PHOTOS is a folder of photos such as an ImageFolder; by default ../shared/data/photos (or photos/ in the
folder that ETC_DATA_TEST_IMAGES names), else scikit-image's own.  They are repeated where they are few.

Writing: decode, orient, resize, encrypt, JPEG of quality 95 with 4:4:4, tar, hash; one process.

* *no encryption*: `write_shards` with a cipher that returns the image as it is.  What remains between
  the two is encryption and whatever JPEG coding makes of an encrypted image.
* *plain loop*: `webdataset.ShardWriter` around Pillow, to the same pixels and JPEG options.

Reading: `open_shards` with verification against webdataset on the same shards, whole and in order,
once with webdataset's own decoders and once with ours, so that only the reading differs.

Rounds visit all variants in turn, each time beginning with another.  Speeds are per second of CPU
time, that is per core, from the least time of all rounds; beside them stand the medians and the wall
time, which also waits for the disk and for other processes.  Files lie in the page cache; ours are
flushed to disk (fsync) before they get their name, webdataset's are not.  The stages are of the
quickest of a few profiles, by wall time; the profiler itself costs 5 to 10 %, most of it where much
Python runs (tar, the rest).  Each peak of memory is of a fresh process.  At last the command is run on
100 photos, to tell how long its process takes to start.
"""

import argparse
import cProfile
import hashlib
import importlib.metadata
import io
import json
import multiprocessing
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import webdataset as wds
from machine import cpu_name
from PIL import Image
from rich.console import Console
from rich.table import Table

from etc_data import Cipher, SecretKey
from etc_data.codecs import JpegCodec, available_engines, decode
from etc_data.fitting import prepare_image
from etc_data.shards import open_shards, write_shards
from etc_data.shards.tar import SampleTar
from etc_data.sources.folder import ImageFolder
from etc_data.sources.images import load_rgb
from etc_data.sources.item import Item, LazyItems, Stray

KEY = SecretKey(bytes(32))
QUALITY = 95
STAGES: dict[str, Any] = {
    "read": Item.read,
    "decode": load_rgb,
    "resize": prepare_image,
    "encrypt": Cipher.encrypt,
    "encode": JpegCodec.encode,
    "tar": SampleTar.add,  # with the hash of the shard
}
FLAT = 1.05  # of the peak at the smaller number of samples
LAPTOP_IMAGES = 100
SHARED_DATA = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"


class NoCipher(Cipher):
    """Stands for a cipher where encryption is left out."""

    def encrypt(self, image: Any, *, nonce: Any = None, fit: Any = None) -> Any:
        """Returns the image as it is."""
        return image


@dataclass(frozen=True)
class Photos:
    """A source of as many photos as asked for, spread over a folder's, or repeating them."""

    found: tuple[Item, ...]
    class_names: tuple[str, ...]
    count: int
    splits: tuple[str, ...] = ("train",)
    strays: tuple[Stray, ...] = ()

    @classmethod
    def read(cls, folder: Path, count: int) -> "Photos":
        """Returns `count` photos of a folder."""
        source = ImageFolder(folder)
        found = tuple(item for split in source.splits for item in source.items(split))
        return cls(found, source.class_names or ("photo",), count)

    def items(self, split: str) -> Sequence[Item]:
        """Returns the photos; there is one split."""
        return LazyItems(range(self.count), self._item)

    def _item(self, number: int) -> Item:
        found = len(self.found)
        chosen = number * found // self.count if self.count < found else number % found
        item = self.found[chosen]
        return Item(f"{number}/{item.id}", max(0, item.label), item.reader)


@dataclass
class Variant:
    """One way to do the work, and the seconds that it took in each round."""

    name: str
    run: Callable[[], None]
    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)

    def speed(self, other: "Variant") -> dict[str, float]:
        """Returns how fast this is in times of another."""
        pairs = zip(other.cpu, self.cpu, strict=True)
        return {
            "best": min(other.cpu) / min(self.cpu),
            "median": statistics.median(theirs / own for theirs, own in pairs),
            "wall": min(other.wall) / min(self.wall),
        }


def measure(variants: list[Variant], rounds: int) -> None:
    """Runs all variants in turn, after one run each that is not counted."""
    for variant in variants:
        variant.run()
    for number in range(rounds):
        first = number % len(variants)
        for variant in variants[first:] + variants[:first]:
            wall, cpu = time.perf_counter(), time.process_time()
            variant.run()
            variant.cpu.append(time.process_time() - cpu)
            variant.wall.append(time.perf_counter() - wall)


# -- writing ------------------------------------------------------------------------------------


def write(photos: Photos, cipher: Cipher, out: Path, size: int) -> None:
    """Writes shards with `write_shards`."""
    write_shards(photos, out, cipher, size=size, codec=JpegCodec(QUALITY), force=True)


def plain_loop(photos: Photos, out: Path, size: int) -> None:
    """Writes plain shards as one does without this library."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    with wds.ShardWriter(str(out / "train-%06d.tar"), maxcount=64, verbose=0) as sink:
        for number, item in enumerate(photos.items("train")):
            with Image.open(io.BytesIO(item.read())) as opened:
                image = opened.convert("RGB")
            short = min(image.size)
            scaled = (image.width * size // short, image.height * size // short)
            image = image.resize(scaled, Image.Resampling.BICUBIC)
            left, top = round((image.width - size) / 2), round((image.height - size) / 2)
            image = image.crop((left, top, left + size, top + size))
            file = io.BytesIO()
            image.save(file, "JPEG", quality=QUALITY, subsampling="4:4:4")
            sink.write({"__key__": f"{number:09d}", "jpg": file.getvalue(), "cls": item.label})


def coded_pixels(folder: Path) -> set[bytes]:
    """Returns the pixels of all images in a folder of shards, hashed."""
    found = set()
    for path in folder.glob("*.tar"):
        with tarfile.open(path) as tar:
            for member in tar:
                file = tar.extractfile(member)
                if member.name.endswith(".jpg") and file is not None:
                    found.add(hashlib.sha256(decode(file.read()).tobytes()).digest())
    return found


def stage_shares(run: Callable[[], None], rounds: int) -> dict[str, float]:
    """Returns the share of every stage in the quickest run of `write_shards`; they add up to 1."""
    profiles: list[dict[Any, float]] = []
    for _ in range(rounds):
        profiler = cProfile.Profile()
        profiler.runcall(run)
        profiles.append({entry.code: entry.totaltime for entry in profiler.getstats()})
    spent = min(profiles, key=lambda profile: profile[write_shards.__code__])
    total = spent[write_shards.__code__]
    shares = {name: spent[function.__code__] / total for name, function in STAGES.items()}
    return {**shares, "the rest": 1 - sum(shares.values())}


def next_limit(shares: dict[str, float]) -> str:
    """Returns in a sentence what writing waits for most, and what doing without it would give."""
    name, share = max(shares.items(), key=lambda entry: entry[1])
    return (
        f"The next limit is the stage “{name}”, {share:.0%} of the time: at no cost it would make "
        f"writing {1 / (1 - share):.2f} times as fast, encryption at no cost "
        f"{1 / (1 - shares['encrypt']):.2f} times."
    )


# -- reading ------------------------------------------------------------------------------------


def read(folder: Path, form: Any, verify: bool = True) -> None:
    """Reads all samples with `open_shards`."""
    shards = open_shards(folder, form=form, verify=verify)
    count = sum(1 for _ in shards)
    if count != shards.samples:
        raise AssertionError(f"{count} samples read of {shards.samples}")


def raw_read(folder: Path, decoder: str | None) -> None:
    """Reads all samples with webdataset, with its own decoder of that name or with ours."""
    paths = [str(path) for path in sorted(folder.glob("*.tar"))]
    samples = wds.WebDataset(paths, shardshuffle=False, empty_check=False)
    pairs: Iterator[Any]
    if decoder is None:
        pairs = iter(samples.to_tuple("jpg", "cls").map_tuple(decode, int))
    else:
        pairs = iter(samples.decode(decoder).to_tuple("jpg", "cls"))
    for _ in pairs:
        pass


# -- memory and start-up ------------------------------------------------------------------------


def peak() -> float:
    """Returns the largest resident size of this process so far, in MiB; not a number outside Linux.

    getrusage would not do: a new process begins with its parent's peak.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return float("nan")
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def peak_of_writing(folder: Path, count: int, out: Path, size: int, scheme: str) -> float:
    """Returns the peak of this process after `count` photos were written, in MiB."""
    write(Photos.read(folder, count), Cipher(scheme, KEY), out, size)
    return peak()


def peak_of_reading(out: Path) -> float:
    """Returns the peak of this process after a data set was read, in MiB."""
    torch.set_num_threads(1)
    read(out, "tensor")
    return peak()


def in_own_process(task: Callable[..., float], *arguments: Any) -> float:
    """Returns what a task returns in a fresh process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(task, *arguments).result()


def peaks(folder: Path, count: int, scratch: Path, size: int, scheme: str) -> dict[str, float]:
    """Returns the peaks of writing and of reading `count` photos, in MiB."""
    out = scratch / f"memory-{count}"
    written = in_own_process(peak_of_writing, folder, count, out, size, scheme)
    was_read = in_own_process(peak_of_reading, out)
    shutil.rmtree(out)
    return {"writing": written, "reading": was_read}


def run_command(folder: Path, scratch: Path, size: int) -> dict[str, float]:
    """Returns what the command says of encrypting a few photos, and its seconds around the work."""
    KEY.save(scratch / "benchmark.key")
    arguments = ["encrypt", folder, scratch / "laptop", "--key", scratch / "benchmark.key"]
    options = ["--size", size, "--limit", LAPTOP_IMAGES, "--json"]
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "etc_data", *map(str, [*arguments, *options])],
        capture_output=True,
        check=True,
    )
    wall = time.perf_counter() - start
    summary = json.loads(done.stdout)
    kept = {name: summary[name] for name in ("samples", "shards", "seconds")}
    return {**kept, "around": wall - summary["seconds"]}


# -- the report ---------------------------------------------------------------------------------


def default_photos(scratch: Path) -> Path:
    """Returns the folder of shared photos, or one with scikit-image's as JPEG files."""
    shared = Path(os.environ.get("ETC_DATA_TEST_IMAGES", SHARED_DATA)) / "photos"
    if shared.is_dir():
        return shared.resolve()
    from skimage import data

    folder = scratch / "scikit-image"
    for name in ("astronaut", "cat", "coffee"):
        (folder / name).mkdir(parents=True)
        picture = Image.fromarray(getattr(data, name)())
        picture.save(folder / name / f"{name}.jpg", quality=QUALITY, subsampling="4:4:4")
    return folder


def machine() -> dict[str, Any]:
    """Returns what a reader needs to place the figures."""
    return {
        "cpu": cpu_name(),
        "processes": 1,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in ("numpy", "torch", "webdataset")},
        "jpeg": "; ".join(available_engines().values()),
    }


def speed_table(title: str, variants: list[Variant], images: int) -> Table:
    """Returns a table of speeds."""
    view = Table(title=title, title_justify="left")
    view.add_column("", no_wrap=True)
    for heading in ("images/s per core", "median", "images/s of wall time"):
        view.add_column(heading, justify="right", no_wrap=True)
    for variant in variants:
        seconds = (min(variant.cpu), statistics.median(variant.cpu), min(variant.wall))
        view.add_row(variant.name, *(f"{images / taken:.0f}" for taken in seconds))
    return view


def ratio_line(one: Variant, other: Variant, must: float, aim: float) -> tuple[str, dict[str, Any]]:
    """Returns a budget's line, and the same for JSON."""
    speed = one.speed(other)
    best = speed["best"]
    line = (
        f"{one.name} against {other.name}: {best:.3f} "
        f"(median {speed['median']:.3f}, wall {speed['wall']:.3f}); "
        f"at least {must:g}: {'yes' if best >= must else 'NO'}; aim {aim:g}: "
        f"{'yes' if best >= aim else 'no'}"
    )
    return line, {"of": one.name, "against": other.name, **speed, "must": must, "aim": aim}


def memory_lines(found: dict[int, dict[str, float]]) -> Iterator[str]:
    """Yields the peaks of memory, and whether they are flat."""
    few, many = min(found), max(found)
    for what in ("writing", "reading"):
        low, high = found[few][what], found[many][what]
        each = (high - low) * 2**20 / (many - few)
        yield (
            f"peak memory, {what}: {low:.0f} MiB for {few} samples, {high:.0f} MiB for {many} "
            f"({each:+.0f} bytes a sample); flat: {'yes' if high < FLAT * low else 'NO'}"
        )


def main() -> None:
    """Runs the benchmark and prints its tables."""
    parser = argparse.ArgumentParser(description="Time the writing and reading of shards.")
    parser.add_argument("photos", nargs="?", type=Path, help="folder (default: the shared photos)")
    parser.add_argument("--images", type=int, default=300, help="per run (default 300)")
    parser.add_argument("--size", type=int, default=224, help="pixels per side (default 224)")
    parser.add_argument("--scheme", default="etc-16", help="default etc-16")
    parser.add_argument("--rounds", type=int, default=11, help="default 11")
    parser.add_argument(
        "--memory",
        type=int,
        nargs=2,
        default=(1_000, 10_000),
        metavar="N",
        help="samples at which memory is measured (default 1000 10000)",
    )
    parser.add_argument("--quick", action="store_true", help="3 rounds: a rough answer")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    arguments = parser.parse_args()
    if arguments.memory[0] >= arguments.memory[1]:
        parser.error("--memory takes two numbers, the smaller one first")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        report = benchmark(arguments, Path(scratch))
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


def benchmark(arguments: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Measures and prints everything, and returns the figures."""
    start = time.perf_counter()
    console = Console(width=160, highlight=False, soft_wrap=True)
    size, scheme, count = arguments.size, arguments.scheme, arguments.images
    rounds = 3 if arguments.quick else arguments.rounds
    folder = arguments.photos or default_photos(scratch)
    photos = Photos.read(folder, count)
    facts = {**machine(), "photos": f"{len(photos.found)} in {folder.name}", "images": count}
    facts |= {"size": size, "scheme": scheme, "rounds": rounds}
    for name, value in facts.items():
        console.print(f"{name:12} {value}")

    dataset, image = Cipher(scheme, KEY), Cipher(scheme, KEY, key_scope="image")
    nothing = NoCipher(scheme, KEY)
    out = {name: scratch / name for name in ("dataset", "image", "none", "plain")}
    encrypted = Variant("write, encrypted", lambda: write(photos, dataset, out["dataset"], size))
    per_image = Variant("write, a key per image", lambda: write(photos, image, out["image"], size))
    bare = Variant("write, no encryption", lambda: write(photos, nothing, out["none"], size))
    loop = Variant("plain loop", lambda: plain_loop(photos, out["plain"], size))
    writers = [encrypted, per_image, bare, loop]
    measure(writers, rounds)
    same = coded_pixels(out["none"]) == coded_pixels(out["plain"])
    shards = out["dataset"]
    numpy = Variant("open_shards, numpy", lambda: read(shards, "numpy"))
    tensor = Variant("open_shards, tensor", lambda: read(shards, "tensor"))
    pil = Variant("open_shards, pil", lambda: read(shards, "pil"))
    unverified = Variant("open_shards, numpy, no hashes", lambda: read(shards, "numpy", False))
    ours = Variant("webdataset, our decoder", lambda: raw_read(shards, None))
    raw = {
        name: Variant(f'webdataset, decode("{name}")', lambda name=name: raw_read(shards, name))  # type: ignore[misc]
        for name in ("rgb8", "torchrgb8", "pil")
    }
    readers = [numpy, tensor, pil, unverified, ours, *raw.values()]
    measure(readers, rounds)
    shares = stage_shares(encrypted.run, min(rounds, 5))
    memory = {n: peaks(folder, n, scratch, size, scheme) for n in arguments.memory}
    imports = in_own_process(peak)
    laptop = run_command(folder, scratch, size)

    for title, variants in (("writing", writers), ("reading, all in the page cache", readers)):
        console.print()
        console.print(speed_table(title, variants, count))
    parts = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
    console.print(f"\nstages of writing, encrypted: {parts}\n{next_limit(shares)}")
    console.print(f"no encryption and plain loop write the same pixels: {'yes' if same else 'NO'}")
    console.print(f"peak memory of this benchmark's imports alone: {imports:.0f} MiB")
    for text in memory_lines(memory):
        console.print(text)
    console.print(
        f"the command on {laptop['samples']} photos: {laptop['shards']} shard(s), "
        f"{laptop['seconds']:.2f} s of work and {laptop['around']:.2f} s to start and end"
    )
    console.print()
    budgets = [
        ratio_line(encrypted, bare, 0.90, 0.97),
        ratio_line(per_image, bare, 0.90, 0.97),
        ratio_line(encrypted, loop, 1.5, 3),
        ratio_line(per_image, loop, 1.5, 3),
        ratio_line(numpy, ours, 0.90, 0.98),
        ratio_line(numpy, raw["rgb8"], 0.90, 0.98),
        ratio_line(tensor, raw["torchrgb8"], 0.90, 0.98),
        ratio_line(pil, raw["pil"], 0.90, 0.98),
    ]
    for line, _ in budgets:
        console.print(f"budget: {line}")
    console.print(f"measured in {time.perf_counter() - start:.0f} s")
    return {
        "machine": facts,
        "runs": {
            variant.name: {"cpu": variant.cpu, "wall": variant.wall} for variant in [*writers, *readers]
        },
        "stage_shares": shares,
        "same_pixels": same,
        "peak_mib": {"imports": imports, **{str(n): found for n, found in memory.items()}},
        "command": laptop,
        "budgets": [entry for _, entry in budgets],
    }


if __name__ == "__main__":
    main()
