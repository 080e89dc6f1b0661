"""ITN: a network that inverts the transformation (Ito, Kinoshita & Kiya 2020/21).

The attacker encrypts images of his own with many keys of his own and trains a network from encrypted to
plain.  What it learns holds for every key, so that it serves for images under a key it never met, one
key for all or a key per image.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from etc_data.audit.attack import Criterion, Restoration, timed
from etc_data.audit.evidence import Bytes, CiphertextsAndOwnImages
from etc_data.audit.image_metrics import ssim
from etc_data.audit.itn_network import inverse_network
from etc_data.audit.structure import structure_of
from etc_data.cipher import Cipher
from etc_data.errors import ImageError
from etc_data.keys import SecretKey
from etc_data.schemes import Scheme

_HELD_OUT = 100  # own images at most that test the network; an eighth where there are few
_MIDDLE = 127.5


@dataclass(frozen=True)
class InverseTransformationNetwork:
    """The ITN attack.  The defaults take some minutes on one thread for 5,000 images of 32 pixels.

    Attributes:
        shown: how many pictures are restored.
        keys: how many keys of his own the attacker draws; images meet another one in every epoch.
        epochs: passes over his images.
        batch_size: images of a training step.
        learning_rate: of Adam, after a tenth of the steps; from there it falls to 0 on a cosine.
        device: where the network is trained.
        seed: of keys, weights and order.  On a CPU the same seed gives the same pictures.
        progress: called after every epoch with its number and the mean absolute error, of values in
            [−1, 1].
    """

    shown: int = 24
    keys: int = 500
    epochs: int = 8
    batch_size: int = 8
    learning_rate: float = 3e-3
    device: str = "cpu"
    seed: int = 0
    progress: Callable[[int, float], None] | None = field(default=None, repr=False, compare=False)

    name: ClassVar[str] = "inverse transformation network"
    attacker_holds: ClassVar[str] = "encrypted images, the name of the scheme, and images of his own"
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion(
            "ssim",
            0.2,
            "pictures emerge; networks that have learned nothing, and the mean image, reach 0.15",
        ),
        Criterion(
            "gain", 0.05, "on own images and keys held out, SSIM is that much above the mean image's"
        ),
    )

    @classmethod
    def on_gpu(
        cls, device: str = "cuda", progress: Callable[[int, float], None] | None = None
    ) -> "InverseTransformationNetwork":
        """Returns the attack with the keys and epochs that a GPU goes through in minutes."""
        return cls(keys=5000, epochs=100, batch_size=256, device=device, progress=progress)

    def run(self, evidence: CiphertextsAndOwnImages) -> Restoration:
        """Returns what the trained network makes of the encrypted images.

        Its observations are ``held_out_ssim``, of own images and keys that were not trained on, and
        ``gain``, how far that is above the SSIM of the mean of the attacker's images.

        Raises:
            ImageError: there are no encrypted images, or the own ones are too few or of another size.
        """
        encrypted = evidence.ciphertexts.take(self.shown)
        scheme, own = evidence.ciphertexts.scheme, evidence.own
        if own.shape[1:] != encrypted.shape[1:] or len(own) < 2 * self.batch_size:
            raise ImageError(
                f"{len(own)} own images of shape {own.shape[1:]} for encrypted ones of shape "
                f"{encrypted.shape[1:]}; {2 * self.batch_size} or more of the same shape are needed"
            )
        count = min(_HELD_OUT, len(own) // 8)
        held_out, used = own[:count], own[count:]
        network, seconds = timed(lambda: self._train(scheme, used))
        unmet = _OwnKeys(scheme, count, np.random.default_rng([self.seed, 1]))
        held_out_ssim = float(ssim(self._restore(network, unmet.encrypt(held_out)), held_out).mean())
        mean = np.broadcast_to(used.mean(axis=0).astype(np.uint8), held_out.shape)
        gain = held_out_ssim - float(ssim(mean, held_out).mean())
        return Restoration(
            self._restore(network, encrypted),
            None,
            {"held_out_ssim": held_out_ssim, "gain": gain},
            {"own_images": float(len(own)), "keys": float(self.keys), "epochs": float(self.epochs)},
            seconds,
        )

    def _train(self, scheme: Scheme, images: Bytes) -> nn.Module:
        random = np.random.default_rng([self.seed, 0])
        keys = _OwnKeys(scheme, self.keys, random)
        network = self._fresh_network(scheme).to(self.device)
        steps = len(images) // self.batch_size
        optimizer = torch.optim.Adam(network.parameters(), self.learning_rate)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.learning_rate, total_steps=steps * self.epochs, pct_start=0.1
        )
        for epoch in range(1, self.epochs + 1):
            losses = []
            for batch in random.permutation(len(images))[: steps * self.batch_size].reshape(steps, -1):
                plain = images[batch]
                found = network(self._as_input(keys.encrypt(plain)))
                loss = F.l1_loss(found, self._as_input(plain))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                losses.append(loss.detach())
            if self.progress is not None:
                self.progress(epoch, float(torch.stack(losses).mean()))
        return network.eval()

    def _fresh_network(self, scheme: Scheme) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return inverse_network(structure_of(scheme).tile)

    def _as_input(self, images: Bytes) -> torch.Tensor:
        values = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
        return values.to(self.device).float() / _MIDDLE - 1

    def _restore(self, network: nn.Module, images: Bytes) -> Bytes:
        with torch.inference_mode():
            found = (network(self._as_input(images)) + 1) * _MIDDLE
            octets = found.round().clamp(0, 255).byte().cpu()
        return np.ascontiguousarray(octets.numpy().transpose(0, 2, 3, 1))


class _OwnKeys:
    """The attacker's own keys, one of which each image he encrypts meets by chance."""

    def __init__(self, scheme: Scheme, count: int, random: np.random.Generator) -> None:
        self._random = random
        self._ciphers = [
            Cipher(scheme, SecretKey(random.bytes(32)), key_scope="dataset") for _ in range(count)
        ]

    def encrypt(self, images: Bytes) -> Bytes:
        chosen = self._random.integers(len(self._ciphers), size=len(images))
        return np.stack(
            [self._ciphers[key].encrypt(image) for key, image in zip(chosen, images, strict=True)]
        )
