"""Independent components: the rotation of a few modes to coordinates that do not depend on each other.

Over the values of a block, row, column and color are independent, and each is spread more evenly than
any mixture of them.  FastICA with a cubic contrast, all components at once (Hyvärinen, Fast and robust
fixed-point algorithms for independent component analysis, 1999).
"""

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]

_STARTS = 4
_ROUNDS = 100
_CLOSE = 1e-6


def independent_components(modes: Matrix) -> Matrix:
    """Returns modes rotated to the components of least kurtosis, float [V, k].

    Args:
        modes: orthonormal columns, float [V, k].
    """
    random = np.random.default_rng(0)
    scaled = modes * np.sqrt(len(modes))
    found = []
    for _ in range(_STARTS):
        rotation = np.linalg.qr(random.normal(size=(modes.shape[1],) * 2))[0]
        for _ in range(_ROUNDS):
            last = rotation
            # The step goes down the kurtosis: what is sought is flatter than a normal distribution.
            left, _, right = np.linalg.svd(3 * last - scaled.T @ (scaled @ last) ** 3 / len(scaled))
            rotation = left @ right
            if np.all(np.abs(np.abs((rotation * last).sum(axis=0)) - 1) < _CLOSE):
                break
        components: Matrix = scaled @ rotation
        found.append((float((components**4).sum()), components))
    return min(found, key=_kurtosis)[1]


def _kurtosis(pair: tuple[float, Matrix]) -> float:
    return pair[0]
