"""Audits every preset, with one key and with a key per image, and prints what came back as a table.

    python benchmarks/audits.py PHOTOS [--images 200] [--scheme NAME]... [--seed N] [--keep FOLDER]

For each, `etc-data encrypt` writes a data set of the photos and `etc-data audit --quick` attacks it:
block schemes at 224 px and JPEG 95, the others, which JPEG does not suit, at 64 px and lossless.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from etc_data import Scheme, SecretKey
from etc_data.presets import PRESET_NAMES
from etc_data.schemes import KeyScope

SCHEMES = ("etc-8", *PRESET_NAMES)
SCOPES: dict[KeyScope, str] = {"dataset": "One key for all images", "image": "A key per image"}
ATTACKS = {  # and the heads of their columns
    "jigsaw": "jigsaw",
    "brute force": "brute force",
    "as is": "as is",
    "feature reconstruction, advanced": "FR",
    "recognition": "found",
    "known plaintext, 1 pair": "read: 1 pair",
    "known plaintext, 4 pairs": "4 pairs",
    "chosen plaintext": "chosen",
}
DECIDING = {"topology": "joins", "as is": "contours", "feature reconstruction, advanced": "contours"}
DECIDING |= {"recognition": "recognized", "known plaintext": "values", "chosen plaintext": "values"}


def run(*command: str) -> str:
    """Runs `etc-data` and returns what it printed."""
    whole = [sys.executable, "-m", "etc_data", *command]
    done = subprocess.run(whole, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"etc-data {command[0]} failed:\n{done.stderr}")
    return done.stdout


def audited(photos: Path, scheme: str, scope: KeyScope, images: int, seed: int, work: Path) -> Any:
    """Returns the report of a data set made for it."""
    name = f"{scheme}-{scope}".replace("/", "-")
    key, out = work / f"{name}.key", work / name
    if not key.exists():
        SecretKey(bytes([seed]) * 32).save(key)
    friendly = Scheme.preset(scheme).jpeg_friendly
    coded = ("--size", "224") if friendly else ("--size", "64", "--lossless")
    data = ("--scheme", scheme, "--key-scope", scope, *coded)
    run("encrypt", str(photos), str(out), "--key", str(key), *data, "--limit", str(images))
    report = work / f"{name}-report"
    command = ("audit", str(out), "--key", str(key), "-o", str(report), "--quick", "--json")
    return json.loads(run(*command, "--images", str(images)))


def row(scheme: str, report: Any, counts: list[int]) -> list[str]:
    """Returns the cells of a report: the deciding or named score of each attack, bold for a success."""
    cells = {}
    for attack in report["attacks"]:
        name, cost = attack["attack"], attack["cost"]
        score = attack["scores"].get(DECIDING.get(name, "visible_joins"), 0)
        if name == "topology":
            name += f", {cost['images']:.0f}"
        elif name == "known plaintext":
            name += f", {cost['pairs']:.0f} pair" + "s" * (cost["pairs"] > 1)
        cells[name] = f"**{score:.2f}**" if attack["success"] else f"{score:.2f}"
    columns = [*(f"topology, {count}" for count in counts), *ATTACKS]
    broken = "yes" if report["broken"] else "no"
    scores = (cells.get(column, "") for column in columns)
    return [f"`{scheme}`", *scores, broken, f"{report['seconds']:.0f}"]


def main() -> None:
    """Audits all presets and prints the tables in Markdown."""
    parser = argparse.ArgumentParser(description="Audit every preset.")
    parser.add_argument("photos", type=Path, help="a folder of photos in class folders")
    parser.add_argument("--images", type=int, default=200, help="of each data set (default 200)")
    parser.add_argument("--scheme", action="append", metavar="NAME", help="may be repeated")
    parser.add_argument("--seed", type=int, default=0, help="0 to 255, of the keys")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave data sets and reports there")
    arguments = parser.parse_args()
    console = Console(stderr=True)
    schemes = arguments.scheme or SCHEMES
    counts = sorted({1, 5, 20, 100, arguments.images})
    joins = (f"joins from {count}" for count in counts)
    heads = ["scheme", *joins, *ATTACKS.values(), "broken", "seconds"]
    with tempfile.TemporaryDirectory() as scratch:
        work = arguments.keep or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        for scope, words in SCOPES.items():
            lines = [f"\n{words}:\n", " | ".join(["", *heads, ""]).strip()]
            lines.append("| --- " * len(heads) + "|")
            for scheme in track(schemes, words, console=console, disable=not console.is_terminal):
                report = audited(
                    arguments.photos, scheme, scope, arguments.images, arguments.seed, work
                )
                cells = row(scheme, report, counts)
                lines.append("| " + " | ".join(cells) + " |")
            sys.stdout.write("\n".join(lines) + "\n")
    console.print(f"{os.cpu_count()} cores")


if __name__ == "__main__":
    main()
