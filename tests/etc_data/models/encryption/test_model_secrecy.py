"""An encrypted model holds no key, and nothing of the cipher that made it."""

import copy
import gc
import io
import pickle
import types

import pytest
import torch

from etc_data import Cipher, Plan, SecretKey
from etc_data.keys import format_key_line
from etc_data.models import encrypt_model, model_info, save_encrypted_model

SECRET = bytes(range(100, 132))
KEY = SecretKey(SECRET)


@pytest.fixture(params=["com-16", "ind-16/8", "etc-16", "shuffle-ind-16"])
def encrypted(request, make, half):
    return encrypt_model(make("vit"), Cipher(request.param, KEY), image_size=64, **half)


def forms_of_the_secret():
    for secret in (SECRET, KEY.subkey("draws"), KEY.subkey("manifest")):
        yield secret
        yield secret.hex().encode()
        yield repr(secret).encode()
    yield format_key_line(SECRET).encode()


def saved(model, path):
    save_encrypted_model(model, path)
    return path.read_bytes()


@pytest.mark.parametrize("way", ["pickle", "torch.save", "state dict", "file", "repr", "facts"])
def test_nothing_that_is_written_of_a_model_holds_the_key(way, encrypted, tmp_path):
    if way == "pickle":
        data = pickle.dumps(encrypted)
    elif way == "torch.save":
        torch.save(encrypted, file := io.BytesIO())
        data = file.getvalue()
    elif way == "state dict":
        torch.save(encrypted.state_dict(), file := io.BytesIO())
        data = file.getvalue()
    elif way == "file":
        data = saved(encrypted, tmp_path / "m.safetensors")
    else:
        data = (repr(encrypted) if way == "repr" else repr(model_info(encrypted))).encode()
    assert not any(secret in data for secret in forms_of_the_secret())


def test_no_key_cipher_or_plan_is_within_reach_of_the_model(encrypted):
    seen, waiting = set(), [encrypted]
    while waiting:
        one = waiting.pop()
        function = callable(one) and not isinstance(one, torch.nn.Module)
        if id(one) in seen or isinstance(one, type | types.ModuleType) or function:
            continue
        seen.add(id(one))
        assert not isinstance(one, SecretKey | Cipher | Plan), type(one)
        waiting += gc.get_referents(one)
    assert len(seen) > 100


def test_copies_and_pickles_work_as_the_model_does(encrypted):
    images = torch.rand(1, 3, 64, 64)
    for other in (copy.deepcopy(encrypted), pickle.loads(pickle.dumps(encrypted))):
        assert torch.equal(other(images), encrypted(images))
        assert model_info(other) == model_info(encrypted)
