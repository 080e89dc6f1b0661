"""Which keys a model can take up: the rule, and what is told to who is refused.

A plan is accepted where all values of each encrypted patch come from one plain patch.  Whether the
patches themselves may move depends on the model (see `position_embedding`).
"""

from etc_data.cipher import Cipher
from etc_data.errors import GeometryError, ModelError, PlanError
from etc_data.models.patch_embedding import PatchEmbedding
from etc_data.models.patch_keys import PatchKeys


def accepted_keys(cipher: Cipher, embedding: PatchEmbedding) -> PatchKeys:
    """Returns what a cipher does to the patches of a model.

    Raises:
        ModelError: it has a key per image, works on 4-bit halves, or mixes the values of patches.
        GeometryError: the model's image size does not fit the scheme's grid.
    """
    if cipher.key_scope == "image":
        raise ModelError(
            'with key scope "image" every image has its own key, and a model can hold only one',
            'use key_scope="dataset", or train an order-free model on the encrypted images',
        )
    scheme, size = cipher.scheme, embedding.fitting_block
    fitting = (
        f"use blocks that are the model's patches, such as ind-{size} (--scheme ind-{size}), or "
        "smaller ones that stay in place"
    )
    try:
        plan = cipher.plan(*embedding.image_size)
    except GeometryError as error:
        raise GeometryError(f"{scheme.name} does not suit the model: {error}", fitting) from None
    if plan.halves:
        raise ModelError(
            f"{scheme.name} permutes 4-bit halves of values, which no linear layer can undo",
            f"use shuffle-com-{size} (--scheme shuffle-com-{size}), or train an adaptation network",
        )
    try:
        return PatchKeys.of_plan(plan, embedding.source)
    except PlanError as error:
        height, width = embedding.patch_size
        raise ModelError(
            f"{scheme.name} does not suit patches of {height}×{width} pixels: {error}", fitting
        ) from None


def serves_every_size(cipher: Cipher) -> bool:
    """Returns whether the cipher does the same to every block of an image of any size."""
    return all(getattr(step, "assignment", None) == "common" for step in cipher.scheme.steps)
