"""Measures the attack on many images under one key: neighbor blocks stay correlated over images.

    python benchmarks/topology.py PHOTOS [--size 224] [--seed 0] [--json FILE]

The attacker has encrypted images alone, and knows the scheme.  He takes the four edge lines of every
tile (a block, or a sub-block where the scheme has them), each the mean of its color components so
that their order does not matter; subtracts the mean over the images from every value; and correlates
all pairs of lines over images × edge pixels, read forward and backward.  For one image, which has no
mean over images, the mean of each line is subtracted instead.  The partner of a line is the line of
another tile with the largest |ρ|.

*Neighbor*: the share of true inner edges whose partner is the line that lay beside it in the plain
image.  *Joined*: the share where direction and relative polarity (the sign of ρ) are right as well.
The truth comes from the plan, which takes the key.  With key scope ``"image"`` every image has another
layout, and the score is against that of the first.

Statistics of this kind over blocks: Li and Liu 2023, arXiv 2305.04543; over values: Le Roux et al.,
Learning the 2-D topology of images, 2007.  This form is ours.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from etc_data import Cipher, SecretKey
from etc_data.audit.edges import correlate_lines, edge_lines, line_pixels
from etc_data.plans import Plan
from etc_data.schemes import KeyScope
from etc_data.sources.folder import ImageFolder
from etc_data.sources.images import load_rgb, resize_to

Bytes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.intp]

COUNTS = (1, 5, 20, 100)
MOST_TRIALS = 8  # with few images the score depends on which, so several groups are averaged
TARGETS: tuple[tuple[str, KeyScope], ...] = (
    ("etc-16", "dataset"),
    ("etc-8", "dataset"),
    ("ind-16", "dataset"),
    ("ind-16/8", "dataset"),
    ("etc-16", "image"),
    ("ind-16/8", "image"),
)


class Matches(NamedTuple):
    """What the attack finds for every line: its partner, if read backward, if of other polarity."""

    partner: Integers
    backward: npt.NDArray[np.bool_]
    negated: npt.NDArray[np.bool_]


@dataclass
class Score:
    """How much of the layout was found, as shares of the true inner edges."""

    scheme: str
    scope: KeyScope
    images: int
    trials: int
    neighbor: float
    joined: float
    chance: float
    seconds: float


def load_photos(folder: Path, count: int, size: int, random: np.random.Generator) -> Bytes:
    """Returns `count` photos of a folder in random order, uint8 [count, size, size, 3]."""
    source = ImageFolder(folder)
    items = [item for split in source.splits for item in source.items(split)]
    if len(items) < count:
        raise SystemExit(f"{folder} holds {len(items)} photos; at least {count} are needed")
    chosen = random.permutation(len(items))[:count]
    images = [resize_to(load_rgb(items[int(number)].read()), size, size) for number in chosen]
    return np.stack([np.asarray(image) for image in images])


# -- the attack, which has no key ---------------------------------------------------------------


def match_lines(encrypted: Bytes, tile: int) -> Matches:
    """Returns the partner of every edge line of encrypted images, uint8 [images, H, W, 3]."""
    partner, backward, rho = correlate_lines(edge_lines(encrypted, tile)).best_partners(1)
    return Matches(partner[:, 0], backward[:, 0], rho[:, 0] < 0)


# -- the truth, from the plan -------------------------------------------------------------------


def true_matches(plan: Plan, tile: int) -> tuple[Integers, Matches]:
    """Returns the lines that are inner edges of the plain image, and their true partners."""
    size = plan.width
    lines = line_pixels(size, size, tile)
    source = plan.pixel_index()
    _, negated_values = plan.value_index("hwc")
    no_value = np.zeros(3 * size * size, np.bool_)
    negated = (no_value if negated_values is None else negated_values).reshape(-1, 3)[:, 0]
    place = np.empty_like(source)  # where a pixel of the plain image lies in the encrypted one
    place[source] = np.arange(len(source))
    y, x = np.divmod(source[lines], size)
    # A line that lies in one row of the plain image is a top or bottom edge there.
    horizontal = (y == y[:, :1]).all(axis=1)
    across = np.where(horizontal, y[:, 0], x[:, 0])
    step = np.where(across % tile == 0, -1, 1)
    inner = np.flatnonzero((across + step >= 0) & (across + step < size))
    shift = np.where(horizontal, step * size, step)
    neighbor = place[source[lines[inner]] + shift[inner, None]]
    ends = {(int(line[0]), int(line[-1])): number for number, line in enumerate(lines)}
    partner, backward = [], []
    for first, last in neighbor[:, [0, -1]].tolist():
        backward.append((first, last) not in ends)
        partner.append(ends[(last, first) if backward[-1] else (first, last)])
    other_polarity = negated[lines[inner, 0]] != negated[neighbor[:, 0]]
    return inner, Matches(np.array(partner), np.array(backward), other_polarity)


# -- the measurement ----------------------------------------------------------------------------


def attack(scheme: str, scope: KeyScope, photos: Bytes, count: int, seed: int) -> Score:
    """Attacks groups of `count` images under one key and returns the mean score."""
    random = np.random.default_rng(seed)
    cipher = Cipher(scheme, SecretKey(random.bytes(32)), key_scope=scope)
    size = photos.shape[1]
    trials = min(MOST_TRIALS, len(photos) // count)
    neighbor = joined = seconds = 0.0
    chance = 0.0
    for trial in range(trials):
        group = photos[trial * count : (trial + 1) * count]
        if scope == "image":
            nonces = [cipher.new_nonce(random) for _ in group]
            encrypted = cipher.encrypt(group, nonce=nonces)
            plan = cipher.plan(size, size, nonce=nonces[0])
        else:
            encrypted, plan = cipher.encrypt(group), cipher.plan(size, size)
        tile = plan.tile[0]
        start = time.perf_counter()
        found = match_lines(encrypted, tile)
        seconds += time.perf_counter() - start
        inner, truth = true_matches(plan, tile)
        right = found.partner[inner] == truth.partner
        whole = right & (found.backward[inner] == truth.backward)
        whole &= found.negated[inner] == truth.negated
        neighbor += float(right.mean())
        joined += float(whole.mean())
        chance = 1 / (len(found.partner) - 4)
    means = (neighbor / trials, joined / trials, chance, seconds / trials)
    return Score(scheme, scope, count, trials, *means)


def machine() -> str:
    """Returns the CPU and versions that the seconds belong to."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        cpu = platform.processor() or platform.machine()
    numpy = importlib.metadata.version("numpy")
    return f"{cpu}, {os.cpu_count()} cores, Python {platform.python_version()}, NumPy {numpy}"


def main() -> None:
    """Runs the attack on all schemes and prints the table."""
    parser = argparse.ArgumentParser(description="Attack many images under one key.")
    parser.add_argument("photos", type=Path, help=f"folder of at least {max(COUNTS)} photos")
    parser.add_argument("--size", type=int, default=224, help="pixels per side (default 224)")
    parser.add_argument("--seed", type=int, default=0, help="of keys and of the choice of photos")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    arguments = parser.parse_args()
    console = Console(width=120, highlight=False)
    random = np.random.default_rng(arguments.seed)
    photos = load_photos(arguments.photos, max(COUNTS), arguments.size, random)
    console.print(machine())
    console.print(f"{len(photos)} photos at {arguments.size} px, seed {arguments.seed}")

    view = Table(title="neighbor / joined, % of the true inner edges", title_justify="left")
    for heading in ("scheme", "key scope", *(f"{n} image{'s' * (n > 1)}" for n in COUNTS)):
        view.add_column(heading, justify="right" if "image" in heading else "left", no_wrap=True)
    view.add_column("chance", justify="right")
    view.add_column(f"seconds ({max(COUNTS)})", justify="right")
    scores: list[Score] = []
    for scheme, scope in TARGETS:
        row = [attack(scheme, scope, photos, count, arguments.seed) for count in COUNTS]
        cells = [f"{100 * score.neighbor:.1f} / {100 * score.joined:.1f}" for score in row]
        view.add_row(scheme, scope, *cells, f"{100 * row[0].chance:.2f}", f"{row[-1].seconds:.2f}")
        scores += row
    console.print(view)
    groups = ", ".join(f"{score.trials} of {score.images}" for score in scores[: len(COUNTS)])
    console.print(f"means over groups of images: {groups}")
    if arguments.json:
        report: dict[str, Any] = {
            "machine": machine(),
            "size": arguments.size,
            "seed": arguments.seed,
            "scores": [asdict(score) for score in scores],
        }
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
