"""Makes `import torchvision` work on a CPU-only torch; import this module before torchvision.

The torchvision wheels of the package index are built for CUDA.  Beside a CPU-only torch their
compiled operators do not load, and torchvision then stumbles over its own registration of `nms`.
Declaring the two operators it asks for is all that is missing for transforms, datasets and models;
`torchvision.io` and non-maximum suppression itself stay unavailable, and etc-data uses neither.
"""

import sys

import torch

_MISSING_OPERATOR = "operator torchvision::nms does not exist"
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def _repair() -> "torch.library.Library | None":
    try:
        import torchvision
    except RuntimeError as error:
        if _MISSING_OPERATOR not in str(error):
            raise
    else:
        return None
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(name + _SCHEMA)
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    import torchvision  # noqa: F401

    return library


# Kept for the life of the process: torch forgets the operators when the library object dies.
LIBRARY = _repair()
