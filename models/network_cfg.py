"""What timm is told of a network of ours: its classes, and the images that it takes."""

from typing import Any


def network_cfg(image_size: int, **changes: Any) -> dict[str, Any]:
    """Returns timm's description of a network for ten classes, with a last layer called ``head``.

    Images are normalized with mean 0.5 and standard deviation 0.5, so that negation is a change of sign
    (maungmaung2022 eq. 7).

    Args:
        image_size: pixels per side.
        changes: entries that differ or are added.
    """
    return {
        "num_classes": 10,
        "input_size": (3, image_size, image_size),
        "crop_pct": 1.0,
        "interpolation": "bicubic",
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
        "classifier": "head",
        **changes,
    }
