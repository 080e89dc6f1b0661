"""Linear assignment: every row its own column, at the least total cost or the greatest likeness."""

import numpy as np
import numpy.typing as npt

from etc_data.errors import EtcError
from etc_data.keystream import IntArray


def assign(matrix: npt.NDArray[np.number], *, maximize: bool = False) -> IntArray:
    """Returns for each row its column, all different, intp [n].

    Args:
        matrix: of costs, [n, n]; of likenesses with `maximize`.
        maximize: look for the greatest sum.

    Raises:
        EtcError: SciPy is not installed.
    """
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError:
        raise EtcError("this attack needs SciPy", "pip install etc-data[audit]") from None
    return np.asarray(linear_sum_assignment(matrix, maximize=maximize)[1])
