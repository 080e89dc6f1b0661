"""`PatchKeys`: what a plan does to each patch of a model, the key matrices k_i of lin2024 eq. 10."""

from dataclasses import dataclass

import numpy as np

from etc_data.errors import PlanError
from etc_data.keystream import BoolArray, IntArray
from etc_data.plans import Plan


@dataclass(frozen=True, eq=False)
class PatchKeys:
    """A signed permutation of the values of each patch, and a permutation of the patches.

    Slot l of encrypted patch n holds the value of slot ``order[n, l]`` of plain patch
    ``patch_order[n]``, negated where ``negated[n, l]``.

    Attributes:
        patch_order: intp [N].
        order: intp [N, L].
        negated: bool [N, L].
    """

    patch_order: IntArray
    order: IntArray
    negated: BoolArray

    @classmethod
    def of_plan(cls, plan: Plan, source: IntArray) -> "PatchKeys":
        """Returns what a plan does to the patches of a model.

        Args:
            plan: over whole values, of the image's size.
            source: intp [N, L], the image value at each slot (see `PatchEmbedding`).

        Raises:
            PlanError: some encrypted patch holds values of several plain patches.
        """
        index, negated = plan.value_index("chw")
        slot_of_value = np.empty(source.size, np.intp)
        slot_of_value[source.reshape(-1)] = np.arange(source.size)
        taken = slot_of_value[index[source]]
        patch, order = np.divmod(taken, source.shape[1])
        if np.any(patch != patch[:, :1]):
            raise PlanError("values of one encrypted patch come from several plain patches")
        signs = np.zeros(source.shape, np.bool_) if negated is None else negated[source]
        return cls(patch[:, 0].copy(), order, signs)

    @property
    def common(self) -> bool:
        """Whether all patches have the same signed permutation."""
        return bool((self.order == self.order[0]).all() and (self.negated == self.negated[0]).all())

    @property
    def in_place(self) -> bool:
        """Whether every patch stays where it is."""
        return bool((self.patch_order == np.arange(len(self.patch_order))).all())

    def relative(self) -> tuple[IntArray, BoolArray]:
        """Returns the signed permutations that bring every patch under the key of patch 0.

        Returns:
            `order`, intp [N, L], and `negated`, bool [N, L], with rows 0 that change nothing: slot l
            under the key of patch 0 is slot ``order[n, l]`` of encrypted patch n, negated or not.
        """
        slot_of_plain = np.argsort(self.order, axis=1)
        order = slot_of_plain[:, self.order[0]]
        negated = np.take_along_axis(self.negated, order, axis=1) ^ self.negated[0]
        return order, negated
