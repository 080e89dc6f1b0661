"""How a command gets its key: --key, ETC_DATA_KEY, and a passphrase where the key has one."""

import os
import threading

import pytest

from etc_data import SecretKey
from etc_data.shards.single import ImageNote

PASSPHRASE = "correct horse"
SECRET = bytes(range(50, 82))


@pytest.fixture(scope="module")
def sealed(tmp_path_factory):
    """A key file with a passphrase."""
    path = tmp_path_factory.mktemp("sealed") / "sealed.key"
    SecretKey(SECRET).save(path, passphrase=PASSPHRASE)
    return path


@pytest.fixture
def query(etc, photo, tmp_path):
    """query(options) encrypts a photo and returns the result and the id of the key that was used."""

    def run(*options, runner=etc, **settings):
        out = tmp_path / "query.png"
        result = runner("encrypt", photo, "-o", out, *options, **settings)
        assert out.exists() == (result.code == 0)
        return result, ImageNote.read(out.read_bytes()).key_id if out.exists() else None

    return run


def identity(path) -> str:
    return SecretKey.load(path).id


def test_key_comes_from_a_file(query, key):
    assert query("--key", key)[1] == identity(key)


def test_key_comes_from_the_environment(query, key, key_line):
    assert query(environment={"ETC_DATA_KEY": key_line})[1] == identity(key)


def test_environment_may_hold_the_whole_key_file(query, key):
    assert query(environment={"ETC_DATA_KEY": key.read_text()})[1] == identity(key)


def test_key_file_goes_before_the_environment(query, other_key, key_line):
    _, used = query("--key", other_key, environment={"ETC_DATA_KEY": key_line})
    assert used == identity(other_key)


def test_key_comes_through_a_pipe_such_as_a_password_manager(query, tmp_path, key):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    writer = threading.Thread(target=pipe.write_bytes, args=[key.read_bytes()], daemon=True)
    writer.start()
    result, used = query("--key", pipe)
    assert used == identity(key), result.err
    assert result.warnings == []
    writer.join(10)


@pytest.mark.parametrize("environment", [{}, {"ETC_DATA_KEY": ""}])
@pytest.mark.parametrize("name", ["encrypt folder", "encrypt photo", "decrypt", "preview"])
def test_missing_key_is_wrong_usage(etc, tmp_path, photo, photos, written, environment, name):
    out = tmp_path / "out.png"
    arguments = {
        "encrypt folder": ["encrypt", photos, out],
        "encrypt photo": ["encrypt", photo, "-o", out],
        "decrypt": ["decrypt", written, out],
        "preview": ["preview", photo, "-o", out],
    }[name]
    result = etc(*arguments, environment=environment)
    assert (result.code, result.out) == (2, "")
    assert result.error == "no key was given: use --key FILE or set ETC_DATA_KEY"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        ("", "must hold exactly one key line, not 0"),
        ("password123", "its line does not begin with ETC-SECRET-KEY-1-"),
        ("ETC-SECRET-KEY-1-ABC", "its key line is cut short or mistyped"),
        ("ETC-SECRET-KEY-2-ABC", "of a key version that this etc-data does not read"),
        (b"\xff\xfe\x00", "it is not text"),
        ("x" * 70_000, "longer than 65536 bytes"),
    ],
)
def test_bad_key_file_is_named_but_not_quoted(query, tmp_path, content, message):
    path = tmp_path / "bad.key"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(0o600)
    result, _ = query("--key", path)
    assert (result.code, result.out) == (1, "")
    assert result.error.startswith(f"key file {path} ")
    assert message in result.error
    assert "password123" not in result.err
    assert "xxxx" not in result.err


def test_folder_is_no_key_file(query, tmp_path):
    result, _ = query("--key", tmp_path)
    assert result.error == f"key file {tmp_path} cannot be read: Is a directory"


def test_bad_key_in_the_environment_is_not_quoted(query, key_line):
    result, _ = query(environment={"ETC_DATA_KEY": key_line[:-1] + "7"})
    assert result.code == 1
    assert result.error.startswith("environment variable ETC_DATA_KEY is damaged")
    assert key_line[20:40] not in result.err


def test_key_that_others_can_read_brings_a_warning(command, query, tmp_path, key):
    path = tmp_path / "open.key"
    path.write_bytes(key.read_bytes())
    path.chmod(0o644)
    result, used = query("--key", path, runner=command)
    assert used == identity(key)
    assert result.warnings == [
        f"key file {path} can be read by other users of this machine (mode 0644); run: chmod 600 {path}"
    ]
    assert len(result.err.splitlines()) == 2


def test_private_key_brings_no_warning(query, key):
    assert query("--key", key)[0].warnings == []


@pytest.mark.parametrize("flag", [[], ["--passphrase"]])
def test_passphrase_comes_from_the_environment(query, sealed, flag):
    _, used = query("--key", sealed, *flag, environment={"ETC_DATA_PASSPHRASE": PASSPHRASE})
    assert used == SecretKey(SECRET).id


def test_sealed_key_line_of_the_environment_is_opened(query, sealed):
    line = sealed.read_text().splitlines()[-1]
    environment = {"ETC_DATA_KEY": line, "ETC_DATA_PASSPHRASE": PASSPHRASE}
    assert query(environment=environment)[1] == SecretKey(SECRET).id


def test_passphrase_of_the_environment_does_not_disturb_a_plain_key(query, key):
    assert query("--key", key, environment={"ETC_DATA_PASSPHRASE": PASSPHRASE})[1] == identity(key)


def test_missing_passphrase_is_told(query, sealed):
    result, _ = query("--key", sealed)
    assert result.code == 1
    assert result.error.endswith("is protected by a passphrase and none was given")
    assert "--passphrase or set ETC_DATA_PASSPHRASE" in result.hint


@pytest.mark.parametrize("debug", [[], ["--debug"]])
def test_wrong_passphrase_is_told_and_not_shown(query, sealed, debug):
    result, _ = query("--key", sealed, *debug, environment={"ETC_DATA_PASSPHRASE": "battery staple"})
    assert result.code == 1
    assert "the passphrase is wrong, or the key line damaged" in result.err
    assert "staple" not in result.err
    assert sealed.read_text().splitlines()[-1][40:60] not in result.err


def test_passphrase_for_a_key_without_one_is_refused(query, key):
    result, _ = query("--key", key, "--passphrase", environment={"ETC_DATA_PASSPHRASE": PASSPHRASE})
    assert result.code == 1
    assert result.error.endswith("is not protected by a passphrase, but one was given")


def test_passphrase_is_asked_once_at_the_terminal(terminal, tmp_path, photo, sealed):
    out = tmp_path / "query.png"
    arguments = ["encrypt", photo, "-o", out, "--key", sealed, "--passphrase"]
    result = terminal(*arguments, typed=[PASSPHRASE])
    assert result.code == 0, result.out
    assert "Passphrase: " in result.out
    assert "confirmation" not in result.out
    assert PASSPHRASE not in result.out
    assert ImageNote.read(out.read_bytes()).key_id == SecretKey(SECRET).id


def test_wrong_passphrase_typed_leaves_no_output(terminal, tmp_path, photo, sealed):
    arguments = ["encrypt", photo, "-o", tmp_path / "q.png", "--key", sealed, "--passphrase"]
    result = terminal(*arguments, typed=["battery staple"])
    assert result.code == 1
    assert "the passphrase is wrong" in result.out
    assert "staple" not in result.out
    assert list(tmp_path.iterdir()) == []
