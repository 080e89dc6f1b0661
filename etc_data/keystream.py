"""The specified draws: bits, integers and permutations from a labeled stream of bytes.

A stream is SHAKE-256 (FIPS 202) of a 32-byte sub-key and a label; it is as long as a draw needs.
Every draw is uniform over its whole range: what would bias it is rejected and read again.  The
rules are in docs/format.md, "Draws"; they never change within a version, and no library's random
generator takes part, because its stream may.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from etc_data.keys import SecretKey

VERSION = b"etc-data/1"

IntArray = npt.NDArray[np.intp]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class StreamFactory:
    """Everything of a label that is fixed for one image: key, scheme, context and nonce."""

    _subkey: bytes
    canonical_scheme: str
    context: str
    nonce: bytes

    @classmethod
    def for_image(
        cls, key: SecretKey, canonical_scheme: str, context: str = "", nonce: bytes = b""
    ) -> "StreamFactory":
        """Returns the factory of all streams of one plan."""
        return cls(key.subkey("draws"), canonical_scheme, context, nonce)

    def stream(self, step: str, geometry: str) -> "KeyStream":
        """Returns the stream of one step.

        Args:
            step: ``"<index of the step in the scheme>:<the step's canonical text>"``.
            geometry: what the draw depends on of the image's size, ``""`` where nothing.
        """
        fields = (
            VERSION,
            self.canonical_scheme.encode("ascii"),
            step.encode("ascii"),
            geometry.encode("ascii"),
            self.context.encode("utf-8"),
            self.nonce,
        )
        return KeyStream(self._subkey, label(fields))

    def __repr__(self) -> str:
        return f"StreamFactory({self.canonical_scheme!r})"


def label(fields: tuple[bytes, ...]) -> bytes:
    """Returns the fields joined unambiguously: each after its length as 4 big-endian bytes."""
    return b"".join(len(field).to_bytes(4, "big") + field for field in fields)


class KeyStream:
    """One labeled stream of bytes; each stream serves exactly one draw."""

    def __init__(self, subkey: bytes, label: bytes) -> None:
        self._seed = subkey + label

    def read(self, count: int) -> npt.NDArray[np.uint8]:
        """Returns the first `count` bytes of the stream, uint8 [count]."""
        return np.frombuffer(hashlib.shake_256(self._seed).digest(count), np.uint8)

    def bits(self, count: int) -> BoolArray:
        """Returns `count` fair bits, bool [count]; the lowest bit of a byte comes first."""
        octets = self.read(-(-count // 8))
        return np.unpackbits(octets, count=count, bitorder="little").astype(np.bool_)

    def integers(self, count: int, bound: int) -> IntArray:
        """Returns `count` integers uniform over 0 … bound − 1 for a bound of at most 256.

        A byte of at least ``256 − 256 mod bound`` is skipped; any other gives its remainder.
        """
        if not 1 <= bound <= 256:
            raise ValueError(f"bound {bound} is not in 1 … 256")
        limit = 256 - 256 % bound
        wanted = count if limit == 256 else count * 256 // limit + 32
        while True:
            octets = self.read(wanted)
            accepted = octets if limit == 256 else octets[octets < limit]
            if len(accepted) >= count:
                integers: IntArray = accepted[:count].astype(np.intp) % bound
                return integers
            wanted *= 2

    def permutations(self, count: int, length: int) -> IntArray:
        """Returns `count` permutations uniform over all of ``length!``, intp [count, length].

        The stream is read as little-endian 64-bit words in rows of `length`; a row that holds a word
        twice is skipped; entry i of a permutation is the position of the row's i-th smallest word.
        """
        rows_wanted = count
        while True:
            words = self._words(rows_wanted * length).reshape(rows_wanted, length)
            order: IntArray = np.argsort(words, axis=1)
            ranked = np.take_along_axis(words, order, axis=1)
            distinct = (ranked[:, 1:] != ranked[:, :-1]).all(axis=1)
            if np.count_nonzero(distinct) >= count:
                rows: IntArray = order[distinct][:count]
                return rows
            rows_wanted += count

    def _words(self, count: int) -> npt.NDArray[np.uint64]:
        return self.read(8 * count).view("<u8")


def derived_permutation(subkey: bytes, purpose: tuple[bytes, ...], length: int) -> IntArray:
    """Returns one keyed permutation outside of any scheme, such as the order of a data set."""
    order: IntArray = KeyStream(subkey, label((VERSION, *purpose))).permutations(1, length)[0]
    return order
