"""Measures whether the matrix of an adaptive ConvMixer becomes a permutation (qi2022-convmixer §III-B).

    python benchmarks/permutation_matrix.py SOURCE [--epochs 8] [--limit 3000] [--weights 1e-4 1 100]

SOURCE is what ``etc-data train`` takes as plain images of 32 px, such as CIFAR-10's folders; they are
encrypted by ``adaptive-4`` under one key.  A ConvMixer-64/4 with patches of 4 and a matrix over its 64
positions is trained once for every weight λ of the penalty L_U, and the matrix is reported on before
and after: how near it is to a permutation, and to the one that would restore the blocks.  *Pull* is the
size of λ's gradient in units of the cross-entropy's, both as root mean square over the matrix, at the
first batch.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file
from torch.nn import functional as F

from etc_data.cipher import Cipher
from etc_data.keys import SecretKey
from etc_data.models import penalty, report_permutation
from etc_data.models.permutation_report import PermutationReport
from etc_data.recipes.batches import open_batches
from etc_data.recipes.normalize import Normalize
from etc_data.recipes.settings import Settings, settings_from_dict
from etc_data.recipes.train import make_cipher, make_model, train

SCHEME, MATRIX = "adaptive-4", "stem.3.matrix"


def settings_of(weight: float, folder: Path, arguments: argparse.Namespace) -> Settings:
    """Returns the settings of one run."""
    options = {"dim": 64, "depth": 4, "kernel_size": 5, "penalty_weight": weight}
    values: dict[str, Any] = {
        "out": str(folder / f"{weight:g}"),
        "epochs": arguments.epochs,
        "seed": arguments.seed,
        "model": {"name": "etc_convmixer_256_8_p4_adaptive", "options": options},
        "data": {
            **{"source": arguments.source, "val": arguments.val, "limit": arguments.limit},
            **{"val_limit": 1000, "scheme": SCHEME, "key": str(folder / "key")},
        },
        "optimizer": {"lr": 5e-3, "warmup": 0.5},
    }
    return settings_from_dict(values)


def pull(settings: Settings, classes: int) -> tuple[float, torch.Tensor]:
    """Returns λ's gradient in units of the cross-entropy's at the first batch, and the matrix then."""
    torch.manual_seed(settings.seed)
    model: Any = make_model(settings, classes)
    device = torch.device("cpu")
    batches = open_batches(settings, training=True, device=device, cipher=make_cipher(settings))
    images, labels = next(batches.epoch(0))
    matrix = model.get_parameter(MATRIX)
    loss = F.cross_entropy(model(Normalize([0.5] * 3, [0.5] * 3)(images)), labels)
    of_loss, of_penalty = (torch.autograd.grad(part, matrix)[0] for part in (loss, penalty(model)))
    return float(of_penalty.norm() / of_loss.norm()), matrix.detach()


def row(name: str, pulled: str, accuracy: str, report: PermutationReport) -> tuple[str, ...]:
    """Returns the cells of one line of the table."""
    return (
        name,
        pulled,
        accuracy,
        f"{report.similarity:.3f}",
        f"{report.row_entropy:.2f}",
        f"{report.column_entropy:.2f}",
        f"{report.agreeing} of {len(report.order)}",
        f"{report.neighbors_kept:.1%}",
    )


def main() -> None:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(description="Report on trained permutation matrices.")
    parser.add_argument("source", metavar="SOURCE", help="plain images of 32 px with 10 classes")
    parser.add_argument("--val", default="test", help="the split to test on (default: test)")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--limit", type=int, default=3000, help="training images (default: 3000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weights", type=float, nargs="+", default=[1e-4, 1.0, 100.0], help="λ")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    key = SecretKey(bytes(32))
    order = Cipher(SCHEME, key).plan(32, 32).tile_order
    view = Table()
    for column in (
        "λ",
        "pull",
        "accuracy",
        "similarity",
        "row bits",
        "column bits",
        "agree",
        "neighbors",
    ):
        view.add_column(column, justify="right", no_wrap=True)
    with tempfile.TemporaryDirectory() as folder:
        key.save(Path(folder) / "key")
        for weight in arguments.weights:
            settings = settings_of(weight, Path(folder), arguments)
            pulled, start = pull(settings, classes=10)
            if weight == arguments.weights[0]:
                view.add_row(*row("before", "", "", report_permutation(start, order)))
            summary = train(settings)
            matrix = load_file(summary.out / "last.safetensors")[MATRIX]
            cells = row(
                f"{weight:g}",
                f"{pulled:.1e}",
                f"{summary.accuracy:.1%}",
                report_permutation(matrix, order),
            )
            view.add_row(*cells)
    Console(width=120, highlight=False).print(view)


if __name__ == "__main__":
    main()
