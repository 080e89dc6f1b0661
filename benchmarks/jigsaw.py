"""Measures the attacks on single encrypted images: the jigsaw solver, and shifted copies of one photo.

    python benchmarks/jigsaw.py PHOTOS [PHOTOS ...] [--size 224] [--count 12] [--json FILE]

Every image is encrypted with a key of its own (key scope ``"image"``) and attacked alone; the attacker
knows the scheme.  Scores are means over the photos, up to one state of the whole image.  *Dc*: blocks
(sub-blocks for ``/8``) in their place and state; *Nc*: joins that are joins of the plain image; *Lc*:
blocks in the largest part held together by such joins; *visible joins*: how much of what there is to
see goes on as in the plain image (see `visible_joins`).  JPEG is that of the encrypted image.

The solver is our own reconstruction of the extended jigsaw puzzle solver of Chuman and Kiya (2023).
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table
from topology import machine

from etc_data import Cipher, SecretKey
from etc_data.audit.attack import Attack
from etc_data.audit.ejps import JigsawAttack
from etc_data.audit.evidence import Ciphertexts
from etc_data.audit.judgment import Owner, judge
from etc_data.audit.shifted_copies import ShiftedCopiesAttack
from etc_data.codecs import JpegCodec, decode
from etc_data.sources.folder import ImageFolder
from etc_data.sources.images import load_rgb, resize_to

Bytes = npt.NDArray[np.uint8]

SCHEMES = ("com-16", "com-16/8", "ind-16", "ind-16/8", "etc-16", "etc-8")
QUALITIES = (None, 95, 85)
CROPS = {  # (row, column) of each copy's crop, in pixels
    "one copy": ((0, 0),),
    "aligned": ((0, 0), (16, 32)),
    "shifted by (8, 8)": ((0, 0), (8, 8)),
    "shifted by (3, 21)": ((0, 0), (3, 21)),
}
MARGIN = 32
SCORES = ("joins_revealed", "dc", "nc", "lc", "visible_joins", "ssim", "best_buddies")


@dataclass
class Row:
    """Mean scores of an attack on one scheme and coding, and those of each photo."""

    attack: str
    scheme: str
    copies: str
    quality: int | None
    photos: int
    seconds: float
    scores: dict[str, float]
    each: list[dict[str, float]]


def load(folders: list[Path], count: int, size: int) -> Bytes:
    """Returns `count` photos, spread over all folders alike, uint8 [count, size, size, 3]."""
    photos = []
    for number, folder in enumerate(folders):
        wanted = count // len(folders) + (number < count % len(folders))
        source = ImageFolder(folder)
        items = [item for split in source.splits for item in source.items(split)]
        for item in items[:: max(1, len(items) // wanted)][:wanted]:
            photos.append(np.asarray(resize_to(load_rgb(item.read()), size, size)))
    return np.stack(photos)


def attack_each(
    attack: Attack[Ciphertexts], scheme: str, copies: list[Bytes], quality: int | None, name: str = ""
) -> Row:
    """Attacks photos one by one, and returns the mean scores.

    Args:
        attack: to run.
        scheme: a preset's name.
        copies: for each photo, its copies, uint8 [n, H, W, 3].
        quality: of JPEG; None for exact pixels.
        name: of how the copies were made.
    """
    random = np.random.default_rng(0)
    findings = []
    for plain in copies:
        cipher = Cipher(scheme, SecretKey(random.bytes(32)), key_scope="image")
        nonces = [cipher.new_nonce(random) for _ in plain]
        encrypted = cipher.encrypt(plain, nonce=nonces)
        if quality is not None:
            codec = JpegCodec(quality=quality)
            encrypted = np.stack([decode(codec.encode(image)) for image in encrypted])
        evidence = Ciphertexts(cipher.scheme, "image", encrypted, "" if quality is None else "jpeg")
        owner = Owner(cipher, plain[:1], nonces[:1])
        findings.append(judge(attack, attack.run(evidence), cipher.scheme, "image", owner))
    known = [key for key in SCORES if key in findings[0].scores]
    each = [{key: finding.scores[key] for key in known} for finding in findings]
    means = {key: float(np.mean([scores[key] for scores in each])) for key in known}
    seconds = float(np.mean([finding.seconds for finding in findings]))
    return Row(attack.name, scheme, name, quality, len(findings), seconds, means, each)


def attack_copies(folders: list[Path], count: int, size: int, schemes: list[str]) -> Iterator[Row]:
    """Attacks several crops of each photo, on one grid and not, and yields the mean scores."""
    photos = load(folders, count, size + MARGIN)
    for scheme, name, quality in product(schemes, CROPS, (None, 95)):
        crops = [[photo[y : y + size, x : x + size] for y, x in CROPS[name]] for photo in photos]
        yield attack_each(ShiftedCopiesAttack(), scheme, list(map(np.stack, crops)), quality, name)


def show(console: Console, title: str, rows: list[Row]) -> None:
    """Prints one table."""
    view = Table(title=title, title_justify="left")
    for heading in ("scheme", "copies", "coding", *SCORES, "seconds"):
        view.add_column(heading, no_wrap=True)
    for row in rows:
        coding = "exact" if row.quality is None else f"JPEG {row.quality}"
        cells = [f"{row.scores[key]:.3f}" if key in row.scores else "" for key in SCORES]
        view.add_row(row.scheme, row.copies, coding, *cells, f"{row.seconds:.2f}")
    console.print(view)


def main() -> None:
    """Runs both attacks on all schemes and prints the tables."""
    parser = argparse.ArgumentParser(description="Attack single encrypted images.")
    parser.add_argument("photos", type=Path, nargs="+", help="folders of photos")
    parser.add_argument("--size", type=int, default=224, help="pixels per side (default 224)")
    parser.add_argument("--count", type=int, default=12, help="photos (default 12)")
    parser.add_argument("--scheme", action="append", help="only this one; can be repeated")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    parser.add_argument("--attack", choices=("jigsaw", "copies"), help="only this one (default both)")
    arguments = parser.parse_args()
    console = Console(width=140, highlight=False)
    console.print(machine())
    schemes = arguments.scheme or SCHEMES
    rows: list[Row] = []
    if arguments.attack != "copies":
        photos = load(arguments.photos, arguments.count, arguments.size)
        rows += [
            attack_each(JigsawAttack(most_images=1), scheme, list(photos[:, None]), quality)
            for scheme, quality in product(schemes, QUALITIES)
        ]
        show(console, f"jigsaw, {len(photos)} photos at {arguments.size} px", rows)
    if arguments.attack != "jigsaw":
        scrambled = [scheme for scheme in schemes if scheme.startswith("etc-")]
        several = list(attack_copies(arguments.photos, arguments.count, arguments.size, scrambled))
        show(console, f"shifted copies, {arguments.count} photos at {arguments.size} px", several)
        rows += several
    if arguments.json:
        report = {"machine": machine(), "rows": [asdict(row) for row in rows]}
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
