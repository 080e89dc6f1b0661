"""Judgment: the owner's side, who has the key and the plain images and scores what attacks restored."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from etc_data.audit.attack import Attack, Criterion, Evidence, Finding, Restoration
from etc_data.audit.contours import contour_agreement
from etc_data.audit.evidence import Bytes
from etc_data.audit.image_metrics import psnr, ssim
from etc_data.audit.puzzle_scores import puzzle_scores
from etc_data.audit.structure import Structure, structure_of
from etc_data.audit.visible_joins import visible_joins
from etc_data.cipher import Cipher
from etc_data.keystream import BoolArray
from etc_data.plans import Plan
from etc_data.schemes import KeyScope, Scheme
from etc_data.states import (
    COLORS,
    StateTable,
    color_states,
    join_shared,
    orientation_states,
    polarity_states,
)

if TYPE_CHECKING:
    from etc_data.audit.lpips import Lpips

_PEAK_PSNR = 99.0  # stands for equal images, whose PSNR is infinite
_SMALLEST_FOR_SSIM, _SMALLEST_FOR_LPIPS = 11, 32  # pixels per side


@dataclass(frozen=True)
class Owner:
    """The truth: what only the owner has.

    Attributes:
        cipher: scheme, key and key scope.
        plain: uint8 [k, H, W, 3]; image i is the plain form of image i attacked, as encrypted.
        nonces: of these images with key scope ``"image"``, else empty.
        lpips: compares pictures of 32 pixels per side and more as well, where its weights are at hand.
    """

    cipher: Cipher
    plain: Bytes = field(repr=False)
    nonces: Sequence[bytes] = ()
    lpips: "Lpips | None" = None

    def plans(self, count: int, height: int, width: int) -> list[Plan]:
        """Returns the plans of the first `count` images; one where all images share it."""
        if self.cipher.key_scope == "dataset":
            return [self.cipher.plan(height, width)]
        return [self.cipher.plan(height, width, nonce=nonce) for nonce in self.nonces[:count]]


def judge(
    attack: Attack[Evidence],
    restoration: Restoration,
    scheme: Scheme,
    key_scope: KeyScope,
    owner: Owner | None = None,
) -> Finding:
    """Returns the finding of an attack: its scores, and whether it succeeded.

    Args:
        attack: that was run.
        restoration: what it gave.
        scheme: that was attacked; likewise `key_scope`.
        key_scope: ``"dataset"`` or ``"image"``.
        owner: the truth; without it only what the attacker himself sees decides.
    """
    scores: dict[str, float] = dict(restoration.observations)
    pictures = restoration.images
    decryptions = list(restoration.own_decryptions)
    if restoration.decryption is not None:
        decryptions = [restoration.decryption]
    if owner is not None and decryptions:
        scores |= layout_scores(owner, decryptions)
    if owner is not None and pictures is not None:
        count = min(len(pictures), len(owner.plain))
        plain = owner.plain[:count]
        pictures = align(pictures[:count], plain)
        scores["psnr"] = float(np.minimum(psnr(pictures, plain), _PEAK_PSNR).mean())
        if min(plain.shape[1:3]) >= _SMALLEST_FOR_SSIM:
            scores["ssim"] = float(ssim(pictures, plain).mean())
        if owner.lpips is not None and min(plain.shape[1:3]) >= _SMALLEST_FOR_LPIPS:
            scores["lpips"] = float(owner.lpips(pictures, plain).mean())
        scores["contours"] = float(contour_agreement(pictures, plain).mean())
    criterion = _deciding(attack.criteria, scores)
    return Finding(
        attack=attack.name,
        scheme=scheme.name,
        key_scope=key_scope,
        attacker_holds=attack.attacker_holds,
        success=scores.get(criterion.score, -np.inf) >= criterion.at_least,
        criterion=criterion,
        scores=scores,
        cost=restoration.cost,
        seconds=restoration.seconds,
        restored=pictures,
    )


def _deciding(criteria: Sequence[Criterion], scores: dict[str, float]) -> Criterion:
    known = [criterion for criterion in criteria if criterion.score in scores]
    return known[0] if known else criteria[-1]


def layout_scores(owner: Owner, decryptions: Sequence[Plan]) -> dict[str, float]:
    """Returns how much of the layout found plans restore, up to one state of the whole image.

    ``values``: the share of values that end in their place, color and polarity under the best of the
    global states.  ``joins``: of the pairs of values that meet at tile borders in the restored image,
    the share that were neighbors in the plain one, in one polarity and color order; of shuffled values
    in a block that fills the image, of all pairs of neighbors.  Over 4-bit halves both are of the high
    halves.  Where tiles move whole, also the `puzzle_scores` and `visible_joins`.

    Args:
        owner: the truth.
        decryptions: one plan for all images, or one for each of the first images.
    """
    height, width = decryptions[0].height, decryptions[0].width
    structure = structure_of(owner.cipher.scheme)
    plans = owner.plans(len(owner.plain), height, width)
    if len(decryptions) == 1:
        decryptions = [*decryptions] * len(plans)
    elif len(plans) == 1:
        plans = plans * len(decryptions)
    pairs = list(zip(plans, decryptions, strict=False))
    plain = [owner.plain] if len(pairs) == 1 else [image[None] for image in owner.plain]
    scores = [
        _scores_of_plan(_residual(*pair), images, structure)
        for pair, images in zip(pairs, plain, strict=False)
    ]
    return {name: float(np.mean([score[name] for score in scores])) for name in scores[0]}


def _scores_of_plan(residual: tuple[Any, Any], plain: Bytes, structure: Structure) -> dict[str, float]:
    (height, width), tile = plain.shape[1:3], structure.tile
    right = _values_right(*residual, height, width)
    # A block that fills the image has no borders; whether its values are laid out shows inside it.
    fills = structure.shuffled is not None and max(height, width) == tile
    grid = 1 if fills else tile
    down, across = _joined(*residual, height, width, grid)
    joins = np.concatenate([down.reshape(-1), across.reshape(-1)])
    scores = {
        "values": float(right.mean()),
        "joins": float(joins.mean()) if len(joins) else 1.0,
    }
    if structure.shuffled is None and not structure.pixelwise:
        rows, columns = height // tile, width // tile
        scores |= puzzle_scores(
            _all(right.reshape(rows, tile, columns, tile * COLORS), (1, 3)),
            _all(across.reshape(rows, tile, columns - 1, COLORS), (1, 3)),
            _all(down.reshape(rows - 1, columns, tile * COLORS), (2,)),
        )
        if tile > 1:
            visible = [visible_joins(image, *residual, tile) for image in plain]
            scores["visible_joins"] = float(np.mean(visible))
    return scores


def _all(right: BoolArray, axes: tuple[int, ...]) -> BoolArray:
    return np.asarray(right.all(axis=axes))


def _residual(plan: Plan, decryption: Plan) -> tuple[Any, Any]:
    """Returns where restored values come from in the plain image, −1 for a low half, and the signs."""
    both = plan.then(decryption)
    index, negated = both.value_index("hwc")
    negated = np.zeros(len(index), np.bool_) if negated is None else negated
    if both.halves:
        values = len(index) // 2
        index, negated = index[values:] - values, negated[values:]
        index = np.where(index < 0, -1, index)
    return index, negated


@lru_cache(maxsize=1)
def global_states(height: int, width: int) -> list[Plan]:
    """Returns the plans that put the whole image into each state: 96, or 48 where it is not square."""
    tile, one = (height, width), np.zeros(1, np.intp)
    if height == width:
        turned = orientation_states(height)
    else:
        numbers = np.arange(height * width * 3, dtype=np.int32).reshape(height, width, 3)
        flips = [numbers, numbers[:, ::-1], numbers[::-1], numbers[::-1, ::-1]]
        turned = StateTable(np.stack([flip.reshape(-1) for flip in flips]))
    rest = join_shared(color_states(1), polarity_states(1)).rows
    plans = []
    for rows in turned.rows:
        shape = Plan(height, width, tile, one, StateTable(rows[None]), one)
        for row in rest:
            pixels = np.arange(height * width)
            pixel = Plan(height, width, (1, 1), pixels, StateTable(row[None]), np.zeros_like(pixels))
            plans.append(shape.then(pixel))
    return plans


def _values_right(index: Any, negated: Any, height: int, width: int) -> BoolArray:
    """Returns which values are right under the best of the global states, bool [values]."""
    best = np.zeros(len(index), np.bool_)
    for state in global_states(height, width):
        wanted, flipped = state.value_index("hwc")
        signs = negated if flipped is None else negated == flipped
        right = (index == wanted) & (signs if flipped is not None else ~negated)
        if right.sum() > best.sum():
            best = right
    return best


def _joined(
    index: Any, negated: Any, height: int, width: int, grid: int
) -> tuple[BoolArray, BoolArray]:
    """Returns which values at tile borders meet a neighbor of theirs: below, and to the right."""
    source, sign = index.reshape(height, width, 3), negated.reshape(height, width, 3)
    pixel, color = np.divmod(source, 3)
    y, x = np.divmod(pixel, width)

    def meet(here: Any, there: Any) -> BoolArray:
        right = np.abs(y[here] - y[there]) + np.abs(x[here] - x[there]) == 1
        right &= (color[here] == color[there]) & (sign[here] == sign[there])
        return np.asarray(right & (source[here] >= 0) & (source[there] >= 0))

    return (
        meet(np.s_[grid - 1 : -1 : grid], np.s_[grid::grid]),
        meet(np.s_[:, grid - 1 : -1 : grid], np.s_[:, grid::grid]),
    )


def align(pictures: Bytes, plain: Bytes) -> Bytes:
    """Returns each picture in the one of the global states that is nearest to the plain image.

    What an attacker cannot know, but an eye sees at once: which way up, which polarity, which colors.
    """
    height, width = plain.shape[1:3]
    step = max(1, min(height, width) // 32)
    best = np.full(len(plain), np.inf)
    aligned = pictures.copy()
    wanted = plain[:, ::step, ::step].astype(np.float32)
    for state in global_states(height, width):
        candidate = state.apply(pictures)
        error = ((candidate[:, ::step, ::step] - wanted) ** 2).mean(axis=(1, 2, 3))
        better = error < best
        aligned[better], best[better] = candidate[better], error[better]
    return aligned
