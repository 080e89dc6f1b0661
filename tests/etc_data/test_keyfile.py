"""The passphrase form of a key: round trips and every way to be wrong."""

import base64
import hashlib
import os
import re

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from etc_data import SecretKey
from etc_data.errors import KeyFileError
from etc_data.keyfile import LOG2_COST, open_secret, seal_secret
from etc_data.keys import format_key_line, is_sealed

SECRET = bytes(range(100, 132))
LINE = seal_secret(SECRET, "open sesame", log2_cost=4)
PREFIX = "ETC-SECRET-KEY-1-SCRYPT-4-"


def refused(line: str, passphrase: str | None = "open sesame") -> KeyFileError:
    with pytest.raises(KeyFileError) as caught:
        open_secret(line, passphrase, "key file k")
    assert str(caught.value).startswith("key file k")
    return caught.value


def test_sealed_line_has_the_form_of_the_format_page():
    assert re.fullmatch(r"ETC-SECRET-KEY-1-SCRYPT-4-[A-Z2-7]{122}", LINE)
    assert is_sealed(LINE)


@pytest.mark.parametrize("passphrase", ["x", "open sesame", " spaces ", "pässwörd", "鍵", "a" * 1000])
def test_passphrase_opens_what_it_sealed(passphrase):
    assert open_secret(seal_secret(SECRET, passphrase, log2_cost=1), passphrase) == SECRET


def test_passphrase_is_taken_in_composed_form():
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    assert open_secret(seal_secret(SECRET, decomposed, log2_cost=1), composed) == SECRET


def test_line_opens_by_the_steps_of_the_format_page():
    line = seal_secret(SECRET, "cafe\u0301", log2_cost=4)
    payload = base64.b32decode(line[len(PREFIX) :] + "======")
    salt, iv, sealed = payload[:16], payload[16:28], payload[28:]
    stretched = hashlib.scrypt("caf\u00e9".encode(), salt=salt, n=2**4, r=8, p=1, dklen=32)
    assert AESGCM(stretched).decrypt(iv, sealed, PREFIX.encode()) == SECRET


def test_two_seals_of_one_secret_share_nothing():
    lines = {seal_secret(SECRET, "open sesame", log2_cost=1) for _ in range(8)}
    assert len({line[len(PREFIX) : len(PREFIX) + 20] for line in lines}) == 8
    assert len({line[-20:] for line in lines}) == 8


def test_sealed_line_does_not_hold_the_plain_one():
    assert format_key_line(SECRET)[17:37] not in LINE


@pytest.mark.parametrize("passphrase", ["open sesam", "Open sesame", "open sesame ", ""])
def test_wrong_passphrase_is_refused(passphrase):
    error = refused(LINE, passphrase)
    assert str(error) == "key file k: the passphrase is wrong, or the key line damaged"


def test_missing_passphrase_is_refused_before_any_work():
    error = refused(PREFIX + "A", None)
    assert "is protected by a passphrase and none was given" in str(error)
    assert error.hint is not None
    assert "ETC_DATA_PASSPHRASE" in error.hint


@pytest.mark.parametrize("place", [0, 30, 60, 100, 120])
def test_one_changed_character_is_found(place):
    place += len(PREFIX)
    changed = LINE[:place] + ("A" if LINE[place] != "A" else "B") + LINE[place + 1 :]
    assert "the passphrase is wrong, or the key line damaged" in str(refused(changed))


def test_cost_is_part_of_what_is_sealed():
    assert "damaged" in str(refused(LINE.replace("SCRYPT-4-", "SCRYPT-5-")))


@pytest.mark.parametrize(
    "line",
    [
        LINE[:-1],
        LINE[:-8],
        LINE + "A",
        LINE[:-1] + "1",
        PREFIX,
        LINE.replace("-4-", "--"),
        LINE.replace("-4-", "-x-"),
        LINE.replace("-4-", "-²-"),
        LINE.replace("-4-", "-04-"),
        LINE.replace("-4-", "-0-"),
        LINE.replace("-4-", "--4-"),
        "ETC-SECRET-KEY-1-SCRYPT-",
    ],
)
def test_malformed_line_is_damaged(line):
    assert "is damaged: its key line is cut short or mistyped" in str(refused(line))


@pytest.mark.parametrize("cost", ["23", "64", "999999999", "1" * 5000])
def test_cost_that_would_exhaust_the_memory_is_refused(cost):
    error = refused(LINE.replace("-4-", f"-{cost}-"))
    assert f"asks for scrypt cost 2^{cost[:6]}; at most 2^22 is accepted" in str(error)


def test_empty_passphrase_cannot_seal():
    with pytest.raises(KeyFileError, match="the passphrase is empty"):
        seal_secret(SECRET, "", log2_cost=1)


@pytest.mark.parametrize("passphrase", ["broken \udcff", "\ud800"])
def test_passphrase_that_is_no_text_is_refused_without_showing_it(passphrase):
    for use in (
        lambda: seal_secret(SECRET, passphrase, log2_cost=1),
        lambda: open_secret(LINE, passphrase),
    ):
        with pytest.raises(KeyFileError, match="no Unicode text") as caught:
            use()
        assert caught.value.__context__ is None


def test_key_file_with_a_passphrase_round_trips_at_full_cost(tmp_path):
    key = SecretKey(SECRET)
    key.save(tmp_path / "k", passphrase="open sesame")
    assert f"ETC-SECRET-KEY-1-SCRYPT-{LOG2_COST}-" in (tmp_path / "k").read_text("ascii")
    assert LOG2_COST == 17
    assert SecretKey.load(tmp_path / "k", passphrase="open sesame") == key


def test_key_file_tells_missing_wrong_and_unwanted_passphrases_apart(tmp_path):
    (tmp_path / "sealed").write_text(f"# comment\n{LINE}\n", "ascii")
    (tmp_path / "plain").write_text(f"{format_key_line(SECRET)}\n", "ascii")
    for name in ("sealed", "plain"):
        (tmp_path / name).chmod(0o600)
    assert SecretKey.load(tmp_path / "sealed", passphrase="open sesame") == SecretKey(SECRET)
    with pytest.raises(KeyFileError, match="none was given"):
        SecretKey.load(tmp_path / "sealed")
    with pytest.raises(KeyFileError, match="the passphrase is wrong"):
        SecretKey.load(tmp_path / "sealed", passphrase="open barley")
    with pytest.raises(KeyFileError, match="is not protected by a passphrase, but one was given"):
        SecretKey.load(tmp_path / "plain", passphrase="open sesame")


def test_empty_passphrase_writes_no_file(tmp_path):
    with pytest.raises(KeyFileError, match="the passphrase is empty"):
        SecretKey(SECRET).save(tmp_path / "k", passphrase="")
    assert os.listdir(tmp_path) == []


def test_environment_may_hold_a_sealed_line(monkeypatch):
    monkeypatch.setenv("ETC_DATA_KEY", LINE)
    assert SecretKey.from_environment(passphrase="open sesame") == SecretKey(SECRET)
