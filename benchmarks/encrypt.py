"""Times encryption and decryption of images, as multiples of a memcpy of the same bytes.

    python benchmarks/encrypt.py [--quick] [--json FILE]

All that is compared is measured in one process and thread, in rounds that visit every preset and
case in turn, so that a disturbance of the machine falls on all alike.  The tables show the least time
of all rounds, which is what the code takes when nothing disturbs it; the budgets and the JSON have
the medians too.  The memcpy goes from one warm buffer to another and allocates nothing, while
encryption allocates its result.

Images are uint8 of random values: no path depends on them.  Warm times use a cipher of key scope
``"dataset"``, whose plan is cached.  *Cold plan* is what an image with a fresh nonce adds: the plan and
its index.

scramblekit 0.1.0, the strongest public implementation, is timed beside ours where it can be
imported.  It has EtC, LE, ELE and PE, and a building block for the shuffles of values; com-16,
ind-16, their sub-blocks, flip-4, adaptive-16 and vit-16/8 it lacks.  Its EtC and PE are used in the
mode that permutes color components, since the default loses some.
"""

import argparse
import importlib
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import cpu_name
from rich.console import Console
from rich.table import Table

from etc_data import Cipher, SecretKey
from etc_data.presets import PRESET_NAMES

SEED = 0
SIZES = (32, 224)
BATCH = 64
MUST, MUST_PEER = 30, 20  # multiples: of memcpy at most, of scramblekit's speed at least
PEER_HINT = "pip install scramblekit==0.1.0 (yanked from the index: only by its exact version)"

Call = Callable[[], Any]


@dataclass
class Cases:
    """What is timed for one preset, image size and number of images; all calls treat all images."""

    preset: str
    size: int
    images: int
    calls: dict[str, Call]
    repeats: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def prepare(self, burst: float) -> None:
        """Warms every call up and chooses how often it is repeated to fill `burst` seconds."""
        for name, call in self.calls.items():
            call()
            start = time.perf_counter()
            call()
            self.repeats[name] = max(1, int(burst / (time.perf_counter() - start)))
            self.seconds[name] = []

    def measure(self) -> None:
        """Times every call once more."""
        for name, call in self.calls.items():
            repeats = self.repeats[name]
            start = time.perf_counter()
            for _ in range(repeats):
                call()
            self.seconds[name].append((time.perf_counter() - start) / repeats)

    def milliseconds(self, name: str) -> float:
        """Returns the least time of one image."""
        return min(self.seconds[name]) / self.images * 1e3

    def multiple(self, name: str, of: str = "memcpy") -> float:
        """Returns one call's least time in times of another's."""
        return min(self.seconds[name]) / min(self.seconds[of])

    def usual_multiple(self, name: str, of: str = "memcpy") -> float:
        """Returns the median over the rounds of one call's time in times of another's."""
        pairs = zip(self.seconds[name], self.seconds[of], strict=True)
        return statistics.median(one / other for one, other in pairs)

    def report(self) -> dict[str, Any]:
        """Returns what JSON holds of it."""
        row = {
            name: {
                "ms_per_image": self.milliseconds(name),
                "median_ms_per_image": statistics.median(seconds) / self.images * 1e3,
                "times_memcpy": self.multiple(name),
                "median_times_memcpy": self.usual_multiple(name),
            }
            for name, seconds in self.seconds.items()
        }
        return {"preset": self.preset, "size": self.size, "images": self.images, "times": row}


def cases(preset: str, size: int, images: int) -> Cases:
    """Returns the calls of a preset for one image, or for a batch of them."""
    random = np.random.default_rng(SEED)
    shape = (size, size, 3) if images == 1 else (images, size, size, 3)
    array = random.integers(0, 256, shape, np.uint8)
    tensor = torch.from_numpy(np.ascontiguousarray(np.moveaxis(array, -1, -3)))
    copy = np.empty_like(array)
    key = SecretKey(bytes(32))
    cipher = Cipher(preset, key, key_scope="dataset")
    fresh = Cipher(preset, key, key_scope="image")
    hidden, hidden_tensor = cipher.encrypt(array), cipher.encrypt(tensor)
    if not np.array_equal(cipher.decrypt(hidden), array):
        raise AssertionError(f"{preset} does not decrypt what it encrypted")

    def cold() -> None:
        fresh.plan(size, size, nonce=fresh.new_nonce(random)).byte_mask("hwc")

    calls: dict[str, Call] = {
        "memcpy": lambda: np.copyto(copy, array),
        "numpy encrypt": lambda: cipher.encrypt(array),
        "numpy decrypt": lambda: cipher.decrypt(hidden),
        "torch encrypt": lambda: cipher.encrypt(tensor),
        "torch decrypt": lambda: cipher.decrypt(hidden_tensor),
    }
    if images == 1:
        calls["cold plan"] = cold
    peer = peer_call(preset, array)
    if peer is not None:
        calls["scramblekit"] = peer
    return Cases(preset, size, images, calls)


def peer_call(preset: str, array: np.ndarray[Any, Any]) -> Call | None:
    """Returns scramblekit's encryption of the same NumPy images, or None where it has none."""
    try:
        peer = importlib.import_module("scramblekit.scramble")
    except ImportError:
        return None
    side = array.shape[-2]
    exact = {"image_size": side, "channel_mode": "permutation"}
    schemes: dict[str, Callable[[], Any]] = {
        "etc-16": lambda: peer.EtC(SEED, block_size=16, **exact),
        "le-4": lambda: peer.LE(SEED, block_size=4),
        "ele-4": lambda: peer.ELE(SEED, block_size=4, image_size=side),
        "pe": lambda: peer.PE(SEED, **exact),
    }
    if preset in schemes:
        scheme = schemes[preset]()
        if not np.array_equal(scheme.inverse(scheme(array)), array):
            raise AssertionError(f"scramblekit's {preset} does not invert")
        return lambda: scheme(array)
    if preset in ("shuffle-com-16", "shuffle-ind-16"):
        random = np.random.default_rng(SEED)
        blocks = 1 if preset == "shuffle-com-16" else (side // 16) ** 2
        orders = random.permuted(np.tile(np.arange(768), (blocks, 1)), axis=1)
        order = orders[0] if blocks == 1 else orders
        batch = array.reshape(-1, side, side, 3)
        return lambda: peer.functional.shuffle_pixels_in_blocks(batch, order, 16)
    return None


def machine() -> dict[str, Any]:
    """Returns what a reader needs to place the figures."""
    versions = {name: version(name) for name in ("numpy", "torch")}
    try:
        versions["scramblekit"] = version("scramblekit")
    except importlib.metadata.PackageNotFoundError:
        versions["scramblekit"] = f"not installed: {PEER_HINT}"
    return {
        "cpu": cpu_name(),
        "threads": 1,
        "python": platform.python_version(),
        **versions,
        "seed": SEED,
        "key": "32 zero bytes",
    }


def table(rows: list[Cases]) -> Table:
    """Returns one table: a size and a number of images, a row per preset."""
    size, images = rows[0].size, rows[0].images
    copied = min(row.milliseconds("memcpy") for row in rows)
    what = "one image" if images == 1 else f"batch of {images}"
    names = [name for name in rows[0].calls if name not in ("memcpy", "scramblekit")]
    view = Table(
        title=f"{size} px, {what}: ms per image (× memcpy, which takes {copied * 1e3:.2f} µs)",
        title_justify="left",
    )
    view.add_column("preset", no_wrap=True)
    for name in names:
        view.add_column(name, justify="right", no_wrap=True)
    view.add_column("scramblekit, × our time", justify="right", no_wrap=True)
    for row in rows:
        cells = [f"{row.milliseconds(name):.4f} ({row.multiple(name):.0f}×)" for name in names]
        if "cold plan" in names:
            cells[names.index("cold plan")] = f"{row.milliseconds('cold plan'):.2f}"
        peer = "–"
        if "scramblekit" in row.calls:
            slower = row.multiple("scramblekit", of="numpy encrypt")
            peer = f"{row.milliseconds('scramblekit'):.4f} ({slower:.0f}×)"
        view.add_row(row.preset, *cells, peer)
    return view


def budget(every: list[Cases]) -> list[str]:
    """Returns the lines that say whether the budgets are met."""
    single = [row for row in every if (row.size, row.images) == (224, 1)]
    lines = []
    on_bytes = [row for row in single if row.preset not in ("le-4", "ele-4")]
    for title, rows in (("all presets", single), ("without the two over 4-bit halves", on_bytes)):
        encryptions = [(row, name) for row in rows for name in ("numpy encrypt", "torch encrypt")]
        row, name = max(encryptions, key=lambda pair: pair[0].multiple(pair[1]))
        answer = "yes" if row.multiple(name) <= MUST else "NO"
        lines.append(
            f"budget, one image at 224 px, at most {MUST}× memcpy, {title}: {answer} (worst: "
            f"{row.preset}, {name}, {row.multiple(name):.1f}×, median {row.usual_multiple(name):.1f}×)"
        )
    compared = [row for row in single if "scramblekit" in row.calls]
    if compared:
        pair = ("scramblekit", "numpy encrypt")
        row = min(compared, key=lambda row: row.multiple(*pair))
        answer = "yes" if row.multiple(*pair) >= MUST_PEER else "NO"
        lines.append(
            f"budget, the same, at least {MUST_PEER}× faster than scramblekit: {answer} (least: "
            f"{row.preset}, {row.multiple(*pair):.1f}×, median {row.usual_multiple(*pair):.1f}×)"
        )
    return lines


def main() -> None:
    """Runs the benchmark and prints its tables."""
    parser = argparse.ArgumentParser(description="Time the encryption of images.")
    parser.add_argument("--quick", action="store_true", help="few rounds: a rough answer in seconds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(width=140, highlight=False)
    facts = machine()
    for name, value in facts.items():
        console.print(f"{name:12} {value}")

    start = time.perf_counter()
    every: list[Cases] = []
    for images, rounds, burst in ((1, 21, 5e-3), (BATCH, 7, 5e-3)):
        for size in SIZES:
            rows = [cases(preset, size, images) for preset in PRESET_NAMES]
            for row in rows:
                row.prepare(burst)
            for _ in range(3 if arguments.quick else rounds):
                for row in rows:
                    row.measure()
            console.print()
            console.print(table(rows))
            every += rows
    lines = budget(every)
    console.print()
    for line in lines:
        console.print(line, soft_wrap=True)
    console.print(f"measured in {time.perf_counter() - start:.0f} s")
    if arguments.json:
        report = {"machine": facts, "results": [row.report() for row in every], "budget": lines}
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
