"""The attack on an encrypted model by one who has nothing but it and encrypted queries.

Matching the rows of the patches brings all of them under the key of patch 0: schemes with independent
keys fall to their common form, whatever weights the model has.  Where the blocks have edges, one state
of all of them is left and, if they are scrambled, their arrangement: one query is a jigsaw without
rotations, polarities and color orders.  Where a model has a position embedding, it helps: rows of
neighbors have grown alike.  Where values are shuffled, the statistics of many queries tell the rest.
"""

from dataclasses import dataclass, replace
from math import prod
from typing import Any, ClassVar

import numpy as np
from torch import nn

from etc_data.audit.aligned import Closeness
from etc_data.audit.attack import Criterion, Restoration, timed
from etc_data.audit.ejps import JigsawAttack, block_of, find_common_layout, is_alike
from etc_data.audit.evidence import Bytes, EncryptedModel
from etc_data.audit.jigsaw import best_buddies
from etc_data.audit.model_keys import (
    closeness_of_positions,
    keys_against,
    patch_positions,
    plan_of_keys,
)
from etc_data.audit.model_rows import embedding_rows
from etc_data.audit.smoothness import smoothness
from etc_data.audit.structure import structure_of
from etc_data.audit.topology import TopologyAttack, find_decryption, restore
from etc_data.models.patch_embedding import find_patch_embedding
from etc_data.models.public_facts import model_info
from etc_data.operations import (
    NegativePositive,
    Operation,
    RotateFlip,
    ScrambleBlocks,
    ScrambleSubBlocks,
    ShuffleColorComponents,
)
from etc_data.plans import Plan
from etc_data.schemes import Scheme

_NOISE = 3.0  # in levels², see `compatibility`; queries come as exact pixels or as JPEG
_LOOKED_AT = 2  # pictures; with small blocks, seconds each


@dataclass(frozen=True)
class RowMatchingAttack:
    """The matching of the patches of an encrypted model against each other.

    Attributes:
        shown: how many queries are restored as pictures.
    """

    shown: int = 8

    name: ClassVar[str] = "row matching"
    attacker_holds: ClassVar[str] = "the encrypted model and encrypted queries"
    criteria: ClassVar[tuple[Criterion, ...]] = (*JigsawAttack.criteria, *TopologyAttack.criteria)

    def run(self, evidence: EncryptedModel) -> Restoration:
        """Returns the queries restored, up to one state of the whole image.

        Its observations tell the key space of one image before and after the matching, in bits, and
        how well the restored pictures hang together.

        Raises:
            ModelError: the model is not encrypted.
            GeometryError: the queries are of a size that the model does not take.
            EtcError: SciPy is not installed.
        """
        queries = evidence.queries
        info = model_info(evidence.model)
        left = scheme_left(info.scheme, info.patch_size)
        decryption, seconds = timed(lambda: _find_decryption(evidence, left))
        restored = restore(queries[: self.shown], decryption)
        size = queries.shape[1:3]
        observed = {
            **_observed(restored, left),
            "key_space_bits": info.scheme.key_space_bits(*size),
            "key_space_bits_left": min(scheme.key_space_bits(*size) for scheme in (info.scheme, left)),
        }
        return Restoration(restored, decryption, observed, {"queries": float(len(queries))}, seconds)


def _find_decryption(evidence: EncryptedModel, left: Scheme) -> Plan:
    """Returns the plan that turns queries into pictures, by the cheapest attack on what is left."""
    to_common = to_common_key(evidence)
    queries = to_common.apply(evidence.queries)
    if is_alike(left):
        found = find_common_layout(queries, left, _NOISE, _closeness(evidence.model))
    else:
        found = find_decryption(queries, structure_of(left))
    return to_common.then(found)


def _observed(restored: Bytes, left: Scheme) -> dict[str, float]:
    """Returns by what the attacker sees himself whether it worked: a jigsaw is always smooth."""
    if is_alike(left):
        block, some = block_of(left), restored[:_LOOKED_AT]
        return {"best_buddies": float(np.mean([best_buddies(image, block, _NOISE) for image in some]))}
    return {"smoothness": smoothness(restored, structure_of(left).tile)}


def _closeness(model: nn.Module) -> Closeness | None:
    """Returns what the model's position embedding tells of which patches are neighbors."""
    info = model_info(model)
    if info.position_embedding is None:
        return None
    patches = prod(info.image_size) // prod(info.patch_size)
    return closeness_of_positions(patch_positions(model, info.position_embedding, patches))


def to_common_key(evidence: EncryptedModel) -> Plan:
    """Returns the plan that brings all patches of a query under the key of patch 0."""
    height, width = evidence.queries.shape[1:3]
    name = model_info(evidence.model).patch_embedding
    embedding = find_patch_embedding(evidence.model, (height, width), name)
    rows = embedding_rows(embedding)
    keys, _ = keys_against(rows, rows[0])
    return plan_of_keys(keys, embedding.source, height, width).inverse()


def scheme_left(scheme: Scheme, patch_size: tuple[int, int]) -> Scheme:
    """Returns the scheme that is left once all patches are under one key.

    Where blocks are the patches it is the same with common draws.  Where patches are smaller than what
    is turned, they change places as it is turned: they are tiles then, all in one state, that lie
    anywhere, or anywhere in their block.  Else the scheme stays as it is.
    """
    patch, structure = patch_size[0], structure_of(scheme)
    if all((step.block_size, step.block_size) == patch_size for step in scheme.steps):
        return Scheme(tuple(_in_common(step) for step in scheme.steps), f"common-{scheme.name}")
    whole = structure.shuffled is None and not structure.pixelwise
    if not whole or patch_size != (patch, patch) or structure.tile % patch:
        return scheme
    states = (RotateFlip, NegativePositive, ShuffleColorComponents)
    steps: list[Operation] = [kind(patch, "common") for kind in states]
    if structure.home is None:
        steps.append(ScrambleBlocks(patch))
    elif structure.home > patch:
        steps.append(ScrambleSubBlocks(structure.home, "independent", patch))
    return Scheme(tuple(steps), f"common-{scheme.name}")


def _in_common(step: Any) -> Operation:
    common: Operation = replace(step, assignment="common") if hasattr(step, "assignment") else step
    return common
