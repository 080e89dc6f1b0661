"""Measures the attack on many images under one key: how much it restores from how many images.

    python benchmarks/topology.py PHOTOS [--size 224] [--scheme NAME]... [--count N]... [--json FILE]

The attacker has encrypted images alone, and knows the scheme.  A cell gives the share of *joins*, the
neighbors across borders of tiles that are neighbors again, and the SSIM of restored pictures, brought
into the global state that is nearest to the plain ones.  Both are means over groups of images, since
with few images the score depends on which.  The control rows have a key per image: every image has
another layout there, and the score is against that of the first.
"""

import argparse
import importlib.metadata
import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from machine import cpu_name
from rich.console import Console
from rich.progress import track
from rich.table import Table

from etc_data import Cipher, SecretKey
from etc_data.audit.evidence import Ciphertexts
from etc_data.audit.judgment import Owner, judge
from etc_data.audit.topology import TopologyAttack
from etc_data.schemes import KeyScope
from etc_data.sources.folder import ImageFolder
from etc_data.sources.images import load_rgb, resize_to

Bytes = npt.NDArray[np.uint8]

COUNTS = (1, 5, 20, 100, 1000)
SCHEMES = ("etc-16", "etc-8", "com-16", "ind-16", "com-16/8", "ind-16/8")
CONTROLS = ("etc-16", "ind-16/8")
MOST_GROUPS = 4
SHOWN = 4


@dataclass
class Score:
    """How much of the pictures came back, as means over groups of images."""

    scheme: str
    scope: KeyScope
    size: int
    images: int
    groups: int
    joins: float
    ssim: float
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


def attack(scheme: str, scope: KeyScope, photos: Bytes, count: int, seed: int) -> Score:
    """Attacks groups of `count` images under one key and returns the mean scores."""
    random = np.random.default_rng(seed)
    cipher = Cipher(scheme, SecretKey(random.bytes(32)), key_scope=scope)
    groups = min(MOST_GROUPS, len(photos) // count)
    sums = np.zeros(3)
    for group in np.split(photos[: groups * count], groups):
        nonces = [cipher.new_nonce(random) for _ in group] if scope == "image" else []
        encrypted = cipher.encrypt(group, nonce=nonces or None)
        trial = TopologyAttack(count, SHOWN)
        restoration = trial.run(Ciphertexts(cipher.scheme, scope, encrypted))
        owner = Owner(cipher, group[:SHOWN], nonces[:SHOWN])
        finding = judge(trial, restoration, cipher.scheme, scope, owner)
        sums += finding.scores["joins"], finding.scores["ssim"], finding.seconds
    joins, ssim, seconds = map(float, sums / groups)
    return Score(scheme, scope, photos.shape[1], count, groups, joins, ssim, seconds)


def machine() -> str:
    """Returns the CPU and versions that the seconds belong to."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("numpy", "scipy"))
    return f"{cpu_name()}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}"


def table(scores: list[Score]) -> Table:
    """Returns the view of all scores, a row for each scheme and key scope."""
    counts = sorted({score.images for score in scores})
    view = Table(title="joins %, SSIM", title_justify="left")
    for heading in ("scheme", "key scope", *(f"{n} image{'s' * (n > 1)}" for n in counts)):
        view.add_column(heading, justify="right" if "image" in heading else "left", no_wrap=True)
    view.add_column(f"seconds ({counts[-1]})", justify="right")
    for scheme, scope in dict.fromkeys((score.scheme, score.scope) for score in scores):
        row = [score for score in scores if (score.scheme, score.scope) == (scheme, scope)]
        cells = [f"{100 * score.joins:.1f}, {score.ssim:.2f}" for score in row]
        view.add_row(scheme, scope, *cells, f"{row[-1].seconds:.1f}")
    return view


def main() -> None:
    """Runs the attack on all schemes and prints the table."""
    parser = argparse.ArgumentParser(description="Attack many images under one key.")
    parser.add_argument(
        "photos", type=Path, help="folder of photos, at least as many as the counts ask"
    )
    parser.add_argument("--size", type=int, default=224, help="pixels per side (default 224)")
    parser.add_argument("--scheme", action="append", metavar="NAME", help="may be repeated")
    parser.add_argument("--count", action="append", type=int, metavar="N", help="may be repeated")
    parser.add_argument("--seed", type=int, default=0, help="of keys and of the choice of photos")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    arguments = parser.parse_args()
    counts = sorted(arguments.count or COUNTS)
    schemes = arguments.scheme or SCHEMES
    targets: list[tuple[str, KeyScope]] = [(scheme, "dataset") for scheme in schemes]
    targets += [(scheme, "image") for scheme in CONTROLS if scheme in schemes]
    console = Console(width=120, highlight=False)
    random = np.random.default_rng(arguments.seed)
    photos = load_photos(arguments.photos, max(counts), arguments.size, random)
    console.print(machine())
    console.print(f"{len(photos)} photos at {arguments.size} px, seed {arguments.seed}")
    jobs = [(scheme, scope, count) for scheme, scope in targets for count in counts]
    quiet = not console.is_terminal
    scores = [
        attack(scheme, scope, photos, count, arguments.seed)
        for scheme, scope, count in track(jobs, "attacking", console=console, disable=quiet)
    ]
    console.print(table(scores))
    groups = ", ".join(f"{score.groups} of {score.images}" for score in scores[: len(counts)])
    console.print(f"means over groups of images: {groups}")
    if arguments.json:
        report = {
            "machine": machine(),
            "seed": arguments.seed,
            "scores": [asdict(score) for score in scores],
        }
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
