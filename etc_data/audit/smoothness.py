"""How smooth a picture is across the borders of its tiles: what an attacker sees without the truth."""

import numpy as np

from etc_data.audit.evidence import Bytes


def smoothness(images: Bytes, tile: int) -> float:
    """Returns 1 − (mean difference across tile borders) / (mean difference of random pixels).

    About 0.7 to 0.95 for photos, about 0 where the tiles that meet have nothing to do with each other.

    Args:
        images: uint8 [n, H, W, 3].
        tile: pixels per side; 1 compares all neighbors, and so does one tile that fills the image.
    """
    pictures = images.astype(np.float32)
    if max(images.shape[1:3]) == tile:
        tile = 1
    across = [
        np.abs(pictures[:, tile - 1 : -1 : tile] - pictures[:, tile::tile]),
        np.abs(pictures[:, :, tile - 1 : -1 : tile] - pictures[:, :, tile::tile]),
    ]
    differences = [float(one.mean()) for one in across if one.size]
    pixels = pictures.reshape(len(images), -1, 3)
    strangers = np.random.default_rng(0).permutation(pixels.shape[1])
    at_random = float(np.abs(pixels - pixels[:, strangers]).mean())
    return 1 - float(np.mean(differences)) / at_random if at_random else 0.0
