"""What an owner is told follows from what was found, and from nothing else."""

from dataclasses import replace

import pytest

from etc_data.audit.attack import Criterion, Finding
from etc_data.audit.recommendations import recommend
from etc_data.audit.storage import StorageSummary

STORAGE = StorageSummary(
    scheme="etc-16",
    key_id="0" * 16,
    key_scope="dataset",
    context="",
    samples={"train": 8000, "val": 1000},
    labels={0: 4500, 1: 4500},
    class_names=(),
    copies=1,
    image_bytes=(1, 2, 3),
    bytes_by_label={},
    nonces=0,
)
ALWAYS = "What was not tried is not excluded: this is perceptual encryption, without proof."


def finding(attack, *, success=True, **cost):
    return Finding(
        attack=attack,
        scheme="etc-16",
        key_scope="dataset",
        attacker_holds="",
        success=success,
        criterion=Criterion("values", 0.5, ""),
        scores={},
        cost=cost,
        seconds=0.0,
        restored=None,
    )


def advise(*findings, duplicates=0, has_key=True, quick=False, **storage):
    told = replace(STORAGE, **storage)
    advice = recommend(findings, told, duplicates=duplicates, has_key=has_key, quick=quick)
    assert advice[-1] == ALWAYS
    return advice[:-1]


def test_one_key_is_told_by_the_fewest_images_that_were_enough():
    attacks = [finding("topology", images=n, success=n >= 20) for n in (1, 5, 20, 100)]
    first = advise(*attacks)[0]
    assert first.startswith("One key over 9,000 images: 20 of them were enough")
    assert "--key-scope image" in first and "order-free" in first


def test_images_that_gave_parts_of_pictures_count_where_none_gave_a_whole_one():
    parts, whole = finding("topology", images=5), finding("topology", images=20)
    parts.scores["pictures_alike"], whole.scores["pictures_alike"] = 0.0, 0.5
    assert "images: 20 of them were enough" in advise(parts, whole)[0]
    assert "images: 5 of them were enough" in advise(parts)[0]


@pytest.mark.parametrize("scope", ["dataset", "image"])
def test_a_single_image_that_fell_is_not_laid_to_one_key(scope):
    text = " ".join(advise(finding("topology", images=1), key_scope=scope, labels={}))
    assert "One key" not in text
    assert "--key-scope" not in text
    assert "every image alone" in text
    assert "Outlines" not in text


@pytest.mark.parametrize("attack", ["as is", "feature reconstruction, advanced"])
def test_outlines_are_laid_to_blocks_that_stay_in_place(attack):
    assert "Outlines show in every image alone" in advise(finding(attack), labels={})[0]


@pytest.mark.parametrize("scope", ["dataset", "image"])
def test_a_jigsaw_that_was_solved_is_told_under_either_key_policy(scope):
    assert any("jigsaw" in sentence for sentence in advise(finding("jigsaw"), key_scope=scope))


def test_labels_are_spoken_of_only_where_there_are_any():
    assert "label" in " ".join(advise(finding("recognition")))
    assert "label" not in " ".join(advise(finding("recognition"), labels={}))


def test_fresh_keys_are_no_remedy_where_they_are_in_use():
    found = finding("known plaintext"), finding("jigsaw"), finding("recognition")
    text = " ".join(advise(*found, duplicates=2, key_scope="image"))
    assert "--key-scope image" not in text
    assert "2 encrypted images equal an earlier one" in text
    assert "1 encrypted image equals" in " ".join(advise(duplicates=1))


@pytest.mark.parametrize(
    ("has_key", "quick", "wanted"),
    [
        (True, False, None),
        (True, True, "Audit without --quick before"),
        (False, False, "Audit with the key before"),
        (False, True, "Audit with the key and without --quick before"),
    ],
)
def test_an_audit_that_left_something_out_asks_for_a_whole_one(has_key, quick, wanted):
    advice = advise(has_key=has_key, quick=quick, labels={})
    assert [sentence.startswith(wanted or "") for sentence in advice] == [True] * (wanted is not None)


def test_attacks_that_failed_lead_to_nothing():
    names = "topology", "jigsaw", "brute force", "base weights", "row matching", "recognition"
    assert advise(*(finding(name, success=False, images=5) for name in names), labels={}) == ()
