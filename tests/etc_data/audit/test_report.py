"""Verdicts, the folder and the page of a report, over encryptions of real photos."""

import json
import os
import re
import stat
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from etc_data import Cipher, SecretKey
from etc_data.audit.attack import Criterion, Finding
from etc_data.audit.report import audit, title
from etc_data.audit.report_folder import report_folder, write_report
from etc_data.audit.report_page import render
from etc_data.audit.trials import ATTACKERS, Exhibit
from etc_data.audit.weighing import weigh
from etc_data.errors import EtcError, OutputExistsError, StorageError
from etc_data.shards import write_shards

KEY = SecretKey(bytes(range(32)))
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"}


@pytest.fixture(scope="module")
def place(tmp_path_factory, small_photos):
    """A data set of eight small photos in two classes, with a name that looks like markup."""
    root = tmp_path_factory.mktemp("report")
    for number, image in enumerate(small_photos[:8]):
        folder = root / "in" / ("<i>ill", "well&")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"patient-{number}.png")
    cipher = Cipher("etc-8", KEY, context="<script>alert(1)</script>")
    write_shards(root / "in", root / 'out"><b>', cipher, size=32, class_names=True)
    return root / 'out"><b>'


@pytest.fixture(scope="module")
def reports(place):
    """What the audit says with the key, and without it."""
    return {True: audit(place, key=KEY, quick=True), False: audit(place, quick=True)}


def finding(attack="jigsaw", *, restored=None, success=False, **cost):
    return Finding(
        attack=attack,
        scheme="etc-8",
        key_scope="dataset",
        attacker_holds="",
        success=success,
        criterion=Criterion("nc", 0.5, ""),
        scores={"nc": 0.3},
        cost=cost,
        seconds=0.0,
        restored=restored,
    )


def exhibit(plain, restored, attacker="reader of the bucket", encrypted=None, **more):
    if encrypted is None and restored is not None:
        encrypted = np.random.default_rng(0).permuted(restored, axis=1)
    return Exhibit(finding(restored=restored, **more), attacker, encrypted, plain)


# -- verdicts --------------------------------------------------------------------------------------


def test_one_picture_that_came_back_is_a_success_and_comes_first(small_photos):
    plain, strangers = small_photos[:4], small_photos[10:14].copy()
    strangers[2] = 255 - plain[2][..., ::-1]  # other colors and polarity hide nothing
    weighed = weigh(exhibit(plain, strangers, encrypted=small_photos[20:24]))
    assert weighed.outcome == "broken"
    assert weighed.finding.scores["pictures_alike"] == 0.25
    assert np.array_equal(weighed.finding.restored[0], strangers[2])
    assert np.array_equal(weighed.plain[0], plain[2])
    assert np.array_equal(weighed.encrypted[0], small_photos[22])


def test_what_shows_in_the_encrypted_picture_is_no_merit_of_an_attack(small_photos):
    plain = small_photos[:8]
    showing = np.clip(plain + np.random.default_rng(0).normal(0, 20, plain.shape), 0, 255)
    showing = showing.astype(np.uint8)
    assert weigh(exhibit(plain, showing)).finding.scores["pictures_alike"] > 0.5
    assert weigh(exhibit(plain, showing, encrypted=showing)).outcome == "held"
    assert weigh(exhibit(plain, plain, encrypted=showing)).finding.scores["pictures_alike"] == 1


def test_strangers_are_no_success(small_photos):
    for shift in (1, 7):
        weighed = weigh(exhibit(small_photos, np.roll(small_photos, shift, axis=0)))
        assert weighed.outcome == "held"
        assert weighed.finding.scores["pictures_alike"] == 0


def test_what_all_pictures_of_a_set_share_is_no_merit_either(small_photos):
    y, x = np.mgrid[:32, :32] - 15.5
    disk = (np.hypot(y, x) < 12)[None, ..., None] * np.uint8(160)
    plain = (disk + small_photos[:12] // 8).astype(np.uint8)
    assert weigh(exhibit(plain, np.roll(plain, 3, axis=0))).outcome == "held"
    assert weigh(exhibit(plain, plain)).finding.scores["pictures_alike"] == 1


def test_without_plain_pictures_nothing_is_weighed(small_photos):
    for before in (exhibit(None, small_photos[:4]), exhibit(None, None)):
        assert weigh(before).finding.scores == before.finding.scores
        assert weigh(before).outcome == "held"


@pytest.mark.parametrize("key", [None, KEY])
def test_scores_without_a_value_are_left_out(small_photos, key):
    plain = None if key is None else small_photos[:1]
    before = exhibit(plain, small_photos[1:2])
    scores = {"smoothness": float("nan"), "gain": float("-inf"), "joins": 0.5}
    after = weigh(replace(before, finding=replace(before.finding, scores=scores)))
    assert after.finding.scores.keys() - {"pictures_alike"} == {"joins"}


def verdicts(report, *exhibits):
    report = replace(report, exhibits=exhibits)
    return {standing.attacker: standing.verdict for standing in report.standings}


def test_who_holds_more_than_the_reader_of_the_bucket_finds_at_least_as_much(reports, small_photos):
    broken = exhibit(None, small_photos[:1], success=True)
    held = [exhibit(None, small_photos[:1], name) for name in ATTACKERS]
    every = dict.fromkeys([*ATTACKERS, "training provider"], "broken")
    assert verdicts(reports[True], broken, *held) == every | {"inference provider": "held"}
    assert set(verdicts(reports[True], *held).values()) == {"held"}
    only_reader = verdicts(reports[True], held[0])
    assert only_reader["training provider"] == "held"
    assert only_reader["one who knows a photo"] == "not tried"


def test_gray_pictures_come_back_in_whichever_order_their_colors_are(tmp_path, photos):
    for number, photo in enumerate(photos[:3]):
        Image.fromarray(photo).convert("L").save(tmp_path / f"{number}.png")
    cipher = Cipher("etc-16", KEY)
    write_shards(tmp_path, tmp_path.parent / "gray", cipher, size=128, labels=False)
    report = audit(tmp_path.parent / "gray", key=KEY, quick=True)
    standings = {standing.attacker: standing for standing in report.standings}
    assert standings["one who knows a photo"].verdict == "broken"
    assert "2 of 2 pictures came back" in standings["one who knows a photo"].ground


def test_whatever_was_not_tried_has_a_reason(tmp_path, small_photos):
    Image.fromarray(small_photos[0]).save(tmp_path / "only.png")
    out = tmp_path.parent / "only"
    write_shards(tmp_path, out, Cipher("etc-8", KEY), size=32, labels=False)
    report = audit(out, key=KEY, quick=True)
    assert all(s.ground for s in report.standings)
    assert report.omissions
    assert all(omission.reason for omission in report.omissions)


def test_titles_tell_what_an_attack_took():
    assert title(finding("topology", images=5.0)) == "topology, 5 images"
    assert title(finding("known plaintext", pairs=1.0)) == "known plaintext, 1 pair"
    assert title(finding("chosen plaintext", queries=1.0)) == "chosen plaintext, 1 query"
    assert title(finding("jigsaw", images=4.0)) == "jigsaw"


# -- the page --------------------------------------------------------------------------------------


class Outline(HTMLParser):
    """Checks that elements are closed in turn, and notes headings, pictures and scripts."""

    def __init__(self):
        super().__init__()
        self.open, self.headings, self.alts, self.tags = [], [], [], set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "img":
            self.alts.append(dict(attrs)["alt"])
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def outlines(reports):
    def parse(report):
        outline = Outline()
        outline.feed(render(report))
        outline.close()
        return outline

    return {has_key: parse(report) for has_key, report in reports.items()}


def test_page_is_well_formed_and_names_are_no_markup(outlines):
    for outline in outlines.values():
        assert outline.open == []
        assert not outline.tags & {"script", "i", "b", "link", "iframe", "object"}
        assert outline.headings[0] == 1
        assert 1 not in outline.headings[1:]
        steps = zip(outline.headings, outline.headings[1:], strict=False)
        assert all(after - before <= 1 for before, after in steps)


def test_pictures_are_named_and_without_the_key_only_restored_ones_are_shown(outlines):
    assert {alt.split()[0] for alt in outlines[True].alts} == {"plain", "encrypted", "restored"}
    assert {alt.split()[0] for alt in outlines[False].alts} == {"restored"}
    for outline in outlines.values():
        assert len(set(outline.alts)) == len(outline.alts)


def test_page_shows_the_attack_that_restored_pictures(reports, small_photos):
    one, many = (
        exhibit(small_photos[:1], small_photos[9:10], attack="topology", images=n) for n in (1, 8)
    )
    won = replace(one, finding=replace(one.finding, success=True))
    page = render(replace(reports[True], exhibits=(won, many)))
    assert "Topology, 1 image<" in page
    assert "Topology, 8 images<" not in page


def test_nobody_is_told_that_pictures_held_where_nobody_compared(reports, small_photos):
    held = exhibit(None, small_photos[:1])
    page = render(replace(reports[False], exhibits=(held,)))
    assert "unsure" in page
    assert "held so far</span>" not in page
    assert "held so far</span>" in render(replace(reports[True], exhibits=(held,)))


def test_page_and_figures_say_what_was_done_with_what(reports):
    settings = reports[True].to_dict()["settings"]
    assert settings.items() >= {"images": 8, "with_key": True, "quick": True, "split": None}.items()
    assert reports[True].to_dict()["versions"].keys() >= {"etc-data", "python", "numpy", "torch"}
    page = render(reports[True])
    for word in ("Settings", "Versions", "etc-8", "8 of 8 images", "32 × 32 pixels"):
        assert word in page


def test_no_plain_name_gets_out(reports):
    for report in reports.values():
        text = render(report) + json.dumps(report.to_dict())
        assert "patient" not in text
        assert bytes(range(32)).hex() not in text


# -- the folder ------------------------------------------------------------------------------------


def test_folder_is_for_the_owner_alone_and_made_before_the_work(tmp_path, reports):
    with report_folder(tmp_path / "a" / "b"):
        assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
        paths = write_report(reports[True], tmp_path / "a" / "b")
    assert sorted(os.listdir(tmp_path / "a" / "b")) == ["report.html", "report.json"]
    assert json.loads(paths[0].read_text()) == json.loads(json.dumps(reports[True].to_dict()))


@pytest.mark.parametrize("there", [False, True])
def test_an_error_leaves_no_half_report(tmp_path, reports, there):
    folder = tmp_path / "a" / "report"
    if there:
        folder.mkdir(parents=True)
    with pytest.raises(KeyboardInterrupt), report_folder(folder):
        write_report(reports[True], folder)
        raise KeyboardInterrupt
    assert folder.exists() == there
    assert (tmp_path / "a").exists() == there
    assert not there or os.listdir(folder) == []


def test_a_report_stays_out_of_what_is_uploaded(tmp_path, place):
    (tmp_path / "link").symlink_to(place)
    for folder in (place / "report", tmp_path / "link" / "report"):
        with pytest.raises(OutputExistsError, match="inside the data set"), report_folder(folder):
            pass
    ledger = place.parent / f"{place.name}.ledger"
    assert ledger.is_dir()
    with pytest.raises(OutputExistsError, match="inside the ledger"), report_folder(ledger / "report"):
        pass
    assert not list(place.parent.rglob("report"))


def test_folder_that_cannot_be_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "report"):
        with pytest.raises(EtcError, match="cannot be written"), report_folder(folder):
            pass
    with pytest.raises(OutputExistsError, match="is not empty"), report_folder(tmp_path):
        pass
    with (
        pytest.raises(StorageError, match="folder of this machine"),
        report_folder("s3://bucket/report"),
    ):
        pass
    assert (tmp_path / "file").read_text() == "mine"
