"""No key is ever shown: not by repr, print, logs, errors, or the transforms that hold one."""

import base64
import io
import logging
import pickle
import pprint
import traceback

import numpy as np
import pytest
import rich.console
import rich.pretty
import torch

from etc_data import Cipher, EtcError, Scheme, SecretKey
from etc_data.keyfile import open_secret, seal_secret
from etc_data.keys import format_key_line
from etc_data.keystream import KeyStream, StreamFactory
from etc_data.transforms import Decrypt, Encrypt, v2

SECRET = bytes(range(100, 132))
KEY = SecretKey(SECRET)
LINE = format_key_line(SECRET)
SUBKEY = KEY.subkey("draws")
FACTORY = StreamFactory.for_image(KEY, "scramble-blocks(8)", "", bytes(16))
CIPHER = Cipher("etc-8", KEY, key_scope="image")
FIXED = Cipher("etc-8", KEY)
FIXED.encrypt(np.zeros((16, 16, 3), np.uint8))

HOLDERS = {
    "key": KEY,
    "factory": FACTORY,
    "stream": FACTORY.stream("0:scramble-blocks(8)", "2x2"),
    "bare stream": KeyStream(SECRET, SECRET),
    "cipher": CIPHER,
    "used cipher": FIXED,
    "encrypt": Encrypt(CIPHER, return_nonce=True, generator=np.random.default_rng(0)),
    "decrypt": Decrypt(FIXED, masks="scramble"),
    "compose": v2.Compose([v2.ToImage(), Encrypt(FIXED, fit="pad"), v2.Identity()]),
    "sequential": torch.nn.Sequential(Encrypt(FIXED), Decrypt(FIXED)),
    "plan": FIXED.plan(16, 16),
    "states": FIXED.plan(16, 16).states,
    "scheme": FIXED.scheme,
}


def forms(secret: bytes) -> list[str]:
    """Returns how 10 secret bytes would look in a text, from each of three places."""
    shown = []
    for part in (secret[:10], secret[11:21], secret[-10:]):
        shown += [
            part.hex(),
            part.hex().upper(),
            part.hex(" "),
            repr(part)[2:-1],
            str(list(part))[1:-1],
        ]
    for encoded in (
        base64.b32encode(secret),
        base64.b64encode(secret),
        base64.urlsafe_b64encode(secret),
    ):
        shown += [encoded.decode()[:12], encoded.decode()[12:24]]
    return shown


def shows_secret(text: str) -> bool:
    return any(form in text for secret in (SECRET, SUBKEY) for form in forms(secret))


@pytest.mark.parametrize(
    "text",
    [
        repr(SECRET),
        SECRET.hex(),
        LINE,
        str(list(SECRET)),
        str(vars(KeyStream(SUBKEY, b""))),
        LINE[17:40],
    ],
)
def test_the_check_itself_finds_a_secret(text):
    assert shows_secret(text)


@pytest.mark.parametrize("name", HOLDERS)
def test_no_holder_shows_the_secret(name):
    holder = HOLDERS[name]
    texts = [repr(holder), str(holder), format(holder), f"{holder!s:.9999}", f"{holder!r}"]
    texts += [repr([holder]), pprint.pformat({"holder": [holder]}), ascii(holder)]
    output = io.StringIO()
    rich.console.Console(file=output, width=200).print(
        rich.pretty.Pretty({"holder": holder}, expand_all=True)
    )
    texts.append(output.getvalue())
    for text in texts:
        assert text
        assert not shows_secret(text)


@pytest.mark.parametrize("name", ["cipher", "used cipher", "encrypt", "decrypt", "compose", "scheme"])
def test_printed_attributes_do_not_show_the_secret(name):
    holder = HOLDERS[name]
    attributes = {key: getattr(holder, key) for key in dir(holder) if not key.startswith("__")}
    for text in (pprint.pformat(vars(holder)), pprint.pformat(attributes), repr(vars(holder))):
        assert not shows_secret(text)
        assert "StreamFactory(" not in text


def test_key_shows_its_id_alone():
    assert repr(KEY) == str(KEY) == f"SecretKey(id='{KEY.id}')"
    assert not hasattr(KEY, "__dict__")


def test_cipher_and_transforms_show_the_id_and_the_scheme():
    shown = f"Cipher('etc-8', key_id='{KEY.id}', key_scope='image')"
    assert repr(CIPHER) == shown
    assert repr(Encrypt(CIPHER)) == f"Encrypt({shown}, masks='refuse')"
    assert repr(Cipher("etc-8", KEY, context="x")).endswith("key_scope='dataset', context='x')")


def test_plan_shows_its_size_alone():
    assert repr(FIXED.plan(16, 16)) == "Plan(16×16 pixels, 4 tiles)"
    assert repr(FIXED.plan(16, 16).states) == "StateTable(96 states of 192 values)"


@pytest.mark.parametrize("name", ["encrypt", "decrypt", "compose", "sequential"])
def test_state_of_a_transform_holds_no_key(name):
    assert HOLDERS[name].state_dict() == {}
    assert list(HOLDERS[name].buffers()) == []


def test_logs_do_not_show_the_secret(caplog):
    caplog.set_level(logging.DEBUG)
    for name, holder in HOLDERS.items():
        logging.getLogger("test").warning("%s: %s %r", name, holder, holder)
    FIXED.encrypt(np.zeros((24, 8, 3), np.uint8))
    assert len(caplog.messages) >= len(HOLDERS)
    assert not shows_secret(caplog.text)


def failures():
    """Yields calls that fail while they hold the secret."""
    image = np.zeros((16, 16, 3), np.uint8)
    line, text = seal_secret(SECRET, "open sesame", log2_cost=1), LINE.encode()
    yield "short secret", lambda: SecretKey(SECRET[:-1])
    yield "cut line", lambda: SecretKey.from_text(text[:-1])
    yield "mistyped line", lambda: SecretKey.from_text(text[:-1] + b"0")
    yield "two lines", lambda: SecretKey.from_text(text + b"\n" + text)
    yield "other version", lambda: SecretKey.from_text(text.replace(b"KEY-1", b"KEY-7"))
    yield "no prefix", lambda: SecretKey.from_text(text[17:])
    yield "broken text", lambda: SecretKey.from_text(b"# cl\xe9\n" + text)
    yield "unwanted passphrase", lambda: SecretKey.from_text(text, passphrase="x")
    yield "wrong passphrase", lambda: open_secret(line, "x")
    yield "file exists", lambda: KEY.save("/")
    yield "scheme", lambda: Cipher("etc-x", KEY)
    yield "key scope", lambda: Cipher("etc-8", KEY, key_scope="x")
    yield "key and scheme swapped", lambda: Cipher(KEY, "etc-8")
    yield "key as a scheme's step", lambda: Scheme((KEY,))
    yield "bytes for a key", lambda: Cipher("etc-8", SECRET)
    yield "line for a key", lambda: Cipher("etc-8", LINE)
    yield "size", lambda: FIXED.encrypt(image[:9])
    yield "dtype", lambda: FIXED.encrypt(image.astype(int))
    yield "image is the key", lambda: FIXED.encrypt(KEY)
    yield "nonce", lambda: FIXED.encrypt(image, nonce=bytes(16))
    yield "plan", lambda: FIXED.plan(16, 16).then(FIXED.plan(8, 8))
    yield "sample", lambda: Encrypt(FIXED)(KEY)


@pytest.mark.parametrize(("name", "call"), list(failures()))
def test_no_error_shows_the_secret(name, call):
    with pytest.raises(EtcError) as caught:
        call()
    error: BaseException | None = caught.value
    assert not shows_secret("".join(traceback.format_exception(caught.value)))
    while error is not None:
        details = [repr(error), repr(error.args), repr(vars(error)), repr(getattr(error, "object", ""))]
        assert not shows_secret(" ".join(details))
        error = error.__cause__ or error.__context__
    assert not shows_secret(repr(pickle.dumps(caught.value)))


def test_error_keeps_its_hint_in_a_pickle():
    with pytest.raises(EtcError) as caught:
        Cipher("etc-x", KEY)
    twin = pickle.loads(pickle.dumps(caught.value))
    assert type(twin) is type(caught.value)
    assert str(twin) == str(caught.value)
    assert twin.hint == caught.value.hint == "etc-data schemes explains them"
