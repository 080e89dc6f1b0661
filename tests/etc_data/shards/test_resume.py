"""A run that ended early is continued; one that would write something else is refused."""

import json
import os
import shutil
from dataclasses import replace

import pytest
from click.testing import CliRunner

from etc_data.cipher import Cipher
from etc_data.cli.main import cli
from etc_data.codecs import JpegCodec, PngCodec
from etc_data.errors import EtcError, ManifestError, OutputExistsError, SourceError
from etc_data.keys import SecretKey
from etc_data.shards import ShardWriter, SkippedItemsError, verify_shards, write_shards
from etc_data.sources import ImageFolder
from etc_data.sources.selection import Selection

OPTIONS = {"size": 48, "samples_per_shard": 4}
SAMPLES, SHARDS = 33, 9


def snapshot(folder):
    """Every file's bytes and time, and the folders."""
    return {
        path.relative_to(folder).as_posix(): (
            (path.read_bytes(), path.stat().st_mtime_ns) if path.is_file() else None
        )
        for path in folder.rglob("*")
    }


def ledger_files(out):
    """What a ledger says, but for the file that tells of the last run."""
    folder = out.with_name(f"{out.name}.ledger")
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("run.json", "out.json")
    }


@pytest.fixture(scope="module")
def cipher(key):
    return Cipher("etc-16", key)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, source, cipher):
    """The data set of a run that nobody disturbs, beside its ledger; nobody may change it."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    write_shards(source, out, cipher, **OPTIONS)
    verify_shards(out)
    return out


@pytest.fixture
def finished(undisturbed, tmp_path):
    """A copy of `undisturbed` and its ledger."""
    shutil.copytree(undisturbed.parent, tmp_path, dirs_exist_ok=True)
    return tmp_path / "out"


@pytest.fixture
def unfinished(write_until, tmp_path, source, cipher):
    """A run that ended after three of nine shards."""
    write_until(14, source, tmp_path / "out", cipher, **OPTIONS)
    assert sorted(os.listdir(tmp_path / "out")) == [f"train-00000{i}.tar" for i in range(3)]
    return tmp_path / "out"


@pytest.fixture
def check_equal(undisturbed, contents):
    """check_equal(out) compares a data set and its ledger with those of `undisturbed`."""

    def check(out):
        assert contents(out) == contents(undisturbed)
        assert ledger_files(out) == ledger_files(undisturbed)

    return check


# -- continuing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("items", [0, 1, 4, 5, 16, 27, 28, 32, 33])
def test_run_that_ended_anywhere_is_continued(
    write_until, tmp_path, source, cipher, check_equal, items
):
    out = tmp_path / "out"
    if items:
        write_until(items, source, out, cipher, **OPTIONS)
    standing = len(os.listdir(out)) if items else 0
    summary = write_shards(source, out, cipher, **OPTIONS, resume=True)
    check_equal(out)
    assert (summary.resumed > 0) == (standing > 0)
    assert summary.source_bytes == sum(path.stat().st_size for path in source.rglob("*.jpg"))
    assert not summary.unchanged


def test_run_is_continued_by_more_workers(unfinished, source, cipher, check_equal):
    summary = write_shards(source, unfinished, cipher, **OPTIONS, resume=True, workers=2)
    check_equal(unfinished)
    assert summary.resumed == 11
    assert json.loads((unfinished.with_name("out.ledger") / "run.json").read_text())["resumed"] == 11


def test_what_stands_is_not_written_again(unfinished, source, cipher):
    before = snapshot(unfinished)
    write_shards(source, unfinished, cipher, **OPTIONS, resume=True)
    after = snapshot(unfinished)
    assert len(before) == 3
    assert {name: after[name] for name in before} == before


def test_progress_begins_with_what_stands(unfinished, source, cipher):
    seen = []
    write_shards(
        source,
        unfinished,
        cipher,
        **OPTIONS,
        resume=True,
        progress=lambda total: seen.append(total) or seen.append,
    )
    assert seen == [SAMPLES, 11] + [1] * (SAMPLES - 11)


def test_half_written_files_are_removed(unfinished, source, cipher, check_equal):
    (unfinished / ".train-000004.tar.partial").write_bytes(b"half")
    (unfinished / ".0123abcd.train-000004.tar.partial").write_bytes(b"half")
    ledger = unfinished.with_name("out.ledger")
    (ledger / "done" / ".train-000004.json.partial").write_bytes(b"half")
    (ledger / "staging" / ".abcd_123.train-000004.tar.partial").write_bytes(b"half")
    write_shards(source, unfinished, cipher, **OPTIONS, resume=True)
    check_equal(unfinished)


@pytest.mark.parametrize("left", ["nothing", "an empty folder", "half a plan", "the plan alone"])
def test_run_that_ended_before_its_first_shard_is_started_again(
    tmp_path, source, cipher, undisturbed, check_equal, left
):
    out, ledger = tmp_path / "out", tmp_path / "out.ledger"
    if left != "nothing":
        ledger.mkdir()
    plan = (undisturbed.with_name("out.ledger") / "plan.json").read_bytes()
    if left == "half a plan":
        (ledger / ".plan.json.partial").write_bytes(plan[:100])
    if left == "the plan alone":
        (ledger / "plan.json").write_bytes(plan)
    write_shards(source, out, cipher, **OPTIONS, resume=True)
    check_equal(out)


def test_half_a_plan_does_not_stand_in_the_way_of_a_new_run(tmp_path, source, cipher, check_equal):
    (tmp_path / "out.ledger").mkdir()
    (tmp_path / "out.ledger" / ".plan.json.partial").write_bytes(b'{"for')
    write_shards(source, tmp_path / "out", cipher, **OPTIONS)
    check_equal(tmp_path / "out")


def test_a_lost_folder_is_written_again(finished, source, cipher, check_equal):
    shutil.rmtree(finished)
    assert write_shards(source, finished, cipher, **OPTIONS, resume=True).resumed == 0
    check_equal(finished)


def test_folder_and_ledger_may_move(unfinished, tmp_path, source, cipher, check_equal):
    (tmp_path / "new").mkdir()
    unfinished.rename(tmp_path / "new" / "set")
    unfinished.with_name("out.ledger").rename(tmp_path / "new" / "set.ledger")
    assert write_shards(source, tmp_path / "new" / "set", cipher, **OPTIONS, resume=True).resumed == 11
    check_equal(tmp_path / "new" / "set")


def test_what_is_augmented_and_copied_is_continued(write_until, tmp_path, source, cipher, contents):
    options = {**OPTIONS, "augment": "crop+flip", "copies": 2}
    write_shards(source, tmp_path / "whole", cipher, **options)
    write_until(30, source, tmp_path / "out", cipher, **options)
    assert write_shards(source, tmp_path / "out", cipher, **options, resume=True).resumed > 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert ledger_files(tmp_path / "out") == ledger_files(tmp_path / "whole")


# -- finished ---------------------------------------------------------------------------------------


def test_finished_run_is_left_alone(finished, source, cipher):
    write_shards(source, finished, cipher, **OPTIONS, resume=True)  # after which the move is noted
    before = snapshot(finished.parent)
    summary = write_shards(source, finished, cipher, **OPTIONS, resume=True)
    assert snapshot(finished.parent) == before
    assert summary.unchanged
    assert summary.resumed == SAMPLES


def test_manifest_that_was_not_reached_is_written(finished, source, cipher, check_equal):
    (finished / "manifest.json").unlink()
    (finished / "_info.json").write_text("{}")
    summary = write_shards(source, finished, cipher, **OPTIONS, resume=True)
    check_equal(finished)
    assert summary.resumed == SAMPLES
    assert not summary.unchanged


@pytest.mark.parametrize("harm", ["deleted", "emptied", "cut short", "longer"])
def test_lost_shard_of_a_finished_run_is_written_again(finished, source, cipher, check_equal, harm):
    shard = finished / "train-000003.tar"
    data = shard.read_bytes()
    shard.write_bytes({"cut short": data[:-512], "longer": data + bytes(512)}.get(harm, b""))
    if harm == "deleted":
        shard.unlink()
    before = snapshot(finished)
    assert write_shards(source, finished, cipher, **OPTIONS, resume=True).resumed == SAMPLES - 4
    check_equal(finished)
    after = snapshot(finished)
    touched = {name for name in after if after[name] != before.get(name)}
    assert touched == {"train-000003.tar", "manifest.json"}


def test_data_set_has_no_manifest_while_a_shard_is_missing(
    write_until, finished, source, cipher, check_equal
):
    (finished / "train-000003.tar").unlink()
    write_until(30, source, finished, cipher, **OPTIONS, resume=True)
    assert not (finished / "manifest.json").exists()
    write_shards(source, finished, cipher, **OPTIONS, resume=True)
    check_equal(finished)


# -- something else ---------------------------------------------------------------------------------

DIFFERENCES = {
    "another scheme": ({"scheme": "etc-8"}, {}, "scheme name was etc-16 and is etc-8"),
    "another key": ({"key": bytes(32)}, {}, "key was [0-9a-f]{16} and is [0-9a-f]{16}"),
    "another context": ({"context": "b"}, {}, "context was none and is b"),
    "another key scope": ({"key_scope": "image"}, {}, "key scope was dataset and is image"),
    "another size": ({}, {"size": (48, 64)}, r"size was \[48, 48\] and is \[48, 64\]"),
    "no size": ({}, {"size": None, "fit": "pad"}, r"fit was none .*size was \[48, 48\] and is none"),
    "stretched": ({}, {"resize": "exact"}, "resize was crop and is exact"),
    "another quality": ({}, {"codec": JpegCodec(90)}, "codec quality was 95 and is 90"),
    "another coding": ({}, {"codec": PngCodec()}, "codec name was jpeg and is png"),
    "no labels": ({}, {"labels": False}, "labels was keep and is none"),
    "named classes": ({}, {"class_names": True}, "class names was drop and is keep"),
    "larger shards": ({}, {"samples_per_shard": 8}, "shards train was 7 and is 4; shards val was 2"),
    "augmented": ({}, {"augment": "flip"}, "augmentation was none and is flip"),
    "copies": ({}, {"augment": "flip", "copies": 2}, "copies was 1 and is 2"),
}


@pytest.mark.parametrize("difference", DIFFERENCES)
@pytest.mark.parametrize("state", ["unfinished", "finished"])
def test_other_options_are_refused_by_name(request, source, difference, state):
    out = request.getfixturevalue(state)
    before = snapshot(out.parent)
    other, options, message = DIFFERENCES[difference]
    parts = {"scheme": "etc-16", "key": bytes(range(32)), **other}
    cipher = Cipher(parts.pop("scheme"), SecretKey(parts.pop("key")), **parts)
    with pytest.raises(OutputExistsError, match=f"{out} cannot be resumed: .*{message}") as caught:
        write_shards(source, out, cipher, **(OPTIONS | options), resume=True)
    assert caught.value.hint == "give the same source, key and options, or start anew with --force"
    assert snapshot(out.parent) == before


def test_workers_and_skipping_may_differ(unfinished, source, cipher, check_equal):
    write_shards(source, unfinished, cipher, **OPTIONS, resume=True, workers=2, skip_bad=True)
    check_equal(unfinished)


class Changed:
    """A source some of whose items or classes are others."""

    def __init__(self, source, change):
        self._source = ImageFolder(source)
        self._change = change
        self.splits, self.strays = self._source.splits, self._source.strays
        self.class_names = self._source.class_names
        if change == "a class renamed":
            self.class_names = ("cat", "wolf", "emu")

    def items(self, split):
        items = list(self._source.items(split))
        if split == "val":
            return items
        match self._change:
            case "an image more":
                return [*items, replace(items[0], id="cat/999.jpg")]
            case "an image less":
                return items[:-1]
            case "an image renamed":
                return [replace(items[0], id="cat/other.jpg"), *items[1:]]
            case "an image relabeled":
                return [replace(items[0], label=2), *items[1:]]
            case "two images exchanged":
                return [items[1], items[0], *items[2:]]
        return items


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("an image more", "source train items was 27 and is 28; source train listing has changed"),
        ("an image less", "source train items was 27 and is 26; source train listing has changed"),
        ("an image renamed", "resumed: source train listing has changed$"),
        ("an image relabeled", "resumed: source train listing has changed$"),
        ("two images exchanged", "resumed: source train listing has changed$"),
        ("a class renamed", "resumed: source classes has changed$"),
    ],
)
def test_another_source_is_refused(unfinished, source, cipher, change, message):
    before = snapshot(unfinished.parent)
    with pytest.raises(OutputExistsError, match=message):
        write_shards(Changed(source, change), unfinished, cipher, **OPTIONS, resume=True)
    assert snapshot(unfinished.parent) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": 8}, "source train items was 27 and is 8"),
        ({"splits": ["train"]}, "shards val was 2 and is none; source val items was 6 and is none"),
    ],
)
def test_another_part_of_the_source_is_refused(unfinished, source, cipher, options, message):
    part = Selection(ImageFolder(source), **options)
    with pytest.raises(OutputExistsError, match=message):
        write_shards(part, unfinished, cipher, **OPTIONS, resume=True)


def test_other_libraries_are_refused(unfinished, source, cipher):
    path = unfinished.with_name("out.ledger") / "plan.json"
    plan = json.loads(path.read_text())
    plan["versions"]["images"] = "Pillow 1.0, libjpeg 6b"
    path.write_text(json.dumps(plan))
    with pytest.raises(OutputExistsError, match=r"versions images was Pillow 1\.0, libjpeg 6b and"):
        write_shards(source, unfinished, cipher, **OPTIONS, resume=True)


def test_shards_that_stand_do_not_follow_their_photos(write_until, tmp_path, plant, cipher, photo):
    # Nobody reads ten million photos again to see whether one has changed.
    photos = plant(tmp_path / "in", *(f"{i}.jpg" for i in range(8)))
    write_until(5, photos, tmp_path / "out", cipher, **OPTIONS)
    standing = (tmp_path / "out" / "train-000000.tar").read_bytes()
    for path in photos.iterdir():
        path.write_bytes(photo(99))
    write_shards(photos, tmp_path / "out", cipher, **OPTIONS, resume=True)
    assert (tmp_path / "out" / "train-000000.tar").read_bytes() == standing
    verify_shards(tmp_path / "out")


@pytest.mark.parametrize("name", ["photo.jpg", "train-000009.tar.bak", ".hidden"])
def test_foreign_files_are_refused(unfinished, source, cipher, name):
    (unfinished / name).write_bytes(b"mine")
    before = snapshot(unfinished.parent)
    with pytest.raises(OutputExistsError, match="files that are not of a data set"):
        write_shards(source, unfinished, cipher, **OPTIONS, resume=True)
    assert snapshot(unfinished.parent) == before


def test_folder_of_someone_else_is_refused(tmp_path, source, cipher):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "train-000000.tar").write_bytes(b"years of work")
    before = snapshot(tmp_path)
    with pytest.raises(OutputExistsError, match="no manifest of etc-data and no ledger"):
        write_shards(source, tmp_path / "out", cipher, **OPTIONS, resume=True)
    assert snapshot(tmp_path) == before


def test_data_set_without_its_ledger_cannot_be_continued(finished, source, cipher):
    shutil.rmtree(finished.with_name("out.ledger"))
    before = snapshot(finished.parent)
    with pytest.raises(OutputExistsError, match="does not tell what was written") as caught:
        write_shards(source, finished, cipher, **OPTIONS, resume=True)
    assert caught.value.hint == "name its ledger with --ledger, or start anew with --force"
    assert snapshot(finished.parent) == before


def test_data_set_of_a_shard_writer_cannot_be_continued(tmp_path, source, cipher, photo):
    with ShardWriter(tmp_path / "out", cipher, size=48) as writer:
        writer.write(photo(0))
    with pytest.raises(OutputExistsError, match="does not tell what was written"):
        write_shards(source, tmp_path / "out", cipher, **OPTIONS, resume=True)


def test_new_run_is_pointed_to_resume(unfinished, source, cipher):
    with pytest.raises(OutputExistsError, match="is not empty") as caught:
        write_shards(source, unfinished, cipher, **OPTIONS)
    assert "--resume" in caught.value.hint


def test_force_and_resume_exclude_each_other(tmp_path, source, cipher):
    with pytest.raises(ValueError, match="force starts anew and resume continues"):
        write_shards(source, tmp_path / "out", cipher, **OPTIONS, force=True, resume=True)


# -- a damaged ledger -------------------------------------------------------------------------------

HARMS = {
    "deleted": None,
    "emptied": lambda data: b"",
    "cut short": lambda data: data[: len(data) // 2],
    "without its last line": lambda data: data[: data.rstrip().rfind(b"\n") + 1],
    "garbage": lambda data: bytes(range(256)),
    "other JSON": lambda data: b"{}\n",
    "a list": lambda data: b"[]\n",
    "another digit": lambda data: data.replace(b"1", b"2").replace(b"0", b"1"),
    "another type": lambda data: data.replace(b": 0", b': "0"').replace(b": 1", b": [1]"),
}


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("state", ["unfinished", "finished"])
def test_damaged_ledger_never_leads_to_other_bytes(
    request, source, cipher, undisturbed, contents, state, harm
):
    out = request.getfixturevalue(state)
    ledger = out.with_name("out.ledger")
    names = [path.relative_to(ledger) for path in ledger.rglob("*") if path.is_file()]
    saved = shutil.copytree(out.parent, out.parent.with_name(f"{out.parent.name}-saved"))
    for name in names:
        shutil.rmtree(out.parent)
        shutil.copytree(saved, out.parent)
        path = ledger / name
        if HARMS[harm] is None:
            path.unlink()
        else:
            path.write_bytes(HARMS[harm](path.read_bytes()))
        try:
            write_shards(source, out, cipher, **OPTIONS, resume=True)
        except EtcError as error:
            assert name.name == "plan.json"
            assert isinstance(error, OutputExistsError | ManifestError)
            assert "cannot be resumed" in str(error)
            assert "--force" in error.hint
        else:
            assert contents(out) == contents(undisturbed)
            assert ledger_files(out) == ledger_files(undisturbed)
    shutil.rmtree(saved)


# -- items that cannot be taken ---------------------------------------------------------------------


@pytest.fixture
def flawed(tmp_path, plant, photo):
    """Twelve photos, three of them broken."""
    folder = plant(tmp_path / "flawed", *(f"{i:02}.jpg" for i in range(12)))
    for number in (1, 5, 6):
        (folder / f"{number:02}.jpg").write_bytes(b"no picture")
    return folder


def test_items_that_failed_are_still_missing(tmp_path, flawed, cipher, contents):
    for name in ("out", "whole"):
        with pytest.raises(SkippedItemsError, match="3 of 12 images") as caught:
            write_shards(flawed, tmp_path / name, cipher, **OPTIONS)
        assert caught.value.hint.endswith("--skip-bad accepts that, --resume tries again")
    with pytest.raises(SkippedItemsError, match="3 of 12 images"):
        write_shards(flawed, tmp_path / "out", cipher, **OPTIONS, resume=True)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert ledger_files(tmp_path / "out") == ledger_files(tmp_path / "whole")


def test_accepted_failures_are_finished(tmp_path, flawed, cipher):
    write_shards(flawed, tmp_path / "out", cipher, **OPTIONS, skip_bad=True)
    before = snapshot(tmp_path)
    summary = write_shards(flawed, tmp_path / "out", cipher, **OPTIONS, skip_bad=True, resume=True)
    assert summary.unchanged
    assert [failure.item for failure in summary.failures] == ["01.jpg", "05.jpg", "06.jpg"]
    assert snapshot(tmp_path) == before


def test_repaired_items_are_taken_up(tmp_path, flawed, cipher, photo, contents):
    with pytest.raises(SkippedItemsError):
        write_shards(flawed, tmp_path / "out", cipher, **OPTIONS)
    for number in (1, 5, 6):
        (flawed / f"{number:02}.jpg").write_bytes(photo(number))
    write_shards(flawed, tmp_path / "out", cipher, **OPTIONS, resume=True)
    write_shards(flawed, tmp_path / "whole", cipher, **OPTIONS)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert ledger_files(tmp_path / "out") == ledger_files(tmp_path / "whole")


@pytest.mark.parametrize("items", [2, 7, 12])
def test_run_with_failures_is_continued(write_until, tmp_path, flawed, cipher, contents, items):
    options = {"size": 48, "samples_per_shard": 1, "skip_bad": True}  # some shards hold nothing
    write_shards(flawed, tmp_path / "whole", cipher, **options)
    write_until(items, flawed, tmp_path / "out", cipher, **options)
    write_shards(flawed, tmp_path / "out", cipher, **options, resume=True)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert ledger_files(tmp_path / "out") == ledger_files(tmp_path / "whole")


def test_run_of_which_nothing_can_be_taken_any_more_leaves_nothing(tmp_path, flawed, cipher):
    write_shards(flawed, tmp_path / "out", cipher, **OPTIONS, skip_bad=True)
    for path in flawed.iterdir():
        path.write_bytes(b"no picture")
    for shard in (tmp_path / "out").glob("*.tar"):
        shard.unlink()
    with pytest.raises(SourceError, match="none of the 12 images could be taken"):
        write_shards(flawed, tmp_path / "out", cipher, **OPTIONS, resume=True)
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert not (tmp_path / "out.ledger").exists()


# -- the command ------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path, source, key):
    """run(*arguments) is the command `encrypt`."""
    key.save(tmp_path / "key")
    common = ["encrypt", str(source), str(tmp_path / "out"), "--key", str(tmp_path / "key")]
    common += ["--size", "48", "--samples-per-shard", "4"]
    return lambda *arguments: CliRunner().invoke(cli, [*common, *arguments])


def test_command_starts_continues_and_has_nothing_to_do(run, unfinished, check_equal):
    result = run("--resume")
    assert result.exit_code == 0
    assert "; 11 samples stood there already" in result.stderr
    check_equal(unfinished)
    before = snapshot(unfinished)
    result = run("--resume", "--json")
    assert result.exit_code == 0
    assert result.stderr.startswith("nothing to do: 33 samples (train 27, val 6) in 9 shards")
    assert json.loads(result.stdout)["resumed"] == SAMPLES
    assert snapshot(unfinished) == before


def test_command_does_not_say_that_nothing_was_done_when_the_manifest_was(run, finished):
    (finished / "manifest.json").unlink()
    result = run("--resume")
    assert result.exit_code == 0
    assert "nothing to do" not in result.stderr
    assert "33 samples stood there already" in result.stderr


def test_command_takes_one_of_force_and_resume(run):
    assert run("--force", "--resume").exit_code == 2
