"""`etc-data keygen`, and the passphrase asked at a terminal."""

import os
import re
import stat

import pytest

from etc_data import SecretKey
from etc_data.errors import KeyFileError

PASSPHRASE = "correct horse"
PROTECTED = {"ETC_DATA_PASSPHRASE": PASSPHRASE}


def mode(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_key_is_written_and_only_its_id_goes_to_standard_output(command, tmp_path):
    path = tmp_path / "clinic.key"
    result = command("keygen", path)
    assert result.code == 0
    assert re.fullmatch("[0-9a-f]{16}\n", result.out)
    assert result.out.strip() == SecretKey.load(path).id
    assert result.err == (
        f"wrote the secret key to {path}, readable by you alone; make a backup, offline\n"
    )


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o777])
def test_key_file_is_for_its_owner_alone_under_any_umask(etc, tmp_path, mask):
    before = os.umask(mask)
    try:
        assert etc("keygen", tmp_path / "k").code == 0
    finally:
        os.umask(before)
    assert mode(tmp_path / "k") == 0o600


def test_secret_is_never_printed(etc, tmp_path):
    result = etc("keygen", tmp_path / "k")
    line = (tmp_path / "k").read_text().splitlines()[-1]
    assert line.startswith("ETC-SECRET-KEY-1-")
    assert line[-20:] not in result.out + result.err


def test_two_keys_differ(etc, tmp_path):
    assert etc("keygen", tmp_path / "a").out != etc("keygen", tmp_path / "b").out


@pytest.mark.parametrize("what", ["file", "folder", "link", "link to nothing"])
def test_nothing_is_ever_overwritten(etc, tmp_path, what):
    path = tmp_path / "k"
    if what == "file":
        path.write_text("precious")
    elif what == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "elsewhere")
        if what == "link":
            (tmp_path / "elsewhere").write_text("precious")
    before = sorted(tmp_path.iterdir())
    result = etc("keygen", path)
    assert (result.code, result.out) == (1, "")
    assert result.error == f"key file {path} exists already; a key is never overwritten"
    assert result.hint == "choose another name, or move the old key away first"
    assert sorted(tmp_path.iterdir()) == before
    assert path.is_dir() or not path.exists() or path.read_text() == "precious"


def test_key_in_a_folder_that_does_not_exist_is_refused(etc, tmp_path):
    result = etc("keygen", tmp_path / "no" / "k")
    assert (result.code, result.out) == (1, "")
    assert "cannot be written: No such file or directory" in result.error


def test_key_does_not_go_to_standard_output(etc, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = etc("keygen", "-")
    assert (result.code, result.out) == (2, "")
    assert result.error == "a key is only written to a file, never to standard output"
    assert list(tmp_path.iterdir()) == []


def test_passphrase_of_the_environment_protects_the_key(etc, tmp_path):
    path = tmp_path / "k"
    result = etc("keygen", "--passphrase", path, environment=PROTECTED)
    assert result.code == 0
    assert "\nETC-SECRET-KEY-1-SCRYPT-17-" in path.read_text()
    assert mode(path) == 0o600
    assert SecretKey.load(path, passphrase=PASSPHRASE).id == result.out.strip()
    assert PASSPHRASE not in result.out + result.err + path.read_text()


def test_passphrase_of_the_environment_alone_protects_nothing(etc, tmp_path):
    assert etc("keygen", tmp_path / "k", environment=PROTECTED).code == 0
    SecretKey.load(tmp_path / "k")


@pytest.mark.parametrize("environment", [{}, {"ETC_DATA_PASSPHRASE": ""}])
def test_passphrase_without_a_terminal_is_refused(command, tmp_path, environment):
    result = command("keygen", "--passphrase", tmp_path / "k", environment=environment)
    assert (result.code, result.out) == (1, "")
    assert result.error == "there is no terminal to ask for a passphrase at"
    assert result.hint == "set ETC_DATA_PASSPHRASE instead"
    assert list(tmp_path.iterdir()) == []


def test_passphrase_that_is_no_unicode_text_is_refused_without_showing_it(command, tmp_path):
    bad = os.fsdecode(b"se\xffsame")
    result = command("keygen", "--passphrase", tmp_path / "k", environment={"ETC_DATA_PASSPHRASE": bad})
    assert result.code == 1
    assert "the passphrase is no Unicode text" in result.error
    assert "same" not in result.err
    assert list(tmp_path.iterdir()) == []


def test_passphrase_is_asked_twice_and_not_shown(terminal, tmp_path):
    result = terminal("keygen", "--passphrase", tmp_path / "k", typed=[PASSPHRASE, PASSPHRASE])
    assert result.code == 0, result.out
    assert result.out.count("Passphrase: ") == 1
    assert "confirmation" in result.out
    assert PASSPHRASE not in result.out
    key = SecretKey.load(tmp_path / "k", passphrase=PASSPHRASE)
    assert f"\n{key.id}\r\n" in result.out
    with pytest.raises(KeyFileError):
        SecretKey.load(tmp_path / "k")


def test_passphrases_that_differ_are_asked_again(terminal, tmp_path):
    typed = [PASSPHRASE, "correct hose", PASSPHRASE, PASSPHRASE]
    result = terminal("keygen", "--passphrase", tmp_path / "k", typed=typed)
    assert result.code == 0, result.out
    assert "do not match" in result.out
    assert "hose" not in result.out
    SecretKey.load(tmp_path / "k", passphrase=PASSPHRASE)


def test_interrupted_prompt_leaves_no_key(terminal, tmp_path):
    result = terminal("keygen", "--passphrase", tmp_path / "k", typed=["\x03"])
    assert result.code == 130
    assert "etc-data: error: interrupted\r\n" in result.out
    assert "Traceback" not in result.out
    assert list(tmp_path.iterdir()) == []
