"""The attack on an encrypted model by one who has the weights that it was fine-tuned from.

Published weights are the usual start of a fine-tuning, which moves the rows of the patch embedding
little.  So each encrypted row is still nearest to its own base row, and that tells the key.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from torch import nn

from etc_data.audit.attack import Criterion, Restoration, Scores, timed
from etc_data.audit.evidence import EncryptedModel
from etc_data.audit.model_keys import (
    keys_against,
    match_positions,
    patch_positions,
    plan_of_keys,
)
from etc_data.audit.model_rows import embedding_rows, match_rows
from etc_data.errors import ModelError
from etc_data.models.patch_embedding import PatchEmbedding, find_patch_embedding
from etc_data.models.public_facts import model_info
from etc_data.plans import Plan


@dataclass(frozen=True)
class BaseWeightsAttack:
    """The matching of an encrypted model against base weights.

    Attributes:
        shown: how many queries are restored as pictures.
    """

    shown: int = 8

    name: ClassVar[str] = "base weights"
    attacker_holds: ClassVar[str] = (
        "the encrypted model, the weights it was fine-tuned from, and encrypted queries"
    )
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("values", 0.9, "nine of ten values of every query are read, in place and polarity"),
        Criterion(
            "times_chance",
            1.5,
            "rows lie along base rows that much more than along shuffled ones; unrelated weights reach "
            "1.0 to 1.1, and from 1.5 on nearly all rows were right",
        ),
    )

    def run(self, evidence: EncryptedModel) -> Restoration:
        """Returns the plan that the matching gives, and the queries decrypted by it.

        Its observations are ``likeness``, the mean |cosine| of a row and its base row;
        ``times_chance``, how many times that of base weights whose outputs were shuffled; and
        ``position_likeness``, the mean cosine of the rows of a scrambled position embedding and their
        base rows.

        Raises:
            ModelError: there are no base weights, they are of another architecture, or the model is
                not encrypted.
            GeometryError: the queries are of a size that the model does not take.
            EtcError: SciPy is not installed.
        """
        (plan, observed), seconds = timed(lambda: _find_plan(evidence))
        decryption = plan.inverse()
        restored = decryption.apply(evidence.queries[: self.shown])
        return Restoration(restored, decryption, observed, {"queries": 0.0}, seconds)


def _find_plan(evidence: EncryptedModel) -> tuple[Plan, Scores]:
    """Returns the plan from plain to encrypted, and how alike rows and positions were."""
    model, base = evidence.model, evidence.base
    if base is None:
        raise ModelError("there are no base weights to match the encrypted model against")
    info = model_info(model)
    height, width = evidence.queries.shape[1:3]
    embedding = find_patch_embedding(model, (height, width), info.patch_embedding)
    rows = embedding_rows(embedding)
    base_rows = _base_rows(base, embedding, rows.shape[2])
    keys, likeness = keys_against(rows, base_rows)
    shuffled = base_rows[:, np.random.default_rng(0).permutation(base_rows.shape[1])]
    by_chance = match_rows(rows[0], shuffled).likeness
    observed = {"likeness": likeness, "times_chance": likeness / by_chance}
    if info.position_embedding is not None:
        order, observed["position_likeness"] = match_positions(
            *(patch_positions(one, info.position_embedding, len(rows)) for one in (model, base))
        )
        keys = replace(keys, patch_order=order)
    return plan_of_keys(keys, embedding.source, height, width), observed


def _base_rows(base: nn.Module, embedding: PatchEmbedding, outputs: int) -> npt.NDArray[np.float32]:
    """Returns the rows of the base weights' matrix, [L, D], in the order of the encrypted ones."""
    its = find_patch_embedding(base, embedding.image_size, embedding.name)
    rows: npt.NDArray[np.float32] = embedding_rows(its)[0]
    if not np.array_equal(its.source, embedding.source) or rows.shape[1] != outputs:
        raise ModelError(
            f"the base weights embed patches of {its.patch_size} pixels in {rows.shape[1]} values, the "
            f"encrypted model patches of {embedding.patch_size} in {outputs}; they must be of one "
            "architecture"
        )
    return rows
