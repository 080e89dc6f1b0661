"""Keys: their derivation, their file on disk, and what a process may see of them."""

import copy
import multiprocessing
import operator
import os
import pickle
import resource
import stat
import sys

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st

from etc_data import EtcError, SecretKey
from etc_data.errors import KeyFileError
from etc_data.keys import KEY_VARIABLE, format_key_line, hkdf_sha256, is_sealed, parse_key_line

SECRET = bytes(range(100, 132))
KEY = SecretKey(SECRET)
LINE = format_key_line(SECRET)

posix = pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")


def refused(function, *arguments, **options) -> KeyFileError:
    with pytest.raises(KeyFileError) as caught:
        function(*arguments, **options)
    assert isinstance(caught.value, EtcError)
    assert "\n" not in str(caught.value)
    return caught.value


# -- derivation ---------------------------------------------------------------------------------


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=80), st.integers(1, 100))
def test_hkdf_is_that_of_rfc_5869(secret, info, length):
    theirs = HKDF(SHA256(), length=length, salt=b"etc-data/1", info=info).derive(secret)
    assert hkdf_sha256(secret, info, length) == theirs


def test_id_is_public_and_one_way():
    assert SecretKey(bytes(32)).id == "6331af7fded711c0"
    assert len(KEY.id) == 16
    assert KEY.id != SecretKey(bytes(32)).id


def test_subkeys_of_purposes_differ():
    purposes = ["draws", "sample-order", "nonces", "manifest", "Draws", ""]
    subkeys = {KEY.subkey(purpose) for purpose in purposes}
    assert len(subkeys) == len(purposes)
    assert {len(subkey) for subkey in subkeys} == {32}
    assert SECRET not in subkeys


def test_generated_keys_differ():
    assert len({SecretKey.generate().subkey("draws") for _ in range(20)}) == 20


@pytest.mark.parametrize("secret", [b"", bytes(31), bytes(33), "x" * 32, 32, None, [0] * 32])
def test_anything_but_32_bytes_is_refused_without_showing_it(secret):
    error = refused(SecretKey, secret)
    assert str(error) == "a secret key is 32 bytes, not the value given"


def test_later_change_of_a_bytearray_does_not_change_the_key():
    buffer = bytearray(SECRET)
    key = SecretKey(buffer)
    buffer[0] ^= 1
    assert key == KEY


# -- equality, pickles --------------------------------------------------------------------------


def test_equal_secrets_make_equal_keys_with_equal_hashes():
    twin = SecretKey(SECRET)
    assert twin == KEY
    assert hash(twin) == hash(KEY)
    assert len({twin, KEY}) == 1


def test_other_secrets_and_other_types_are_unequal():
    assert SecretKey(bytes(32)) != KEY
    assert KEY != SECRET
    assert KEY != KEY.id
    assert KEY is not None


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_keeps_the_key(protocol):
    twin = pickle.loads(pickle.dumps(KEY, protocol))
    assert twin == KEY
    assert twin.subkey("draws") == KEY.subkey("draws")


def test_copies_are_equal():
    assert copy.copy(KEY) == KEY
    assert copy.deepcopy({"key": KEY}) == {"key": KEY}


def test_key_travels_to_a_spawned_process():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        subkey = pool.apply(operator.methodcaller("subkey", "draws"), (KEY,))
    assert subkey == KEY.subkey("draws")


# -- the key line -------------------------------------------------------------------------------


@given(st.binary(min_size=32, max_size=32))
def test_key_line_round_trips(secret):
    line = format_key_line(secret)
    assert len(line) == len("ETC-SECRET-KEY-1-") + 56
    assert "=" not in line
    assert not is_sealed(line)
    assert parse_key_line(line) == secret


@settings(max_examples=50)
@given(st.integers(0, 55), st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567018=-a é"))
def test_one_mistyped_character_is_found(place, character):
    place += len("ETC-SECRET-KEY-1-")
    line = LINE[:place] + character + LINE[place + 1 :]
    if line == LINE:
        assert parse_key_line(line) == SECRET
    else:
        assert "mistyped" in str(refused(parse_key_line, line))


@pytest.mark.parametrize("line", [LINE[:-1], LINE[:-8], LINE + "A", LINE + "AAAAAAAA", LINE[:17]])
def test_line_of_another_length_is_damaged(line):
    error = refused(parse_key_line, line, "key file k")
    assert str(error).startswith("key file k is damaged")
    assert error.hint == "copy the whole line again from your backup"


@pytest.mark.parametrize(
    "text",
    [
        LINE,
        f"\n\n  {LINE}\t\n\n",
        f"# comment\r\n{LINE}\r\n# another: é\r\n",
        f"\ufeff# comment\n{LINE}",
    ],
)
def test_comments_blank_lines_and_spaces_are_skipped(text):
    assert SecretKey.from_text(text.encode()) == KEY


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "exactly one key line, not 0"),
        (b"# only a comment\n", "exactly one key line, not 0"),
        (f"{LINE}\n{LINE}\n".encode(), "exactly one key line, not 2"),
        (b"AGE-SECRET-KEY-1QQQ", "does not begin with ETC-SECRET-KEY-1-"),
        (LINE.lower().encode(), "does not begin with ETC-SECRET-KEY-1-"),
        (LINE.replace("KEY-1", "KEY-2").encode(), "of a key version that this etc-data does not read"),
        (b"\xff\xfe\x00", "it is not text"),
        (b"# " + b"x" * 70_000, "longer than 65536 bytes"),
    ],
)
def test_text_that_is_no_key_is_refused_with_its_reason(data, message):
    error = refused(SecretKey.from_text, data, origin="the key of a test")
    assert str(error).startswith("the key of a test ")
    assert message in str(error)


# -- the key file -------------------------------------------------------------------------------


def test_file_round_trips(tmp_path):
    KEY.save(tmp_path / "k")
    assert SecretKey.load(str(tmp_path / "k")) == KEY
    text = (tmp_path / "k").read_text("ascii")
    assert f"# key id: {KEY.id}\n{LINE}\n" in text
    assert os.listdir(tmp_path) == ["k"]


@posix
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o277])
def test_file_has_mode_0600_under_any_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        KEY.save(tmp_path / "k")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "k").stat().st_mode) == 0o600


def test_existing_file_is_never_overwritten(tmp_path):
    path = tmp_path / "k"
    path.write_bytes(b"precious")
    before = path.stat()
    error = refused(KEY.save, path)
    assert "exists already" in str(error)
    assert path.read_bytes() == b"precious"
    assert path.stat().st_mode == before.st_mode
    assert path.stat().st_mtime_ns == before.st_mtime_ns


@posix
def test_link_is_never_followed_when_writing(tmp_path):
    (tmp_path / "dangling").symlink_to(tmp_path / "target")
    assert "exists already" in str(refused(KEY.save, tmp_path / "dangling"))
    assert not (tmp_path / "target").exists()


def test_folder_that_is_missing_is_named(tmp_path):
    error = refused(KEY.save, tmp_path / "no" / "k")
    assert f"{tmp_path / 'no' / 'k'} cannot be written" in str(error)


@posix
def test_disk_that_is_full_leaves_no_partial_file(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        error = refused(KEY.save, tmp_path / "k")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "cannot be written" in str(error)
    assert os.listdir(tmp_path) == []


def test_interruption_leaves_no_partial_file(tmp_path, monkeypatch):
    def interrupt(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        KEY.save(tmp_path / "k")
    assert os.listdir(tmp_path) == []


def test_missing_file_hints_at_keygen(tmp_path):
    error = refused(SecretKey.load, tmp_path / "k")
    assert str(error) == f"key file {tmp_path / 'k'} does not exist"
    assert error.hint == f"make one with: etc-data keygen {tmp_path / 'k'}"


def test_folder_instead_of_a_file_is_refused(tmp_path):
    assert "cannot be read" in str(refused(SecretKey.load, tmp_path))


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file_is_refused(tmp_path):
    KEY.save(tmp_path / "k")
    (tmp_path / "k").chmod(0)
    assert "cannot be read: Permission denied" in str(refused(SecretKey.load, tmp_path / "k"))


@posix
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o610])
def test_file_open_to_others_warns(tmp_path, mode):
    KEY.save(tmp_path / "k")
    (tmp_path / "k").chmod(mode)
    with pytest.warns(UserWarning, match=rf"mode {mode:04o}\); run: chmod 600"):
        assert SecretKey.load(tmp_path / "k") == KEY


@posix
@pytest.mark.parametrize("mode", [0o600, 0o400])
@pytest.mark.filterwarnings("error")
def test_private_file_does_not_warn(tmp_path, mode):
    KEY.save(tmp_path / "k")
    (tmp_path / "k").chmod(mode)
    assert SecretKey.load(tmp_path / "k") == KEY


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /dev/fd")
@pytest.mark.filterwarnings("error")
def test_pipe_is_read_without_a_warning():
    reader, writer = os.pipe()
    os.write(writer, LINE.encode())
    os.close(writer)
    try:
        assert SecretKey.load(f"/dev/fd/{reader}") == KEY
    finally:
        os.close(reader)


# -- the environment ----------------------------------------------------------------------------


def test_environment_gives_the_key(monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, LINE)
    assert KEY_VARIABLE == "ETC_DATA_KEY"
    assert SecretKey.from_environment() == KEY
    monkeypatch.setenv("OTHER", f" {format_key_line(bytes(32))}\n")
    assert SecretKey.from_environment("OTHER") == SecretKey(bytes(32))


@pytest.mark.parametrize("value", [None, ""])
def test_unset_variable_is_refused(monkeypatch, value):
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    if value is not None:
        monkeypatch.setenv(KEY_VARIABLE, value)
    error = refused(SecretKey.from_environment)
    assert str(error) == "the environment variable ETC_DATA_KEY is not set"
    assert error.hint == "it holds the line of a key file that begins with ETC-SECRET-KEY-1"


@posix
def test_variable_of_broken_bytes_is_refused(monkeypatch):
    monkeypatch.setitem(os.environb, KEY_VARIABLE.encode(), b"\xff\xff")
    assert "environment variable ETC_DATA_KEY is no key" in str(refused(SecretKey.from_environment))


def test_key_line_given_as_a_path_is_refused_and_not_repeated():
    line = format_key_line(bytes(range(32)))
    for use in (SecretKey.load, SecretKey(bytes(32)).save):
        with pytest.raises(KeyFileError, match="where the name of its file belongs") as caught:
            use(line)
        assert line not in str(caught.value) + str(caught.value.hint)
