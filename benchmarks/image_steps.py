"""Times other ways to take the slow steps of writing: resizing, decoding large photos, threads.

    python benchmarks/image_steps.py [PHOTOS] [--images 50] [--size 224] [--quick] [--json FILE]

PHOTOS is a folder of photos, by default ../shared/data/photos.  Three questions:

* *resize*: Pillow's bicubic filter, which the pipeline uses, against torchvision's for uint8 tensors
  [3, H, W] whose memory is channels-last [H, W, 3], as arrays from decoders are, or not.
* *large photo*: a mosaic of the photos as one JPEG of many megapixels, decoded whole or by libjpeg at
  an eighth of its size (Pillow's `draft`), then resized.
* *threads*: JPEG coding of the resized photos on two threads instead of one, by Pillow and PyTurboJPEG;
  SHA-256 of large buffers, which never holds Python's lock, tells how much two threads can gain here.

Rounds visit all ways in turn; the least time of all rounds counts.  Resizing and decoding are timed by
the CPU time of one thread, threads by the wall clock, in more rounds, since they need a free core.
"""

import argparse
import hashlib
import io
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import etc_data.torchvision_cpu  # noqa: F401

# isort: split
import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import resize

from etc_data.codecs import JpegCodec, available_engines
from etc_data.sources.folder import ImageFolder
from etc_data.sources.images import load_rgb, resize_to

SHARED_DATA = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
TILE, TILES = 300, 10  # pixels per side of a tile of the mosaic, tiles per side
BUFFER = bytes(1 << 20)

Ways = dict[str, Callable[[], Any]]
Measured = tuple[dict[str, float], dict[str, float]]


def read_photos(folder: Path, count: int) -> list[Image.Image]:
    """Returns so many photos of a folder, repeated where they are few."""
    source = ImageFolder(folder)
    items = [item for split in source.splits for item in source.items(split)]
    return [load_rgb(item.read()) for item in islice(cycle(items), count)]


def least_times(ways: Ways, rounds: int, clock: Callable[[], float]) -> dict[str, float]:
    """Returns the least seconds of every way, after one run each that is not counted."""
    for way in ways.values():
        way()
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            start = clock()
            way()
            spent[name].append(clock() - start)
    return {name: min(seconds) for name, seconds in spent.items()}


def psnr(one: Any, other: Any) -> float:
    """Returns the peak signal-to-noise ratio of two uint8 arrays, in dB."""
    error = np.mean((np.asarray(one, np.float64) - np.asarray(other, np.float64)) ** 2)
    return 10 * math.log10(255**2 / error) if error else math.inf


def rows(title: str, ms: dict[str, float], pixels: dict[str, float]) -> Iterator[tuple[str, ...]]:
    """Yields the rows of one question; the first way is what the others are compared with."""
    first = next(iter(ms.values()))
    for name, value in ms.items():
        alike = f"{pixels[name]:.1f} dB" if name in pixels else ""
        yield title, name, f"{value:.3f}", f"{first / value:.2f}", alike
        title = ""


def resizing(photos: list[Image.Image], size: int, rounds: int) -> Measured:
    """Measures ways to cover a square; returns ms per photo, and PSNR in dB against the first way."""
    scaled = [
        (photo.width * size // min(photo.size), photo.height * size // min(photo.size))
        for photo in photos
    ]
    last = [torch.from_numpy(np.array(photo)).permute(2, 0, 1) for photo in photos]
    first = [tensor.contiguous() for tensor in last]

    def by_pillow() -> list[Any]:
        pairs = zip(photos, scaled, strict=True)
        return [photo.resize(to, Image.Resampling.BICUBIC) for photo, to in pairs]

    def by_torchvision(tensors: list[torch.Tensor]) -> list[Any]:
        pairs = zip(tensors, scaled, strict=True)
        return [resize(t, [h, w], InterpolationMode.BICUBIC, antialias=True) for t, (w, h) in pairs]

    ways: Ways = {
        "Pillow": by_pillow,
        "torchvision, channels-last": lambda: by_torchvision(last),
        "torchvision, contiguous": lambda: by_torchvision(first),
        "copy from Pillow to NumPy": lambda: [np.array(photo) for photo in photos],
    }
    seconds = least_times(ways, rounds, time.process_time)
    joined = np.concatenate([np.asarray(image).ravel() for image in by_pillow()])
    tensors = [image.permute(1, 2, 0).numpy().ravel() for image in by_torchvision(last)]
    alike = psnr(joined, np.concatenate(tensors))
    ms = {name: value / len(photos) * 1e3 for name, value in seconds.items()}
    return ms, {"torchvision, channels-last": alike}


def decoding(photos: list[Image.Image], size: int, rounds: int) -> Measured:
    """Measures ways from one large JPEG to a square; returns ms, and PSNR in dB against the first."""
    mosaic = Image.new("RGB", (TILE * TILES, TILE * TILES))
    for number, photo in enumerate(islice(cycle(photos), TILES**2)):
        place = (number % TILES * TILE, number // TILES * TILE)
        mosaic.paste(resize_to(photo, TILE, TILE), place)
    file = io.BytesIO()
    mosaic.save(file, "JPEG", quality=90)

    def opened(draft: int | None) -> Image.Image:
        image = Image.open(io.BytesIO(file.getvalue()))
        if draft is not None:
            image.draft("RGB", (draft, draft))
        return image.resize((size, size), Image.Resampling.BICUBIC)

    ways: Ways = {
        f"whole, {mosaic.width}×{mosaic.height}": lambda: opened(None),
        "an eighth": lambda: opened(mosaic.width // 8),
        "a quarter": lambda: opened(mosaic.width // 4),
    }
    seconds = least_times(ways, rounds, time.process_time)
    whole, *reduced = ways
    alike = {name: psnr(ways[whole](), ways[name]()) for name in reduced}
    return {name: value * 1e3 for name, value in seconds.items()}, alike


def all_done(pool: ThreadPoolExecutor, function: Callable[[Any], Any], inputs: list[Any]) -> None:
    """Applies a function to all inputs on the threads of a pool."""
    for _ in pool.map(function, inputs):
        pass


def threading(photos: list[Image.Image], size: int, rounds: int) -> dict[str, float]:
    """Returns how much faster two threads are than one, for each kind of work."""
    arrays = [np.asarray(resize_to(photo, size, size)) for photo in photos]
    engines = {"pillow": "Pillow", "turbo": "PyTurboJPEG"}
    work: dict[str, tuple[Callable[[Any], Any], list[Any]]] = {
        engines[engine]: (JpegCodec(engine=engine).encode, arrays)  # type: ignore[arg-type]
        for engine in available_engines()
    }
    work["SHA-256"] = (hashlib.sha256, [BUFFER] * len(photos))
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(2) as two:
        ways: Ways = {
            f"{name} {threads}": partial(all_done, pool, function, inputs)
            for name, (function, inputs) in work.items()
            for threads, pool in ((1, one), (2, two))
        }
        seconds = least_times(ways, 5 * rounds, time.perf_counter)
    return {name: seconds[f"{name} 1"] / seconds[f"{name} 2"] for name in work}


def main() -> None:
    """Runs the measurements and prints their table."""
    parser = argparse.ArgumentParser(description="Time other ways to take the steps of writing.")
    parser.add_argument("photos", nargs="?", type=Path, help="folder (default: the shared photos)")
    parser.add_argument("--images", type=int, default=50, help="photos (default 50)")
    parser.add_argument("--size", type=int, default=224, help="pixels per side (default 224)")
    parser.add_argument("--quick", action="store_true", help="3 rounds instead of 11")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    shared = Path(os.environ.get("ETC_DATA_TEST_IMAGES", SHARED_DATA)) / "photos"
    photos = read_photos(arguments.photos or shared, arguments.images)
    size, rounds = arguments.size, 3 if arguments.quick else 11
    resized = resizing(photos, size, rounds)
    decoded = decoding(photos, size, rounds)
    gained = threading(photos, size, rounds)

    view = Table(title=f"{len(photos)} photos, to {size} px", title_justify="left")
    for heading in ("", "way", "ms", "times as fast", "pixels against the first"):
        view.add_column(heading, no_wrap=True)
    for row in (*rows("resize", *resized), *rows("large photo", *decoded)):
        view.add_row(*row)
    console = Console(width=120, highlight=False)
    console.print(view)
    for name, gain in gained.items():
        console.print(f"two threads instead of one: {name} is {gain:.2f} times as fast")
    if arguments.json:
        report = {"resize": resized, "large_photo": decoded, "threads": gained}
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
