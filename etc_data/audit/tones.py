"""The algebra of the 12 tones of a tile: its polarity and the order of its color components.

Tones are numbered ``2·o + n``: component c shows component ``COLOR_ORDERS[o][c]``, and all are negated
if n.  With the 8 of `orientations` they make the 96 states of an EtC block.
"""

import numpy as np

from etc_data.audit.synchronization import group_table
from etc_data.keystream import IntArray
from etc_data.states import COLOR_ORDERS

TONES = 2 * len(COLOR_ORDERS)
ORDERS = np.array(COLOR_ORDERS)[np.arange(TONES) // 2]
SIGNS = 1 - 2 * (np.arange(TONES) % 2)
"""Tone t takes components ``ORDERS[t]``, and what deviates from middle gray times ``SIGNS[t]``."""


def _joined() -> IntArray:
    orders = group_table(np.array(COLOR_ORDERS)).T
    code = np.arange(TONES)
    return np.asarray(2 * orders[code[:, None] // 2, code // 2] + (code[:, None] + code) % 2)


JOINED = _joined()
INVERSE = (JOINED == 0).argmax(axis=1)
"""``JOINED[b, a]`` is a and then b; ``INVERSE[a]`` undoes a."""
