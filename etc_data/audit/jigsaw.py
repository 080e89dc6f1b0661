"""The jigsaw: one scrambled image, put together by how well its tiles' edges go on in each other.

The second stage of the extended jigsaw puzzle solver (EJPS; Chuman and Kiya, A jigsaw puzzle
solver-based attack on image encryption using vision transformer, 2023), whose code is not public: this
is our own reconstruction of the idea.  Joins are judged by `compatibility` in all 96 states, ranked by
how far each stands out from the next best and by the rings of four it closes (`loops`), and put
together by a constrained spanning tree (`assembly`).
"""

from dataclasses import dataclass

import numpy as np

from etc_data.audit.aligned import AlignedTiles
from etc_data.audit.assembly import Joins, Layout, assemble
from etc_data.audit.compatibility import EXACT_NOISE, Compatibility, Partners
from etc_data.audit.edges import Floats
from etc_data.audit.evidence import Bytes
from etc_data.audit.homes import Homes
from etc_data.audit.loops import loop_support
from etc_data.audit.orientations import SIDES
from etc_data.keystream import IntArray

_TELLING = 9  # tiles, see `best_buddies`
_PARTNERS = 8  # joins considered of each line
_SUREST = 0.05  # of the cost of the next best; what is cheaper yet is no surer
_NEXT_BEST = (1e-3, 1e12)  # the least, and what stands for infinite where there is none
_RING = 2.0  # a ring counts more than a join's own cost


def solve(
    image: Bytes,
    tile: int,
    homes: Homes | None = None,
    noise: float = EXACT_NOISE,
    known: Joins | None = None,
) -> Layout:
    """Returns the layout of one image's tiles.

    Args:
        image: encrypted, uint8 [H, W, 3].
        tile: pixels per side.
        homes: the blocks that tiles never leave; None where they go anywhere.
        noise: in levels², see `compatibility`.
        known: joins that go before those found here.
    """
    compatibility = Compatibility.of(image, tile, noise)
    allowed = None if homes is None else homes.touching()
    joins = rank(compatibility.best_partners(_PARTNERS, allowed))
    if known is not None:
        joins = Joins.concatenate([known, joins])
    rows, columns = image.shape[0] // tile, image.shape[1] // tile
    return assemble(joins, _Cheapest(compatibility), rows, columns, homes)


def solve_aligned(tiles: AlignedTiles, rows: int, columns: int, homes: Homes | None = None) -> Layout:
    """Returns the layout of tiles that share one state, so that only their arrangement is unknown.

    Args:
        tiles: of one image, or of several with one layout.
        rows: of the grid; likewise `columns`.
        columns: see `rows`.
        homes: the blocks that tiles never leave; None where they go anywhere.
    """
    if homes is not None:
        tiles = tiles.kept_to(homes.touching())
    return assemble(rank(tiles.best_partners(_PARTNERS)), tiles, rows, columns, homes)


def rank(partners: Partners) -> Joins:
    """Returns all candidate joins, the surest first."""
    # Gallagher's ratio: cost against the next best of either line, so that flat edges count for little.
    next_best = np.clip(partners.cost[:, :2].max(axis=1), *_NEXT_BEST)
    ratio = partners.cost / np.sqrt(next_best[:, None] * next_best[partners.other])
    own = 1 / (_SUREST + ratio)
    certainty = own + _RING * loop_support(partners, own).sum(axis=2)
    order = np.argsort(-certainty, axis=None, kind="stable")
    order = order[np.isfinite(partners.cost.reshape(-1)[order])]
    joins = Joins(
        np.repeat(np.arange(len(own)), own.shape[1]),
        partners.other.reshape(-1),
        partners.backward.reshape(-1),
        partners.tone.reshape(-1),
    )
    return joins.take(order)


@dataclass(frozen=True)
class _Cheapest:
    """The fit of lines is what their join spares."""

    compatibility: Compatibility

    def fit(self, line: int, others: IntArray) -> Floats:
        fit: Floats = -self.compatibility.costs(np.array([line]), others)[0]
        return fit.transpose(1, 2, 0)


def best_buddies(image: Bytes, tile: int, noise: float = EXACT_NOISE) -> float:
    """Returns the share of joins of an assembled picture whose two lines are each other's cheapest.

    It tells without the truth how well it is assembled (Pomeranz, Shemesh and Ben-Shahar, A fully
    automated greedy square jigsaw puzzle solver, 2011).  Fewer than nine tiles tell nothing, so that it
    is 0: of four, noise makes one join of every fourth picture such a pair.

    Args:
        image: uint8 [H, W, 3].
        tile: pixels per side.
        noise: in levels², see `compatibility`.
    """
    rows, columns = image.shape[0] // tile, image.shape[1] // tile
    if rows * columns < _TELLING:
        return 0.0
    other, backward, tone, _ = Compatibility.of(image, tile, noise).best_partners(1)
    first = SIDES * np.arange(rows * columns).reshape(rows, columns)
    lines = np.concatenate([first[:, :-1].reshape(-1) + 3, first[:-1].reshape(-1) + 1])
    facing = np.concatenate([first[:, 1:].reshape(-1) + 2, first[1:].reshape(-1)])
    as_it_is = ~backward[:, 0] & (tone[:, 0] == 0)
    buddies = (other[lines, 0] == facing) & (other[facing, 0] == lines)
    return float((buddies & as_it_is[lines] & as_it_is[facing]).mean())
