"""Measures what a look, FR and ITN restore of single images, each encrypted with a key of its own.

    python benchmarks/restoration.py PHOTOS [--size 224] [--count 24] [--scheme pe ...]
    python benchmarks/restoration.py PHOTOS --size 32 --own OWN [--device cuda]

Without ``--own``, the encrypted images as they are, and the feature reconstruction attack on them, in
its basic and its advanced form.  With a folder of the attacker's own pictures, the inverse
transformation network, trained on all of them.  *SSIM* and *contours* are means over the photos;
*strangers* is what the same pictures score against other photos of the set, which is what chance gives.
"""

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table
from topology import load_photos, machine

from etc_data import Cipher, SecretKey
from etc_data.audit.as_is import AsIs
from etc_data.audit.attack import Attack
from etc_data.audit.contours import contour_agreement
from etc_data.audit.evidence import Ciphertexts, CiphertextsAndOwnImages
from etc_data.audit.fr import FeatureReconstruction
from etc_data.audit.image_metrics import ssim
from etc_data.audit.itn import InverseTransformationNetwork
from etc_data.audit.judgment import align
from etc_data.sources.folder import ImageFolder

Bytes = npt.NDArray[np.uint8]

COMMON = ("com-16", "com-16/8", "shuffle-com-16", "shuffle-ind-16")
SCHEMES = (*COMMON, "pe", "flip-4", "ind-16", "ind-16/8", "le-4")
SCRAMBLED = ("etc-16", "etc-8", "adaptive-16", "vit-16/8", "ele-4")
OF_BLOCKS_OF_4 = ("pe", "le-4", "etc-4", "ele-4")


def encrypt(images: Bytes, scheme: str, random: np.random.Generator) -> Ciphertexts:
    """Returns images under a key of their own each."""
    cipher = Cipher(scheme, SecretKey(random.bytes(32)), key_scope="image")
    nonces = [cipher.new_nonce(random) for _ in images]
    return Ciphertexts(cipher.scheme, "image", cipher.encrypt(images, nonce=nonces))


def scores(restored: Bytes, plain: Bytes) -> list[str]:
    """Returns SSIM and contours against the photos, and against others of the set."""
    cells = []
    strangers = np.roll(plain, len(plain) // 3, axis=0)
    for others in (plain, strangers):
        cells.append(f"{ssim(align(restored, others), others).mean():.3f}")
        cells.append(f"{contour_agreement(restored, others).mean():.3f}")
    return cells


def main() -> None:
    """Runs the attacks on all schemes and prints the table."""
    parser = argparse.ArgumentParser(description="Attack single encrypted images by FR or ITN.")
    parser.add_argument("photos", type=Path, help="folder of the owner's photos")
    parser.add_argument("--size", type=int, default=224, help="pixels per side (default 224)")
    parser.add_argument("--count", type=int, default=24, help="photos (default 24)")
    parser.add_argument("--scheme", nargs="*", help="only these")
    parser.add_argument("--own", type=Path, metavar="FOLDER", help="the attacker's pictures: runs ITN")
    parser.add_argument("--device", default="cpu", help="where ITN trains (default cpu)")
    parser.add_argument("--epochs", type=int, help="of ITN")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    console = Console(width=120, highlight=False)
    console.print(machine())
    random = np.random.default_rng(arguments.seed)
    photos = load_photos(arguments.photos, arguments.count, arguments.size, random)
    title = f"{len(photos)} photos at {arguments.size} px, a key each, seed {arguments.seed}"
    table = Table(
        "scheme", "attack", "SSIM", "contours", "strangers: SSIM", "contours", "s", title=title
    )
    if arguments.own is None:
        count = len(photos)
        looks: list[Attack[Ciphertexts]] = [AsIs(count), FeatureReconstruction("basic", count)]
        looks.append(FeatureReconstruction("advanced", count))
        for scheme in arguments.scheme or SCHEMES + SCRAMBLED:
            evidence = encrypt(photos, scheme, random)
            for look in looks:
                found = look.run(evidence)
                assert found.images is not None
                table.add_row(scheme, look.name, *scores(found.images, photos), f"{found.seconds:.2f}")
    else:
        folder = ImageFolder(arguments.own)
        count = sum(len(folder.items(split)) for split in folder.splits)
        own = load_photos(arguments.own, count, arguments.size, random)
        mean = np.broadcast_to(own.mean(axis=0).astype(np.uint8), photos.shape)
        table.add_row("", f"mean of {count} own", *scores(mean, photos), "")
        network = InverseTransformationNetwork
        settings = network() if arguments.device == "cpu" else network.on_gpu(arguments.device)
        attack = network(
            shown=len(photos),
            keys=settings.keys,
            epochs=arguments.epochs or settings.epochs,
            batch_size=settings.batch_size,
            device=arguments.device,
            seed=arguments.seed,
        )
        for scheme in arguments.scheme or OF_BLOCKS_OF_4:
            found = attack.run(CiphertextsAndOwnImages(encrypt(photos, scheme, random), own))
            assert found.images is not None
            label = f"ITN, {attack.epochs} epochs"
            table.add_row(scheme, label, *scores(found.images, photos), f"{found.seconds:.0f}")
    console.print(table)


if __name__ == "__main__":
    main()
