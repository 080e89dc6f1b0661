"""Chosen plaintext: images whose values are numbers tell at once where every value goes.

Each value of a query holds 7 bits of its own number, and 0 in the highest bit, which a negation sets.
So ⌈log₂(3·H·W) / 7⌉ queries give any fixed key's plan exactly: 2 at 32 pixels, 3 at 224.  Over 4-bit
halves a half holds 3 bits: 5 queries at 32 pixels.  The encryption must be lossless.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from etc_data.audit.attack import Criterion, Restoration, timed
from etc_data.audit.evidence import Bytes, EncryptionService
from etc_data.audit.structure import structure_of
from etc_data.plans import Plan
from etc_data.states import StateTable


@dataclass(frozen=True)
class ChosenPlaintextAttack:
    """The attack of one who can have a few images encrypted."""

    name: ClassVar[str] = "chosen plaintext"
    attacker_holds: ClassVar[str] = "encrypted forms of a few images of his choice, and other ones"
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("values", 0.5, "half of all values of every other image of the set are read"),
    )

    def run(self, evidence: EncryptionService) -> Restoration:
        """Returns the plan that the answers give, and the other images decrypted by it."""
        height, width = evidence.others.shape[1:3]
        halves = structure_of(evidence.scheme).shuffled == "half"
        queries = index_images(height, width, halves)
        answers = evidence.encrypt(queries)
        decryption, seconds = timed(lambda: read_decryption(answers, halves))
        restored = decryption.apply(evidence.others)
        return Restoration(restored, decryption, {}, {"queries": float(len(queries))}, seconds)


def index_images(height: int, width: int, halves: bool) -> Bytes:
    """Returns the queries, uint8 [q, H, W, 3]: digit by digit, the number of each value or half."""
    values = height * width * 3
    units, bits = (2 * values, 3) if halves else (values, 7)
    count = -(-(units - 1).bit_length() // bits)
    numbers = np.arange(units)
    digits = [(numbers >> bits * i) & ((1 << bits) - 1) for i in range(count)]
    flat = np.stack(digits)
    if halves:
        flat = flat[:, :values] | flat[:, values:] << 4
    return flat.astype(np.uint8).reshape(count, height, width, 3)


def read_decryption(answers: Bytes, halves: bool) -> Plan:
    """Returns the plan that undoes what was done to index images.

    A place whose number no answer holds, as where every query had its own key, takes value 0.
    """
    height, width = answers.shape[1:3]
    flat = answers.reshape(len(answers), -1).astype(np.int64)
    if halves:
        flat = np.concatenate([flat & 15, flat >> 4], axis=1)
    bits = 3 if halves else 7
    negated = flat[0] >> bits == 1
    digits = np.where(negated, (1 << (bits + 1)) - 1 - flat, flat)
    numbers = (digits << (bits * np.arange(len(flat)))[:, None]).sum(axis=0)
    here = np.arange(flat.shape[1])
    known = (numbers >= 0) & (numbers < len(here))
    row = np.zeros(len(here), np.int32)
    row[numbers[known]] = np.where(negated, ~here, here)[known]
    one = np.zeros(1, np.intp)
    return Plan(height, width, (height, width), one, StateTable(row[None]), one, halves)
