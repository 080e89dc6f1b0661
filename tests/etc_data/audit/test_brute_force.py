import pytest

from etc_data.audit.brute_force import BruteForce, search_unit
from etc_data.errors import SchemeError
from etc_data.schemes import Scheme


@pytest.mark.parametrize("scope", ["dataset", "image"])
@pytest.mark.parametrize("scheme", ["com-16", "com-16/8"])
def test_one_image_gives_a_common_key_away(find, photos, scheme, scope):
    finding = find(BruteForce(), photos[:1], scheme, scope)
    assert finding.success
    assert finding.scores["values"] == 1


@pytest.mark.parametrize(
    ("scheme", "size"), [("ind-16", 224), ("ind-16/8", 224), ("etc-16", 64), ("flip-4", 32), ("pe", 32)]
)
def test_large_key_spaces_are_not_searched(scheme, size):
    with pytest.raises(SchemeError, match=r"does not fall apart"):
        search_unit(Scheme.preset(scheme), size, size)


def test_four_scrambled_blocks_are_searched():
    assert search_unit(Scheme.preset("etc-16"), 32, 32) == (32, 16)
