"""Trains order-free models on images that each have their own key, and a ViT on plain ones.

    python benchmarks/order_free.py SOURCE [--epochs 4] [--limit 2000] [--val-limit 1000] [--seeds 2]

SOURCE is what ``etc-data train`` takes as plain images of 10 classes, such as Imagenette's folders or
tars.  They are brought to 128 px, flipped at random, and encrypted by ``etc-16`` with a fresh key for
every image in every epoch; the test images too have a key each.  All networks are trained from scratch
by the library's own recipe with the same settings and, as all are cut to the same depth, at nearly the
same cost; the plain ViT tells what the order and the upright blocks are worth.  Accuracies are of the
last epoch.  With one thread and one seed the figures are the same on every run.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from etc_data.keys import SecretKey
from etc_data.recipes.settings import settings_from_dict
from etc_data.recipes.train import RunSummary, train


@dataclass(frozen=True)
class Network:
    """One row of the table.

    Attributes:
        label: what it is.
        name: in timm.
        encrypted: whether it sees images with a key each, or plain ones.
        options: of `timm.create_model`.
    """

    label: str
    name: str
    encrypted: bool
    options: dict[str, Any]


SIDE, DEPTH = 128, 2
# Half of the blocks are dropped in training, which a set bears well and which halves the cost.
_SET = {"depth": DEPTH, "patch_drop_rate": 0.5}
NETWORKS = (
    Network("invariant stem", "etc_blockset_tiny_b16_128", True, _SET),
    Network("learned stem", "etc_blockset_learned_tiny_b16_128", True, _SET),
    Network("bag of blocks, invariant stem", "etc_blockset_bag_b16_128", True, _SET),
    Network(
        "ViT with positions, plain images",
        "etc_vit_tiny_patch16_224",
        False,
        {"img_size": SIDE, **_SET},
    ),
)


def run(network: Network, seed: int, folder: Path, arguments: argparse.Namespace) -> RunSummary:
    """Trains and tests one network."""
    data: dict[str, Any] = {
        "source": arguments.source,
        "size": SIDE,
        "limit": arguments.limit,
        "val_limit": arguments.val_limit,
    }
    if network.encrypted:
        data |= {"scheme": "etc-16", "key_scope": "image", "key": str(folder / "key")}
        data |= {"quality": arguments.quality}
    settings = {
        "out": str(folder / f"{network.name}-{seed}"),
        "epochs": arguments.epochs,
        "batch": 64,
        "seed": seed,
        "precision": "bf16",
        "model": {"name": network.name, "options": network.options},
        "data": data,
        "augment": {"flip": True, "smoothing": 0.1},
        "optimizer": {"name": "adamw", "lr": 1e-3, "weight_decay": 0.05, "warmup": 0.5},
    }
    return train(settings_from_dict(settings))


def measure(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Returns the rows of the table."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        SecretKey(bytes(32)).save(Path(folder) / "key")
        for network in NETWORKS:
            runs = [run(network, seed, Path(folder), arguments) for seed in range(arguments.seeds)]
            rows.append(
                {
                    "label": network.label,
                    "name": network.name,
                    "parameters": runs[0].parameters,
                    "accuracies": [one.accuracy for one in runs],
                    "seconds": statistics.mean(one.seconds for one in runs),
                }
            )
    return rows


def table(rows: list[dict[str, Any]]) -> Table:
    """Returns what is printed."""
    view = Table()
    for column in ("network", "parameters, M", "accuracy of each seed, %", "mean, %", "s a run"):
        view.add_column(column, justify="left" if column == "network" else "right", no_wrap=True)
    for row in rows:
        percent = [100 * accuracy for accuracy in row["accuracies"]]
        view.add_row(
            row["label"],
            f"{row['parameters'] / 1e6:.2f}",
            ", ".join(f"{one:.1f}" for one in percent),
            f"{statistics.mean(percent):.1f}",
            f"{row['seconds']:.0f}",
        )
    return view


def main() -> None:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(description="Train order-free models side by side.")
    parser.add_argument("source", metavar="SOURCE", help="plain images with splits train and val")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--limit", type=int, default=2000, help="training images (default: 2000)")
    parser.add_argument("--val-limit", type=int, default=1000, help="test images (default: 1000)")
    parser.add_argument("--seeds", type=int, default=2, help="runs of each network (default: 2)")
    parser.add_argument("--quality", type=int, help="code encrypted images as JPEG (default: no loss)")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU (default: 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    console = Console(width=120, highlight=False)
    start = time.perf_counter()
    rows = measure(arguments)
    console.print(table(rows))
    facts = {
        "settings": {name: str(value) for name, value in vars(arguments).items()},
        "machine": f"{platform.machine()}, torch {version('torch')}, timm {version('timm')}",
        "seconds": round(time.perf_counter() - start),
    }
    console.print(f"measured in {facts['seconds']} s on {facts['machine']}")
    if arguments.json:
        arguments.json.write_text(json.dumps({**facts, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
