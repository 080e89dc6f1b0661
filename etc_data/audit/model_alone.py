"""The attack on an encrypted model by one who has nothing but it and encrypted queries.

Matching the rows of the patches brings all of them under the key of patch 0: schemes with independent
keys fall to their common form, whatever weights the model has.  What is left is a common key, at times
so small that one query gives it away by brute force; else the statistics of the queries do.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from etc_data.audit.attack import Attack, Criterion, Restoration, timed
from etc_data.audit.brute_force import BruteForce, search_unit
from etc_data.audit.evidence import Bytes, Ciphertexts, EncryptedModel
from etc_data.audit.model_keys import keys_against, plan_of_keys
from etc_data.audit.model_rows import embedding_rows
from etc_data.audit.topology import TopologyAttack
from etc_data.errors import SchemeError
from etc_data.models.patch_embedding import find_patch_embedding
from etc_data.models.public_facts import model_info
from etc_data.operations import Operation
from etc_data.plans import Plan
from etc_data.schemes import Scheme


@dataclass(frozen=True)
class RowMatchingAttack:
    """The matching of the patches of an encrypted model against each other.

    Attributes:
        shown: how many queries are restored as pictures.
    """

    shown: int = 8

    name: ClassVar[str] = "row matching"
    attacker_holds: ClassVar[str] = "the encrypted model and encrypted queries"
    criteria: ClassVar[tuple[Criterion, ...]] = TopologyAttack.criteria

    def run(self, evidence: EncryptedModel) -> Restoration:
        """Returns the queries restored, up to one state of the whole image.

        Its observations tell the key space of one image before and after the matching, in bits, and
        how smooth the restored pictures are.

        Raises:
            ModelError: the model is not encrypted.
            GeometryError: the queries are of a size that the model does not take.
            EtcError: SciPy is not installed.
        """
        queries = evidence.queries
        to_common, matching = timed(lambda: to_common_key(evidence))
        info = model_info(evidence.model)
        left = scheme_left(info.scheme, info.patch_size)
        found = _attack_on(left, queries, self.shown).run(
            Ciphertexts(left, "dataset", to_common.apply(queries))
        )
        assert found.decryption is not None
        decryption = to_common.then(found.decryption)
        size = queries.shape[1:3]
        bits = {
            "key_space_bits": info.scheme.key_space_bits(*size),
            "key_space_bits_left": left.key_space_bits(*size),
        }
        return Restoration(
            None if found.images is None else found.images[: self.shown],
            decryption,
            {**found.observations, **bits},
            {"queries": float(len(queries))},
            matching + found.seconds,
        )


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

    Where blocks are the patches it is the same with common draws.  Where they are not, a patch's key is
    not a block's, and the scheme stays as it is.
    """
    if any((step.block_size, step.block_size) != patch_size for step in scheme.steps):
        return scheme
    return Scheme(tuple(_in_common(step) for step in scheme.steps), f"common-{scheme.name}")


def _in_common(step: Any) -> Operation:
    common: Operation = replace(step, assignment="common") if hasattr(step, "assignment") else step
    return common


def _attack_on(scheme: Scheme, queries: Bytes, shown: int) -> Attack[Ciphertexts]:
    try:
        search_unit(scheme, *queries.shape[1:3])
    except SchemeError:
        return TopologyAttack(shown=shown)
    return BruteForce(images=shown)
