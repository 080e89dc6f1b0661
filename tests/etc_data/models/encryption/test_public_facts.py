"""A data set and a model that do not belong together are told apart before anything is evaluated."""

import dataclasses

import pytest
import torch

from etc_data import Cipher
from etc_data.errors import ModelError, WrongKeyError
from etc_data.models import ModelInfo, check_same_key, encrypt_model, model_info
from etc_data.shards import Manifest, ShardWriter


@pytest.fixture
def manifest(tmp_path, key, photos):
    """manifest(cipher) writes photos to a real data set and reads its manifest."""

    def write(cipher, side=64):
        out = tmp_path / "shards"
        with ShardWriter(out, cipher, size=side) as writer:
            for number, photo in enumerate(photos):
                writer.write(photo.permute(1, 2, 0).numpy(), label=number)
        return Manifest.read(out)

    return write


@pytest.fixture
def info(make, key, half):
    return model_info(encrypt_model(make("vit"), Cipher("ind-16", key), image_size=64, **half))


def test_what_belongs_together_passes(manifest, info, key):
    check_same_key(manifest(Cipher("ind-16", key)), info)


def test_another_key(manifest, info, key, other_key):
    message = f"model was encrypted with key {key.id}, but the data set with key {other_key.id}"
    with pytest.raises(WrongKeyError, match=message):
        check_same_key(manifest(Cipher("ind-16", other_key)), info)


def test_another_scheme(manifest, info, key):
    with pytest.raises(ModelError, match="for scheme ind-16, but the data set has com-16"):
        check_same_key(manifest(Cipher("com-16", key)), info)


def test_the_same_steps_under_another_name(manifest, info, key):
    scheme = dataclasses.replace(Cipher("ind-16", key).scheme, name="mine")
    check_same_key(manifest(Cipher(scheme, key)), info)


def test_another_context(manifest, info, key):
    with pytest.raises(ModelError, match="for context '', but the data set has 'b'"):
        check_same_key(manifest(Cipher("ind-16", key, context="b")), info)


def test_a_key_for_each_image(manifest, info, key):
    with pytest.raises(ModelError, match='the data set has key scope "image"'):
        check_same_key(manifest(Cipher("ind-16", key, key_scope="image")), info)


def test_another_size(manifest, make, info, key, half):
    data = manifest(Cipher("ind-16", key), side=32)
    with pytest.raises(
        ModelError, match="images of 64×64 pixels, but the data set has images of 32×32"
    ):
        check_same_key(data, info)


def test_another_size_under_a_common_key(manifest, make, key, half):
    cipher = Cipher("com-16", key)
    data = manifest(cipher, side=32)
    check_same_key(data, model_info(encrypt_model(make("convmixer"), cipher, image_size=64, **half)))


def test_facts_come_back_from_json(info):
    assert ModelInfo.from_json(info.to_json()) == info


def test_a_plain_model_has_no_facts():
    with pytest.raises(ModelError, match="no encrypted model"):
        model_info(torch.nn.Linear(2, 2))
