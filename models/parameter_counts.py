"""How many parameters a network has, by the papers' formulas (qi2022-convmixer eq. 2–4, Fig. 4)."""

from pathlib import Path

from etc_data.errors import EtcError

# PyramidNet-110, α = 270, on the 16 channels of an adapted image: `ele_adaptation`.
PYRAMIDNET_PARAMETERS = 28_487_365

_ADAPTED_CHANNELS = 16
# qi2022-convmixer §IV.
_WIDTH, _DEPTH, _KERNEL_SIZE, _CLASSES = 512, 16, 9, 10
_SAME_WIDTH = 256
_BLOCK_SIZES = {32: 4, 64: 8, 128: 16, 224: 16}


def convmixer_parameters(
    width: int, depth: int, kernel_size: int, patch_size: int, num_classes: int
) -> int:
    """Returns the number of parameters of ConvMixer.

    N = h [d (k² + h + 6) + 3M² + n_classes + 3] + n_classes (qi2022-convmixer eq. 3), for width h,
    depth d, kernel size k and patch size M in pixels.

    >>> convmixer_parameters(512, 16, 9, 16, 10)
    5306890
    """
    layer = kernel_size**2 + width + 6
    return width * (depth * layer + 3 * patch_size**2 + num_classes + 3) + num_classes


def adaptive_convmixer_parameters(
    width: int, depth: int, kernel_size: int, patch_size: int, num_classes: int, image_size: int
) -> int:
    """Returns the number of parameters of ConvMixer with a permutation matrix over its n patches.

    N = N_ConvMixer + n² (qi2022-convmixer eq. 4), for square images of `image_size` pixels a side.

    >>> adaptive_convmixer_parameters(512, 16, 9, 16, 10, image_size=224)
    5345306
    """
    patches = (image_size // patch_size) ** 2
    return convmixer_parameters(width, depth, kernel_size, patch_size, num_classes) + patches**2


def ele_parameters(
    width: int, block_size: int, image_size: int, classifier_parameters: int = PYRAMIDNET_PARAMETERS
) -> int:
    """Returns the number of parameters of ELE's adaptation network and its classifier.

    N = n (3hM² + 2h) + n² + N_classifier (qi2022-convmixer eq. 2), for n blocks of M × M pixels in
    square images, and h channels in each sub-network.

    >>> ele_parameters(256, 4, image_size=32)
    29310661
    """
    blocks = (image_size // block_size) ** 2
    return blocks * (3 * width * block_size**2 + 2 * width) + blocks**2 + classifier_parameters


def draw_parameter_figure(path: Path) -> None:
    """Draws the number of parameters against the image size to a PNG file (qi2022-convmixer Fig. 4).

    The paper does not say which block sizes it drew.  A sub-network of h channels spreads them over
    M × M pixels, which leaves h/M² channels; that these become fewer in large images ("ELE_same",
    h = 256) holds only if blocks grow with the images.  So between the paper's own settings, 32 px with
    M = 4 and 224 px with M = 16, we take 64 px with 8 and 128 px with 16.  "ELE_different" keeps the 16
    channels that 32 px have: h = 16M².

    Args:
        path: of the file; one that exists is replaced.

    Raises:
        EtcError: matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise EtcError("the figure needs matplotlib", "pip install 'etc-data[audit]'") from None
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, counts in figure_counts().items():
        axes.plot(list(_BLOCK_SIZES), [count / 1e6 for count in counts], marker="o", label=name)
    axes.set_yscale("log")
    axes.set_xticks(list(_BLOCK_SIZES))
    axes.set_xlabel("image size (pixels a side)")
    axes.set_ylabel("parameters (millions)")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=3)
    figure.savefig(path, format="png", dpi=200)


def figure_counts() -> dict[str, list[int]]:
    """Returns the curves of `draw_parameter_figure`: counts for images of 32, 64, 128 and 224 px."""
    sizes = _BLOCK_SIZES.items()
    channels = _ADAPTED_CHANNELS
    return {
        "ELE_different": [ele_parameters(channels * M**2, M, image_size) for image_size, M in sizes],
        "ELE_same": [ele_parameters(_SAME_WIDTH, M, image_size) for image_size, M in sizes],
        "ConvMixer with permutation matrix": [
            adaptive_convmixer_parameters(_WIDTH, _DEPTH, _KERNEL_SIZE, M, _CLASSES, image_size)
            for image_size, M in sizes
        ],
    }
