"""Measures what the holder of an encrypted model reads of its encrypted queries.

    python benchmarks/encrypted_model.py PHOTOS [--size 128] [--network convmixer] [--seed 0]
    python benchmarks/encrypted_model.py PHOTOS --network vit --patch 8 --scheme etc-8

PHOTOS is a folder of labeled photos with the splits train and val.  A small network is trained on half
of the train split, fine-tuned on the other half at several learning rates, and encrypted.

The first table: the attacker matches its patch embedding against the weights before fine-tuning, and
against weights from another training.  *Moved* is how far fine-tuning took the embedding, relative to
its norm.  The second: he has nothing but the encrypted model and some queries, as exact pixels or as
JPEG, and matches its patches against each other; means over several groups of queries.  *No positions*
is a model whose position embedding tells nothing of neighbors.  *Values* is the share of the values of
a query that he reads, *joins* that of the neighbors that are neighbors again.
"""

import argparse
import copy
import time
from collections.abc import Iterator
from itertools import product
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
from etc_data.codecs import JpegCodec, decode
from etc_data.models import encrypt_model
from etc_data.models.patch_embedding import find_patch_embedding
from etc_data.models.public_facts import model_info
from etc_data.sources.folder import ImageFolder
from etc_data.sources.images import load_rgb, resize_to

Bytes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]

HALF = (0.5, 0.5, 0.5)
QUERIES = 40
GROUPS = {1: 12, 5: 6, QUERIES: 1}  # queries at once: how often
RATES = (1e-3, 5e-3, 2e-2)
SCHEMES = {"convmixer": ("ind-16/8", "shuffle-ind-16"), "vit": ("ind-16/8", "shuffle-ind-16", "etc-16")}
SCORES = ("likeness", "times_chance", "values", "ssim")
SCORES_ALONE = ("joins", "lc", "visible_joins", "values", "ssim", "best_buddies")


def load(folder: Path, split: str, size: int, random: np.random.Generator) -> tuple[Bytes, Integers]:
    """Returns a split in random order: uint8 [n, size, size, 3] and labels."""
    items = ImageFolder(folder).items(split)
    chosen = [items[int(number)] for number in random.permutation(len(items))]
    images = [np.asarray(resize_to(load_rgb(item.read()), size, size)) for item in chosen]
    return np.stack(images), np.array([item.label for item in chosen])


def make(network: str, size: int, patch: int, seed: int) -> nn.Module:
    """Returns a small network with fresh weights."""
    torch.manual_seed(seed)
    if network == "convmixer":
        return ConvMixer(128, 4, 5, patch, num_classes=10)
    return VisionTransformer(size, patch, embed_dim=192, depth=3, num_heads=3, num_classes=10)


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


def attacked(
    attack: Attack[EncryptedModel], cipher: Cipher, evidence: EncryptedModel, plain: Bytes
) -> Finding:
    """Returns what an attack on queries finds; `plain` are the first of them."""
    return judge(attack, attack.run(evidence), cipher.scheme, "dataset", Owner(cipher, plain[:8]))


def cells(findings: list[Finding], names: tuple[str, ...]) -> list[str]:
    """Returns mean scores, and the mean seconds."""
    scores = [[found.scores[name] for found in findings if name in found.scores] for name in names]
    seconds = np.mean([found.seconds for found in findings])
    return [*(f"{np.mean(each):.3f}" if each else "" for each in scores), f"{seconds:.1f}"]


def rows_alone(victim: nn.Module, cipher: Cipher, plain: Bytes) -> Iterator[list[str]]:
    """Yields what the encrypted model and some queries tell: exact, as JPEG, without positions."""
    model = encrypt_model(victim, cipher, image_size=plain.shape[1], mean=HALF, std=HALF)
    exact = cipher.encrypt(plain)
    codec = JpegCodec(quality=95)
    cases = [("exact", model, exact)]
    cases.append(("JPEG 95", model, np.stack([decode(codec.encode(image)) for image in exact])))
    if model_info(model).position_embedding is not None:
        blind = copy.deepcopy(model)
        torch.nn.init.normal_(blind.get_parameter("pos_embed"))
        cases += [(f"{coding}, no positions", blind, queries) for coding, _, queries in cases]
    for (coding, model, queries), (count, groups) in product(cases, GROUPS.items()):
        findings = []
        for first in range(0, count * groups, count):
            some = slice(first, first + count)
            evidence = EncryptedModel(model, queries[some])
            findings.append(attacked(RowMatchingAttack(), cipher, evidence, plain[some]))
        yield [cipher.scheme.name, coding, str(count), *cells(findings, SCORES_ALONE)]


def main() -> None:
    """Trains, encrypts, attacks, and prints the tables."""
    parser = argparse.ArgumentParser(description="Attack encrypted models.")
    parser.add_argument("photos", type=Path, help="folder with train/<class>/ and val/<class>/")
    parser.add_argument("--size", type=int, default=128, help="pixels per side (default 128)")
    parser.add_argument("--network", choices=tuple(SCHEMES), default="convmixer")
    parser.add_argument("--patch", type=int, default=16, help="pixels per side (default 16)")
    parser.add_argument("--scheme", action="append", help="only this one; can be repeated")
    parser.add_argument("--steps", type=int, default=200, help="of training (default 200)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--alone", action="store_true", help="only the second table")
    arguments = parser.parse_args()
    console = Console(width=130, highlight=False)
    console.print(machine())
    torch.set_num_threads(1)
    random = np.random.default_rng(arguments.seed)
    size, network, steps = arguments.size, arguments.network, arguments.steps
    schemes = arguments.scheme or SCHEMES[network]
    images, labels = load(arguments.photos, "train", size, random)
    plain, answers = load(arguments.photos, "val", size, random)
    half, queries = len(images) // 2, plain[:QUERIES]
    first, second = (images[:half], labels[:half]), (images[half:], labels[half:])
    rate = 1e-2 if network == "convmixer" else 3e-3
    start = time.perf_counter()
    fresh = make(network, size, arguments.patch, arguments.seed)
    base = train(copy.deepcopy(fresh), first, steps, rate)
    seconds = time.perf_counter() - start
    console.print(
        f"{network}: {accuracy(base, plain, answers):.0%} of {len(plain)} val photos right after "
        f"{steps} steps on {half} photos ({seconds:.0f} s); embedding moved "
        f"{moved(base, fresh, size):.0%} from its start"
    )

    def ciphers() -> Iterator[Cipher]:
        for scheme in schemes:
            yield Cipher(scheme, SecretKey(random.bytes(32)), key_scope="dataset")

    if not arguments.alone:
        unrelated = train(make(network, size, arguments.patch, arguments.seed + 1), first, steps, rate)
        table = Table("moved", "scheme", "attacker has", *SCORES, "s", title="with other weights")
        for fine_tuning in RATES:
            victim = train(copy.deepcopy(base), second, steps // 2, fine_tuning)
            far = f"{moved(victim, base, size):.0%}"
            for cipher in ciphers():
                model = encrypt_model(victim, cipher, image_size=size, mean=HALF, std=HALF)
                hidden = cipher.encrypt(queries)
                for holds, weights in (("weights before", base), ("other weights", unrelated)):
                    evidence = EncryptedModel(model, hidden, weights)
                    found = attacked(BaseWeightsAttack(), cipher, evidence, queries)
                    table.add_row(far, cipher.scheme.name, holds, *cells([found], SCORES))
        console.print(table)
    victim = train(copy.deepcopy(base), second, steps // 2, RATES[0])
    table = Table("scheme", "coding", "queries", *SCORES_ALONE, "s", title="with the model alone")
    for cipher in ciphers():
        for row in rows_alone(victim, cipher, plain):
            table.add_row(*row)
    console.print(table)


if __name__ == "__main__":
    main()
