"""Times encrypted models beside their plain ones, and the encryption of a batch on a GPU.

    python benchmarks/models.py [--quick] [--device cuda] [--threads 1] [--json FILE]

Every form of a model is timed in turn, in rounds, in one process: what disturbs the machine falls on
all alike.  The ratios are medians over the rounds of plain time to encrypted time, so 0.95 means 95 %
of the plain model's speed; the images per second are those of the quickest round.  On the CPU with
one thread the clock counts the time of that thread, so that other processes disturb little; else it is
the wall clock, on a GPU after all kernels have ended.  Weights and images are random: no path depends
on them.  *Memory* is what parameters and buffers take; on a GPU also the peak of a forward pass.
*File* is the size of the safetensors file in times of the plain model's.

The second part encrypts batches of uint8 images where they lie, with one key for all (data-set
scope) and one for each (image scope, plans included and from a nonce each), and compares the bytes read
and written with those of a copy of a large tensor, the memory bandwidth.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import etc_data.models
import etc_data.torchvision_cpu  # noqa: F401

# isort: split
import timm
import torch
from machine import cpu_name
from rich.console import Console
from rich.table import Table
from torch import nn

from etc_data import Cipher, SecretKey
from etc_data.models import encrypt_model, save_encrypted_model
from etc_data.models.plain_files import save_plain_model

KEY = SecretKey(bytes(32))
MUST, MUST_FILE = 0.95, 1.02  # of the plain model's speed at least, of its file at most
BATCH = 64
# name in timm, pixels, scheme with a common key, scheme with independent keys
MODELS = (
    ("vit_tiny_patch16_224", 224, "com-16/8", "ind-16/8"),
    ("etc_convmixer_512_16_p16", 224, "com-16/8", "ind-16/8"),
    ("etc_convmixer_256_8_p4", 32, "com-4", "ind-4"),
)
ENCRYPTED_ON_DEVICE = ("etc-16", "ind-16/8", "shuffle-ind-16")


@dataclass
class Clock:
    """Tells the time that a device took."""

    device: torch.device

    def __call__(self) -> float:
        """Returns seconds."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        alone = self.device.type == "cpu" and torch.get_num_threads() == 1
        return time.thread_time() if alone else time.perf_counter()


@dataclass
class Row:
    """One network and batch size: the times of its forms, in seconds a call."""

    name: str
    batch: int
    seconds: dict[str, list[float]] = field(default_factory=dict)
    facts: dict[str, dict[str, float]] = field(default_factory=dict)

    def ratio(self, form: str) -> float:
        """Returns plain time in times of a form's time, the median over the rounds."""
        pairs = zip(self.seconds["plain"], self.seconds[form], strict=True)
        return statistics.median(plain / encrypted for plain, encrypted in pairs)

    def report(self) -> dict[str, Any]:
        """Returns what JSON holds of it."""
        forms = {
            form: {
                "images_per_second": self.batch / min(seconds),
                "median_ms": statistics.median(seconds) * 1e3,
                "of_plain_speed": self.ratio(form),
                **self.facts[form],
            }
            for form, seconds in self.seconds.items()
        }
        return {"model": self.name, "batch": self.batch, "forms": forms}


def forms_of(name: str, side: int, common: str, independent: str) -> dict[str, nn.Module]:
    """Returns the plain model and its encrypted forms."""
    torch.manual_seed(0)
    plain: nn.Module = timm.create_model(name, num_classes=1000).eval()
    options: dict[str, Any] = {"image_size": side}
    cipher = Cipher(independent, KEY)
    return {
        "plain": plain,
        "common": encrypt_model(plain, Cipher(common, KEY), **options),
        "compact": encrypt_model(plain, cipher, **options),
        "dense": encrypt_model(plain, cipher, form="dense", **options),
    }


def file_bytes(form: str, model: nn.Module) -> int:
    """Returns how large a model's safetensors file is."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        (save_plain_model if form == "plain" else save_encrypted_model)(model, path)
        return path.stat().st_size


def tensor_bytes(model: nn.Module) -> int:
    """Returns how much parameters and buffers take."""
    tensors = [*model.parameters(), *model.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def measure(
    name: str, side: int, schemes: tuple[str, str], device: torch.device, rounds: dict[int, int]
) -> list[Row]:
    """Returns the rows of one network."""
    models = {form: model.to(device) for form, model in forms_of(name, side, *schemes).items()}
    sizes = {form: file_bytes(form, model) for form, model in models.items()}
    clock, rows = Clock(device), []
    for batch, count in rounds.items():
        images = torch.randn(batch, 3, side, side, device=device)
        row = Row(name, batch)
        for form, model in models.items():
            facts = {"file_of_plain": sizes[form] / sizes["plain"], "memory": tensor_bytes(model)}
            peak = peak_memory(model, images)
            row.facts[form] = facts if peak is None else {**facts, "peak": peak}
            row.seconds[form] = []
        with torch.inference_mode():
            for number in range(-2, count):
                for form, model in models.items():
                    start = clock()
                    model(images)
                    if number >= 0:
                        row.seconds[form].append(clock() - start)
        rows.append(row)
    return rows


def peak_memory(model: nn.Module, images: torch.Tensor) -> float | None:
    """Returns the peak of GPU memory during a forward pass, or None on a CPU."""
    if images.device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats(images.device)
    with torch.inference_mode():
        model(images)
    return float(torch.cuda.max_memory_allocated(images.device))


def table(rows: list[Row]) -> Table:
    """Returns the table of one network."""
    view = Table(title=rows[0].name, title_justify="left")
    for column in ("batch", "form", "images/s", "of plain speed", "memory, MB", "file, × plain"):
        view.add_column(column, justify="left" if column == "form" else "right", no_wrap=True)
    for row in rows:
        for form, seconds in row.seconds.items():
            facts = row.facts[form]
            memory = f"{facts['memory'] / 1e6:.1f}"
            if "peak" in facts:
                memory += f" (peak {facts['peak'] / 1e6:.0f})"
            view.add_row(
                str(row.batch),
                form,
                f"{row.batch / min(seconds):.1f}",
                f"{row.ratio(form):.3f}",
                memory,
                f"{facts['file_of_plain']:.4f}",
            )
    return view


def best(call: Callable[[], Any], clock: Clock, rounds: int) -> float:
    """Returns the least seconds of a call."""
    call()
    seconds = []
    for _ in range(rounds):
        start = clock()
        call()
        seconds.append(clock() - start)
    return min(seconds)


def encryption(device: torch.device, rounds: int) -> tuple[float, list[dict[str, Any]]]:
    """Returns the bandwidth of a copy, bytes a second, and the rows of encrypting a batch."""
    clock = Clock(device)
    large = torch.empty(1 << (30 if device.type == "cuda" else 27), dtype=torch.uint8, device=device)
    target = large.clone()
    bandwidth = 2 * large.numel() / best(lambda: target.copy_(large), clock, rounds)
    images = torch.randint(0, 256, (BATCH, 3, 224, 224), dtype=torch.uint8, device=device)
    rows = []
    for scheme in ENCRYPTED_ON_DEVICE:
        fixed = Cipher(scheme, KEY)
        fresh = Cipher(scheme, KEY, key_scope="image")

        def with_nonces(fresh: Cipher = fresh) -> Any:
            return fresh.encrypt(images, nonce=[fresh.new_nonce() for _ in range(BATCH)])

        calls: dict[str, Callable[[], Any]] = {
            "dataset": lambda fixed=fixed: fixed.encrypt(images),  # type: ignore[misc]
            "image": with_nonces,
        }
        for scope, call in calls.items():
            seconds = best(call, clock, rounds)
            speed = 2 * images.numel() / seconds
            rows.append(
                {
                    "scheme": scheme,
                    "scope": scope,
                    "images_per_second": BATCH / seconds,
                    "of_bandwidth": speed / bandwidth,
                }
            )
    return bandwidth, rows


def encryption_table(bandwidth: float, rows: list[dict[str, Any]]) -> Table:
    """Returns the table of encrypting a batch."""
    view = Table(
        title=f"encrypting {BATCH} images of 224 px, uint8; a copy moves {bandwidth / 1e9:.0f} GB/s",
        title_justify="left",
    )
    for column in ("scheme", "scope", "images/s", "of the bandwidth"):
        view.add_column(column, justify="left" if column.startswith("sc") else "right", no_wrap=True)
    for row in rows:
        view.add_row(
            row["scheme"],
            row["scope"],
            f"{row['images_per_second']:,.0f}",
            f"{row['of_bandwidth']:.4f}",
        )
    return view


def budget(every: list[Row]) -> list[str]:
    """Returns the lines that say whether the budgets are met."""
    full = [row for row in every if row.batch == BATCH]
    slowest = min(full, key=lambda row: row.ratio("compact"))
    speed = slowest.ratio("compact")
    vits = [row for row in every if row.name.startswith("vit_tiny")]
    file = max(row.facts["compact"]["file_of_plain"] for row in vits)
    return [
        f"budget, compact form at batch {BATCH}, at least {MUST} of the plain model's speed: "
        f"{'yes' if speed >= MUST else 'NO'} (least: {slowest.name}, {speed:.3f})",
        f"budget, compact ViT-Ti/16 file, at most {MUST_FILE} of the plain model's: "
        f"{'yes' if file <= MUST_FILE else 'NO'} ({file:.4f})",
    ]


def machine(device: torch.device) -> dict[str, Any]:
    """Returns what a reader needs to place the figures."""
    facts = {"cpu": cpu_name(), "threads": torch.get_num_threads(), "python": platform.python_version()}
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
    return {**facts, **{name: version(name) for name in ("torch", "timm")}}


def main() -> None:
    """Runs the benchmark and prints its tables."""
    parser = argparse.ArgumentParser(description="Time encrypted models beside plain ones.")
    parser.add_argument("--quick", action="store_true", help="few rounds: a rough answer")
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda"
    )
    parser.add_argument("--threads", type=int, default=1, help="of the CPU (default: 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    console = Console(width=140, highlight=False)
    facts = machine(device)
    for name, value in facts.items():
        console.print(f"{name:8} {value}")

    start = time.perf_counter()
    rounds = {1: 5, BATCH: 2} if arguments.quick else {1: 40, BATCH: 50 if device.type == "cuda" else 5}
    every: list[Row] = []
    for model, side, *schemes in MODELS:
        common, independent = schemes
        rows = measure(model, side, (common, independent), device, rounds)
        console.print()
        console.print(table(rows))
        every += rows
    bandwidth, encrypted = encryption(device, 2 if arguments.quick else 10)
    console.print()
    console.print(encryption_table(bandwidth, encrypted))
    lines = budget(every)
    console.print()
    for line in lines:
        console.print(line, soft_wrap=True)
    console.print(f"measured in {time.perf_counter() - start:.0f} s")
    if arguments.json:
        report = {
            "machine": facts,
            "models": [row.report() for row in every],
            "copy_bytes_per_second": bandwidth,
            "encryption": encrypted,
            "budget": lines,
        }
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
