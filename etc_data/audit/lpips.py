"""LPIPS: how alike two pictures are to a network that judges as people do (Zhang et al. 2018)."""

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from etc_data.audit.evidence import Bytes
from etc_data.audit.image_metrics import check_pairs
from etc_data.errors import EtcError


@dataclass(frozen=True)
class Lpips:
    """The learned perceptual distance, version 0.1 with AlexNet.

    Attributes:
        network: of the package ``lpips``, with its weights.
    """

    network: Any = field(repr=False)

    @classmethod
    def load(cls, weights: Path) -> "Lpips":
        """Returns the metric with weights from a file; nothing is ever downloaded.

        Args:
            weights: the state dictionary of the whole network, once saved elsewhere by
                ``torch.save(lpips.LPIPS(net="alex").state_dict(), FILE)``.

        Raises:
            EtcError: the package ``lpips`` is not installed, or the file holds something else.
        """
        import torch

        import etc_data.torchvision_cpu  # noqa: F401  lpips imports torchvision

        try:
            import lpips
        except ImportError:
            raise EtcError("LPIPS needs the package lpips", "pip install lpips") from None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # it calls torchvision in an old way
            network = lpips.LPIPS(net="alex", pretrained=False, pnet_rand=True, verbose=False).eval()
        try:
            network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        except Exception as error:
            raise EtcError(
                f"{weights} holds no weights of LPIPS with AlexNet",
                'torch.save(lpips.LPIPS(net="alex").state_dict(), FILE) writes them',
            ) from error
        return cls(network)

    def __call__(self, images: Bytes, others: Bytes) -> npt.NDArray[np.float64]:
        """Returns the distance of each pair, float64 [n]; 0 where equal.

        Args:
            images: uint8 [n, H, W, 3], at least 32 pixels per side; likewise `others`.
            others: see `images`.

        Raises:
            ImageError: the shapes differ.
        """
        import torch

        check_pairs(images, others)

        def scaled(pixels: Bytes) -> torch.Tensor:
            return torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1)

        with torch.inference_mode():
            return np.asarray(self.network(scaled(images), scaled(others)).flatten().double().numpy())
