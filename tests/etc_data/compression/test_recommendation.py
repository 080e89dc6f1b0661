"""The recommended coding reaches its target on real photos, and no cheaper quality does."""

import pytest

from etc_data.compression.coders import Jpeg
from etc_data.compression.lossless import Png
from etc_data.compression.measurement import measure
from etc_data.compression.recommendation import BytesTarget, PsnrTarget, best_coding, recommend
from etc_data.compression.treatments import PLAIN

NAMES = (PLAIN, "etc-16", "com-16", "ind-16/8", "etc-gray-8")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("decibels", [33.0, 38.0])
def test_wanted_psnr_is_reached_and_not_one_quality_below(name, decibels, treat, crops):
    one = treat(name)
    found = best_coding(crops, one, PsnrTarget(decibels))
    again = measure(crops, one, found.coder)
    assert again.mean_psnr == found.mean_psnr >= decibels
    assert again.mean_bytes == found.mean_bytes
    below = measure(crops, one, Jpeg(found.quality - 1, found.coder.sampling))
    assert below.mean_psnr < decibels


@pytest.mark.parametrize("name", NAMES)
def test_wanted_size_is_kept_and_not_one_quality_above(name, treat, crops):
    one, limit = treat(name), 6000
    found = best_coding(crops, one, BytesTarget(limit))
    again = measure(crops, one, found.coder)
    assert again.mean_bytes == found.mean_bytes <= limit
    above = measure(crops, one, Jpeg(found.quality + 1, found.coder.sampling))
    assert above.mean_bytes > limit


def test_lossless_files_are_taken_where_jpeg_does_not_reach_it(treat, crops):
    found = best_coding(crops, treat("le-4"), PsnrTarget(45))
    assert (found.coder, found.quality) == (Png(), None)
    whole = int(measure(crops, treat(PLAIN), Png()).mean_bytes) + 1
    assert best_coding(crops, treat(PLAIN), BytesTarget(whole)).coder == Png()


def test_target_out_of_reach_gives_nothing(treat, crops):
    assert best_coding(crops, treat(PLAIN), BytesTarget(100)) is None
    # Its colors are rounded, so that not even PNG gives 60 dB.
    assert best_coding(crops, treat("etc-gray-8"), PsnrTarget(60)) is None


def test_every_coding_is_counted(treat, crops):
    calls = []
    best_coding(crops, treat(PLAIN), PsnrTarget(30), step=lambda: calls.append(1))
    assert len(calls) == 3  # 4:4:4, 4:2:0, PNG


def test_recommended_scheme_is_small_and_has_keys_enough(treat, crops):
    target = PsnrTarget(36)
    found = {name: best_coding(crops, treat(name), target) for name in (*NAMES, "ele-4")}
    best = recommend(list(found.values()), target)
    # Plain and gray images are not offered, com-16 has 96 keys, ele-4 is several times as large.
    assert best in (found["etc-16"], found["ind-16/8"])
    smaller = min(found["etc-16"].mean_bytes, found["ind-16/8"].mean_bytes)
    assert best.mean_bytes <= 1.01 * smaller


def test_among_equals_the_larger_key_space_is_taken(treat, crops):
    target = BytesTarget(6000)
    found = [best_coding(crops, treat(name), target) for name in ("ind-16", "etc-16")]
    assert abs(found[0].mean_psnr - found[1].mean_psnr) < 0.1
    assert recommend(found, target) == recommend(found[::-1], target)
    assert recommend(found, target).treatment.name == "etc-16"


def test_few_keys_are_not_recommended(treat, crops):
    # Two blocks of 48 × 64 pixels a side leave etc-48 too few keys.
    target = PsnrTarget(36)
    found = [best_coding(crops[:, :32, :32], treat(name), target) for name in ("com-16", "etc-16")]
    assert recommend(found, target) is None
    assert recommend([], target) is None
