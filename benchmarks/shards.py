"""Times writing and reading of shards against the same without encryption, and against plain loops.

    python benchmarks/shards.py [PHOTOS] [--images N] [--size 224] [--quick] [--json FILE]

PHOTOS is a folder of photos such as an ImageFolder; by default scikit-image's own, repeated.

Writing: decode, orient, resize, encrypt, JPEG of quality 95 with 4:4:4, tar, hash; one process.

* *no encryption*: `write_shards` with a cipher that returns the image as it is.  What remains between
  the two is encryption and whatever JPEG coding makes of an encrypted image.
* *plain loop*: `webdataset.ShardWriter` around Pillow, to the same pixels and JPEG options.

Reading: `open_shards` with verification against webdataset on the same shards, whole and in order,
once with webdataset's own decoders and once with ours, so that only the reading differs.

Rounds visit all variants in turn, each time beginning with another.  Speeds are per second of CPU
time, that is per core, from the least time of all rounds; beside them stand the medians and the wall
time, which also waits for the disk and for other processes.  Files lie in the page cache; ours are
flushed to disk (fsync) before they get their name, webdataset's are not.  Memory is measured in
processes of their own, as growth of the peak after a first small data set.
"""

import argparse
import hashlib
import importlib.metadata
import io
import json
import multiprocessing
import platform
import shutil
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import webdataset as wds
from PIL import Image
from rich.console import Console
from rich.table import Table

from etc_data import Cipher, SecretKey
from etc_data.codecs import JpegCodec, available_engines, decode
from etc_data.fitting import prepare_image
from etc_data.shards import open_shards, write_shards
from etc_data.sources.folder import ImageFolder
from etc_data.sources.images import load_rgb
from etc_data.sources.item import Item, Stray

KEY = SecretKey(bytes(32))
QUALITY = 95


class NoCipher(Cipher):
    """Stands for a cipher where encryption is left out."""

    def encrypt(self, image: Any, *, nonce: Any = None, fit: Any = None) -> Any:
        """Returns the image as it is."""
        return image


@dataclass(frozen=True)
class Photos:
    """A source of as many photos as asked for, repeating a folder's where it has fewer."""

    taken: tuple[Item, ...]
    class_names: tuple[str, ...]
    splits: tuple[str, ...] = ("train",)
    strays: tuple[Stray, ...] = ()

    @classmethod
    def read(cls, folder: Path, count: int) -> "Photos":
        """Returns `count` photos, spread over the folder."""
        source = ImageFolder(folder)
        found = [item for split in source.splits for item in source.items(split)]
        if len(found) > count:
            found = [found[number * len(found) // count] for number in range(count)]
        numbered = enumerate(islice(cycle(found), count))
        taken = tuple(
            Item(f"{number}/{item.id}", max(0, item.label), item.reader) for number, item in numbered
        )
        return cls(taken, source.class_names or ("photo",))

    def items(self, split: str) -> Sequence[Item]:
        """Returns the photos; there is one split."""
        return self.taken


@dataclass
class Variant:
    """One way to do the work: `run` returns the bytes of the shards it wrote or read."""

    name: str
    run: Callable[[], int]
    bytes: int = 0
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
        variant.bytes = variant.run()
    for number in range(rounds):
        first = number % len(variants)
        for variant in variants[first:] + variants[:first]:
            wall, cpu = time.perf_counter(), time.process_time()
            variant.run()
            variant.cpu.append(time.process_time() - cpu)
            variant.wall.append(time.perf_counter() - wall)


# -- writing ------------------------------------------------------------------------------------


def write(photos: Photos, cipher: Cipher, out: Path, size: int) -> int:
    """Writes shards with `write_shards` and returns their bytes."""
    summary = write_shards(photos, out, cipher, size=size, codec=JpegCodec(QUALITY), force=True)
    return summary.manifest.total_bytes


def plain_loop(photos: Photos, out: Path, size: int) -> int:
    """Writes plain shards as one does without this library, and returns their bytes."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    with wds.ShardWriter(str(out / "train-%06d.tar"), maxcount=64, verbose=0) as sink:
        for number, item in enumerate(photos.taken):
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
    return sum(path.stat().st_size for path in out.glob("*.tar"))


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


def stages(photos: Photos, cipher: Cipher, size: int, rounds: int) -> dict[str, float]:
    """Returns the least time of every stage of writing, in ms per image."""
    codec, block_size = JpegCodec(QUALITY), cipher.scheme.block_size
    files = [item.read() for item in photos.taken[:100]]
    spent: dict[str, list[float]] = {}
    for _ in range(rounds):
        work: list[Any] = files
        steps: dict[str, Callable[[Any], Any]] = {
            "decode": load_rgb,
            "resize": lambda image: np.asarray(prepare_image(image, block_size, size=(size, size))),
            "encrypt": cipher.encrypt,
            "JPEG": codec.encode,
        }
        for name, step in steps.items():
            start = time.process_time()
            work = [step(one) for one in work]
            spent.setdefault(name, []).append((time.process_time() - start) / len(work))
    return {name: min(seconds) * 1e3 for name, seconds in spent.items()}


# -- reading ------------------------------------------------------------------------------------


def read(folder: Path, form: Any, verify: bool = True) -> int:
    """Reads all samples with `open_shards` and returns the bytes of the shards."""
    shards = open_shards(folder, form=form, verify=verify)
    count = sum(1 for _ in shards)
    if count != shards.samples:
        raise AssertionError(f"{count} samples read of {shards.samples}")
    return shards.manifest.total_bytes


def raw_read(folder: Path, decoder: str | None) -> int:
    """Reads all samples with webdataset, with its own decoder of that name or with ours."""
    paths = sorted(folder.glob("*.tar"))
    samples = wds.WebDataset([str(path) for path in paths], shardshuffle=False, empty_check=False)
    pairs: Iterator[Any]
    if decoder is None:
        pairs = iter(samples.to_tuple("jpg", "cls").map_tuple(decode, int))
    else:
        pairs = iter(samples.decode(decoder).to_tuple("jpg", "cls"))
    for _ in pairs:
        pass
    return sum(path.stat().st_size for path in paths)


# -- memory -------------------------------------------------------------------------------------


def peak() -> float:
    """Returns the largest resident size of this process so far, in MiB; not a number outside Linux.

    getrusage would not do: a new process begins with its parent's peak.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return float("nan")
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def peak_growth(folder: Path, scratch: Path, count: int, size: int, scheme: str) -> tuple[float, float]:
    """Returns by how many MiB writing and then reading `count` images raised the peak."""
    torch.set_num_threads(1)
    cipher, out = Cipher(scheme, KEY), scratch / "memory"
    write(Photos.read(folder, 64), cipher, out, size)
    read(out, "tensor")
    before = peak()
    write(Photos.read(folder, count), cipher, out, size)
    written = peak()
    read(out, "tensor")
    return written - before, peak() - written


def in_own_process(*arguments: Any) -> tuple[float, float]:
    """Returns `peak_growth` of the arguments, measured in a fresh process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(peak_growth, *arguments).result()


# -- the report ---------------------------------------------------------------------------------


def own_photos(folder: Path) -> Path:
    """Returns a folder with scikit-image's photos as JPEG files."""
    from skimage import data

    for name in ("astronaut", "cat", "coffee"):
        (folder / name).mkdir(parents=True)
        picture = Image.fromarray(getattr(data, name)())
        picture.save(folder / name / f"{name}.jpg", quality=QUALITY, subsampling="4:4:4")
    return folder


def machine() -> dict[str, Any]:
    """Returns what a reader needs to place the figures."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        cpu = platform.processor() or platform.machine()
    names = ("numpy", "torch", "webdataset")
    versions = {name: importlib.metadata.version(name) for name in names}
    engines = "; ".join(available_engines().values())
    return {
        "cpu": cpu,
        "processes": 1,
        "python": platform.python_version(),
        **versions,
        "jpeg": engines,
    }


def speed_table(title: str, variants: list[Variant], images: int) -> Table:
    """Returns a table of speeds."""
    view = Table(title=title, title_justify="left")
    for heading in (
        "",
        "images/s per core",
        "MB/s of shards per core",
        "median",
        "images/s of wall time",
    ):
        view.add_column(heading, justify="left" if not heading else "right", no_wrap=True)
    for variant in variants:
        best = min(variant.cpu)
        view.add_row(
            variant.name,
            f"{images / best:.0f}",
            f"{variant.bytes / best / 1e6:.1f}",
            f"{images / statistics.median(variant.cpu):.0f}",
            f"{images / min(variant.wall):.0f}",
        )
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


def main() -> None:
    """Runs the benchmark and prints its tables."""
    parser = argparse.ArgumentParser(description="Time the writing and reading of shards.")
    parser.add_argument("photos", nargs="?", type=Path, help="folder; default: scikit-image's photos")
    parser.add_argument("--images", type=int, default=300, help="per run (default 300)")
    parser.add_argument("--size", type=int, default=224, help="pixels per side (default 224)")
    parser.add_argument("--scheme", default="etc-16", help="default etc-16")
    parser.add_argument("--rounds", type=int, default=11, help="default 11")
    parser.add_argument(
        "--scratch", type=Path, help="where the shards go (default: a temporary folder)"
    )
    parser.add_argument("--quick", action="store_true", help="3 rounds: a rough answer")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
        report = benchmark(arguments, Path(scratch))
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


def benchmark(arguments: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Measures and prints everything, and returns the figures."""
    start = time.perf_counter()
    console = Console(width=160, highlight=False)
    size, scheme, count = arguments.size, arguments.scheme, arguments.images
    rounds = 3 if arguments.quick else arguments.rounds
    folder = arguments.photos or own_photos(scratch / "photos")
    photos = Photos.read(folder, count)
    facts = {**machine(), "images": count, "size": size, "scheme": scheme, "rounds": rounds}
    for name, value in facts.items():
        console.print(f"{name:12} {value}")
    console.print(
        "photos       " + ("scikit-image's, repeated" if arguments.photos is None else folder.name)
    )

    dataset, image = Cipher(scheme, KEY), Cipher(scheme, KEY, key_scope="image")
    out = {name: scratch / name for name in ("dataset", "image", "none", "plain")}
    encrypted = Variant("write, encrypted", lambda: write(photos, dataset, out["dataset"], size))
    per_image = Variant("write, a key per image", lambda: write(photos, image, out["image"], size))
    bare = Variant(
        "write, no encryption", lambda: write(photos, NoCipher(scheme, KEY), out["none"], size)
    )
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
    spent = stages(photos, dataset, size, min(rounds, 5))
    counts = (count, 4 * count)
    growth = {n: in_own_process(folder, scratch, n, size, scheme) for n in counts}

    for title, variants in (("writing", writers), ("reading, all in the page cache", readers)):
        console.print()
        console.print(speed_table(title, variants, count))
    total = sum(spent.values())
    parts = ", ".join(f"{name} {ms:.3f} ({ms / total:.0%})" for name, ms in spent.items())
    console.print(f"\nstages of writing, ms per image: {parts}")
    console.print(f"no encryption and plain loop write the same pixels: {'yes' if same else 'NO'}")
    for n, (written, was_read) in growth.items():
        console.print(
            f"peak memory, {n} images: writing +{written:.1f} MiB, reading +{was_read:.1f} MiB"
        )
    console.print()
    budgets = [
        ratio_line(encrypted, bare, 0.90, 0.97),
        ratio_line(per_image, bare, 0.90, 0.97),
        ratio_line(encrypted, loop, 1.5, 3),
        ratio_line(numpy, ours, 0.90, 0.98),
        ratio_line(numpy, raw["rgb8"], 0.90, 0.98),
        ratio_line(tensor, raw["torchrgb8"], 0.90, 0.98),
        ratio_line(pil, raw["pil"], 0.90, 0.98),
    ]
    for line, _ in budgets:
        console.print(f"budget: {line}", soft_wrap=True)
    console.print(f"measured in {time.perf_counter() - start:.0f} s")
    return {
        "machine": facts,
        "runs": {
            variant.name: {"bytes": variant.bytes, "cpu": variant.cpu, "wall": variant.wall}
            for variant in [*writers, *readers]
        },
        "stages_ms": spent,
        "same_pixels": same,
        "peak_growth_mib": {str(n): both for n, both in growth.items()},
        "budgets": [entry for _, entry in budgets],
    }


if __name__ == "__main__":
    main()
