"""Measures what the holder of an encrypted model reads of its encrypted queries.

    python benchmarks/encrypted_model.py PHOTOS [--size 128] [--network convmixer] [--seed 0]

PHOTOS is a folder of labeled photos with the splits train and val.  A small network with patches of 16
is trained on half of the train split, fine-tuned on the other half at several learning rates, and
encrypted.  The attacker matches its patch embedding against the weights before fine-tuning, against
weights from another training, and its patches against each other.  *Moved* is how far fine-tuning took
the embedding, relative to its norm.  *Values* is the share of the values of a query that he reads.
"""

import argparse
import copy
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.table import Table
from topology import machine
from torch import nn
from torch.nn import functional as F

import etc_data.torchvision_cpu  # noqa: F401

# isort: split
from timm.models.convmixer import ConvMixer
from timm.models.vision_transformer import VisionTransformer

from etc_data import Cipher, SecretKey
from etc_data.audit.attack import Attack, Finding
from etc_data.audit.evidence import EncryptedModel
from etc_data.audit.judgment import Owner, judge
from etc_data.audit.model_alone import RowMatchingAttack
from etc_data.audit.model_base import BaseWeightsAttack
from etc_data.models import encrypt_model
from etc_data.models.patch_embedding import find_patch_embedding
from etc_data.sources.folder import ImageFolder
from etc_data.sources.images import load_rgb, resize_to

Bytes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]

HALF = (0.5, 0.5, 0.5)
QUERIES = 40
RATES = (1e-3, 5e-3, 2e-2)
SCHEMES = {"convmixer": ("ind-16/8", "shuffle-ind-16"), "vit": ("ind-16/8", "shuffle-ind-16", "etc-16")}


def load(folder: Path, split: str, size: int, random: np.random.Generator) -> tuple[Bytes, Integers]:
    """Returns a split in random order: uint8 [n, size, size, 3] and labels."""
    items = ImageFolder(folder).items(split)
    chosen = [items[int(number)] for number in random.permutation(len(items))]
    images = [np.asarray(resize_to(load_rgb(item.read()), size, size)) for item in chosen]
    return np.stack(images), np.array([item.label for item in chosen])


def make(network: str, size: int, seed: int) -> nn.Module:
    """Returns a small network with patches of 16 and fresh weights."""
    torch.manual_seed(seed)
    if network == "convmixer":
        return ConvMixer(128, 4, 5, 16, num_classes=10)
    return VisionTransformer(size, 16, embed_dim=192, depth=3, num_heads=3, num_classes=10)


def train(model: nn.Module, data: tuple[Bytes, Integers], steps: int, rate: float) -> nn.Module:
    """Trains a network by AdamW, in place."""
    images, labels = data
    random = np.random.default_rng(0)
    optimizer = torch.optim.AdamW(model.train().parameters(), rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    for _ in range(steps):
        batch = random.integers(len(images), size=32)
        loss = F.cross_entropy(model(as_input(images[batch])), torch.from_numpy(labels[batch]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def as_input(images: Bytes) -> torch.Tensor:
    """Returns what a network sees."""
    return torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32)) / 127.5 - 1


def accuracy(model: nn.Module, images: Bytes, labels: Integers) -> float:
    """Returns the share of right answers."""
    with torch.inference_mode():
        answers = model(as_input(images)).argmax(dim=1).numpy()
    return float((answers == labels).mean())


def moved(model: nn.Module, start: nn.Module, size: int) -> float:
    """Returns how far the patch embedding is from what it was, relative to its norm."""
    now, then = (
        next(find_patch_embedding(one, (size, size)).layer.parameters()).detach()
        for one in (model, start)
    )
    return float((now - then).norm() / then.norm())


def main() -> None:
    """Trains, encrypts, attacks, and prints the table."""
    parser = argparse.ArgumentParser(description="Attack encrypted models.")
    parser.add_argument("photos", type=Path, help="folder with train/<class>/ and val/<class>/")
    parser.add_argument("--size", type=int, default=128, help="pixels per side (default 128)")
    parser.add_argument("--network", choices=tuple(SCHEMES), default="convmixer")
    parser.add_argument("--steps", type=int, default=200, help="of training (default 200)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    console = Console(width=130, highlight=False)
    console.print(machine())
    torch.set_num_threads(1)
    random = np.random.default_rng(arguments.seed)
    size, network, steps = arguments.size, arguments.network, arguments.steps
    images, labels = load(arguments.photos, "train", size, random)
    plain, answers = load(arguments.photos, "val", size, random)
    half, queries = len(images) // 2, plain[:QUERIES]
    first, second = (images[:half], labels[:half]), (images[half:], labels[half:])
    rate = 1e-2 if network == "convmixer" else 3e-3
    start = time.perf_counter()
    fresh = make(network, size, arguments.seed)
    base = train(copy.deepcopy(fresh), first, steps, rate)
    seconds = time.perf_counter() - start
    unrelated = train(make(network, size, arguments.seed + 1), first, steps, rate)
    console.print(
        f"{network}: {accuracy(base, plain, answers):.0%} of {len(plain)} val photos right after "
        f"{steps} steps on {half} photos ({seconds:.0f} s); embedding moved "
        f"{moved(base, fresh, size):.0%} from its start"
    )
    table = Table("moved", "scheme", "attacker has", "likeness", "× chance", "values", "SSIM", "s")

    def add(
        far: str, cipher: Cipher, holds: str, attack: Attack[EncryptedModel], has: EncryptedModel
    ) -> None:
        found: Finding = judge(
            attack, attack.run(has), cipher.scheme, "dataset", Owner(cipher, queries[:8])
        )
        numbers = (found.scores.get(name) for name in ("likeness", "times_chance", "values", "ssim"))
        cells = ("" if number is None else f"{number:.3f}" for number in numbers)
        table.add_row(far, cipher.scheme.name, holds, *cells, f"{found.seconds:.1f}")

    for fine_tuning in RATES:
        victim = train(copy.deepcopy(base), second, steps // 2, fine_tuning)
        far = f"{moved(victim, base, size):.0%}"
        for scheme in SCHEMES[network]:
            cipher = Cipher(scheme, SecretKey(random.bytes(32)), key_scope="dataset")
            model = encrypt_model(victim, cipher, image_size=size, mean=HALF, std=HALF)
            hidden = cipher.encrypt(queries)
            for holds, weights in (("weights before", base), ("other weights", unrelated)):
                add(far, cipher, holds, BaseWeightsAttack(), EncryptedModel(model, hidden, weights))
            if fine_tuning == RATES[0]:
                for count in (1, QUERIES):
                    evidence = EncryptedModel(model, hidden[:count])
                    add(
                        far,
                        cipher,
                        f"{count} queries" if count > 1 else "one query",
                        RowMatchingAttack(),
                        evidence,
                    )
    console.print(table)


if __name__ == "__main__":
    main()
