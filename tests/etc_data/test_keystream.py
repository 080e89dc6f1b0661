"""Draws are uniform, take rejected bytes again, and no two labels share a stream.

All keys are fixed, so that each statistic has one value for ever.  The bounds are the 0.1 % points
of the chi-square distribution: a biased draw misses them by far.
"""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etc_data.keys import SecretKey
from etc_data.keystream import KeyStream, StreamFactory, derived_permutation, label

SUBKEY = bytes(range(32))

# The value that chi-square with so many degrees of freedom exceeds once in a thousand times.
CHI_SQUARE_LIMIT = {1: 10.83, 3: 16.27, 5: 20.52, 7: 24.32, 8: 26.12, 23: 49.73, 99: 148.2}
CHI_SQUARE_LIMIT |= {121: 173.0, 199: 266.4, 254: 329.1, 255: 330.5}


def stream(*fields):
    return KeyStream(SUBKEY, label(fields))


def chi_square(counts):
    counts = np.asarray(counts, float)
    expected = counts.sum() / counts.size
    return float(((counts - expected) ** 2).sum() / expected)


class Crafted(KeyStream):
    """A stream that begins with given bytes and goes on like any other."""

    def __init__(self, beginning):
        super().__init__(SUBKEY, b"crafted")
        self._beginning = bytes(beginning)

    def read(self, count):
        octets = self._beginning + super().read(count).tobytes()
        return np.frombuffer(octets[:count], np.uint8)


def words(*rows):
    return b"".join(word.to_bytes(8, "little") for row in rows for word in row)


# -- the stream -----------------------------------------------------------------------------------


def test_stream_is_shake_256_of_subkey_and_label():
    expected = hashlib.shake_256(SUBKEY + b"some label").digest(100)
    assert KeyStream(SUBKEY, b"some label").read(100).tobytes() == expected


@pytest.mark.parametrize("count", [0, 1, 135, 136, 137, 1000])
def test_short_read_is_a_prefix_of_a_long_one(count):
    octets = stream(b"prefix").read(5000)
    assert stream(b"prefix").read(count).tobytes() == octets[:count].tobytes()


def test_fewer_draws_are_a_prefix_of_more():
    one = stream(b"prefix")
    for few, many in [(0, 3), (1, 9), (7, 8), (100, 2000)]:
        assert (one.bits(many)[:few] == one.bits(few)).all()
        assert (one.permutations(many, 5)[:few] == one.permutations(few, 5)).all()
        for bound in (1, 6, 129, 256):
            assert (one.integers(many, bound)[:few] == one.integers(few, bound)).all()


def test_draws_of_one_stream_do_not_depend_on_earlier_draws():
    used = stream(b"again")
    first = used.integers(50, 6)
    used.bits(77)
    used.permutations(4, 9)
    assert (used.integers(50, 6) == first).all()


# -- labels ---------------------------------------------------------------------------------------


def fields_of(joined):
    """Reads a label back into its fields, which shows that no two lists of fields share a label."""
    fields = []
    while joined:
        length = int.from_bytes(joined[:4], "big")
        fields.append(joined[4 : 4 + length])
        joined = joined[4 + length :]
    return tuple(fields)


@settings(deadline=None, derandomize=True, database=None)
@given(st.lists(st.binary(max_size=300), max_size=8).map(tuple))
def test_label_can_be_read_back(fields):
    assert fields_of(label(fields)) == fields


def test_moving_bytes_between_fields_changes_the_label():
    lists = [(), (b"",), (b"", b""), (b"ab",), (b"a", b"b"), (b"", b"ab"), (b"ab", b"")]
    lists += [(b"\0\0\0\0",), (b"\0\0\0\1a",), (b"a", b"", b"b"), (b"b", b"a")]
    assert len({label(fields) for fields in lists}) == len(lists)


def test_factory_labels_a_stream_as_the_page_says():
    key = SecretKey(bytes(32))
    factory = StreamFactory.for_image(key, "scramble-blocks(8)", "fête", b"n" * 16)
    fields = (b"etc-data/1", b"scramble-blocks(8)", b"0:scramble-blocks(8)", b"2x3")
    expected = KeyStream(key.subkey("draws"), label((*fields, "fête".encode(), b"n" * 16)))
    made = factory.stream("0:scramble-blocks(8)", "2x3")
    assert made.read(64).tobytes() == expected.read(64).tobytes()


def test_each_field_of_the_label_gives_another_stream():
    keys = SecretKey(bytes(32)), SecretKey(b"\1" * 32)
    begun = set()
    cases = 0
    for key in keys:
        for scheme in ("a", "b"):
            for context in ("", "x"):
                for nonce in (b"", b"0" * 16, b"1" * 16):
                    factory = StreamFactory.for_image(key, scheme, context, nonce)
                    for step in ("0:a", "1:a"):
                        for geometry in ("", "1x12", "11x2"):
                            octets = factory.stream(step, geometry).read(16)
                            begun.add(octets.tobytes())
                            cases += 1
    assert len(begun) == cases == 2 * 2 * 2 * 3 * 2 * 3


def test_streams_of_two_labels_are_unrelated():
    a, b = (np.unpackbits(stream(name).read(50_000)) for name in (b"0:step", b"1:step"))
    pairs = np.bincount(2 * a + b, minlength=4)
    assert chi_square(pairs) < CHI_SQUARE_LIMIT[3]


def test_repr_of_a_factory_does_not_show_the_subkey():
    factory = StreamFactory.for_image(SecretKey(bytes(32)), "scheme")
    subkey = SecretKey(bytes(32)).subkey("draws")
    assert subkey.hex() not in repr(factory)
    assert repr(subkey)[2:-1] not in repr(factory)


# -- bits -----------------------------------------------------------------------------------------


def test_lowest_bit_of_a_byte_comes_first():
    bits = Crafted([0b0000_0001, 0b1000_0010, 0b0000_0101]).bits(19)
    assert np.flatnonzero(bits).tolist() == [0, 9, 15, 16, 18]


def test_bits_are_fair_at_every_place_of_a_byte():
    bits = stream(b"bits").bits(800_000).reshape(-1, 8)
    for place in range(8):
        ones = np.count_nonzero(bits[:, place])
        assert chi_square([ones, len(bits) - ones]) < CHI_SQUARE_LIMIT[1]


def test_neighboring_bits_are_independent():
    bits = stream(b"neighbors").bits(600_000).reshape(-1, 3) @ [1, 2, 4]
    assert chi_square(np.bincount(bits, minlength=8)) < CHI_SQUARE_LIMIT[7]


# -- integers -------------------------------------------------------------------------------------


def test_bytes_that_would_bias_integers_are_skipped():
    # 256 − 256 mod 6 = 252 and 256 − 256 mod 100 = 200.
    beginning = [251, 252, 255, 0, 253, 254, 13, 200, 199]
    assert Crafted(beginning).integers(5, 6).tolist() == [5, 0, 1, 2, 1]
    assert Crafted(beginning).integers(3, 100).tolist() == [0, 13, 99]
    assert Crafted([128, 255, 127]).integers(2, 128).tolist() == [0, 127]
    assert Crafted([129, 255, 128, 0]).integers(2, 129).tolist() == [128, 0]


def test_bounds_that_divide_256_skip_nothing():
    octets = [255, 0, 128, 7, 254]
    for bound in (1, 2, 4, 8, 16, 32, 64, 128, 256):
        expected = [octet % bound for octet in octets]
        assert Crafted(octets).integers(5, bound).tolist() == expected


@pytest.mark.parametrize("skipped", [1, 40, 5000])
def test_integers_read_on_while_bytes_are_skipped(skipped):
    beginning = [*[252, 253, 254, 255] * skipped, 8, *[255] * skipped, 9]
    assert Crafted(beginning).integers(2, 6).tolist() == [2, 3]


@pytest.mark.parametrize("bound", [2, 6, 8, 100, 200, 255, 256])
def test_integers_are_uniform(bound):
    drawn = stream(b"integers", b"%d" % bound).integers(600_000, bound)
    assert drawn.min() >= 0
    assert drawn.max() < bound
    counts = np.bincount(drawn, minlength=bound)
    assert chi_square(counts) < CHI_SQUARE_LIMIT[bound - 1]


def test_remainders_alone_would_fail_the_test_of_uniformity():
    octets = stream(b"integers", b"6").read(600_000)
    assert chi_square(np.bincount(octets % 6, minlength=6)) > CHI_SQUARE_LIMIT[5]


@pytest.mark.parametrize("bound", [-1, 0, 257])
def test_bound_outside_of_a_byte_raises(bound):
    with pytest.raises(ValueError, match=f"bound {bound} "):
        stream(b"bound").integers(1, bound)


# -- permutations ---------------------------------------------------------------------------------


def test_entry_of_a_permutation_is_the_position_of_the_smallest_word():
    # 256 in little-endian order is greater than 1; the largest words are greater than 2⁶³.
    drawn = Crafted(words([256, 1, 2**64 - 1, 2**63 - 1, 2**63])).permutations(1, 5)
    assert drawn.tolist() == [[1, 0, 3, 4, 2]]


def test_rows_with_a_repeated_word_are_skipped():
    rows = [[7, 7, 3], [5, 3, 4], [0, 9, 0], [1, 1, 1], [2, 2**64 - 1, 1]]
    assert Crafted(words(*rows)).permutations(2, 3).tolist() == [[1, 2, 0], [2, 0, 1]]


@pytest.mark.parametrize("skipped", [1, 2, 30])
def test_permutations_read_on_while_rows_are_skipped(skipped):
    beginning = words(*[[4, 4]] * skipped, [9, 8], *[[0, 0]] * skipped, [8, 9], [3, 2])
    assert Crafted(beginning).permutations(3, 2).tolist() == [[1, 0], [0, 1], [1, 0]]


def test_a_word_may_return_in_another_row():
    assert Crafted(words([1, 2], [2, 1])).permutations(2, 2).tolist() == [[0, 1], [1, 0]]


def test_permutation_of_one_is_zero():
    assert stream(b"one").permutations(3, 1).tolist() == [[0], [0], [0]]


def test_permutations_of_four_are_uniform_over_all_24():
    drawn = stream(b"permutations").permutations(240_000, 4)
    _, counts = np.unique(drawn @ [64, 16, 4, 1], return_counts=True)
    assert len(counts) == 24
    assert chi_square(counts) < CHI_SQUARE_LIMIT[23]


def test_every_position_of_a_longer_permutation_is_uniform():
    length = 12
    drawn = stream(b"positions").permutations(60_000, length)
    assert (np.sort(drawn, axis=1) == np.arange(length)).all()
    counts = np.stack([np.bincount(drawn[:, i], minlength=length) for i in range(length)])
    # Rows and columns of this table have fixed sums, which the factor accounts for.
    statistic = chi_square(counts) * (length - 1) / length
    assert statistic < CHI_SQUARE_LIMIT[(length - 1) ** 2]


def test_neighboring_permutations_are_independent():
    drawn = stream(b"rows").permutations(120_000, 2)[:, 0].reshape(-1, 3) @ [1, 2, 4]
    assert chi_square(np.bincount(drawn, minlength=8)) < CHI_SQUARE_LIMIT[7]


def test_derived_permutation_carries_the_version():
    expected = KeyStream(SUBKEY, label((b"etc-data/1", b"context", b"train"))).permutations(1, 50)
    assert (derived_permutation(SUBKEY, (b"context", b"train"), 50) == expected[0]).all()
