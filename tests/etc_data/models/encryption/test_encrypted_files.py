"""Encrypted models as safetensors files with their public facts."""

import copy
import json

import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from etc_data import Cipher
from etc_data.errors import EtcError, GeometryError, ModelError
from etc_data.models import (
    encrypt_model,
    load_encrypted_model,
    model_info,
    read_model_info,
    save_encrypted_model,
)
from etc_data.models.convmixer import etc_convmixer_256_8_p8

FACTS = "etc-data-model"


@pytest.fixture(scope="module")
def plain():
    torch.manual_seed(0)
    return timm.create_model("vit_tiny_patch16_224", img_size=64, depth=2, num_classes=10).eval()


@pytest.fixture(scope="module")
def encrypted(plain, key):
    return encrypt_model(plain, Cipher("ind-16/8", key, context="a"), image_size=64)


@pytest.fixture
def file(encrypted, tmp_path):
    save_encrypted_model(encrypted, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def rewritten(file, change=lambda facts: facts, tensors=None):
    """Writes the file again with other facts, as JSON can hold them or as a text, or other tensors."""
    with safe_open(file, framework="pt") as opened:
        kept = {name: opened.get_tensor(name) for name in opened.keys()}
        facts = change(json.loads(opened.metadata()[FACTS]))
    text = facts if isinstance(facts, str) else json.dumps(facts)
    save_file(kept | (tensors or {}), file, {FACTS: text})


def images(side=64):
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("scheme", ["com-16", "ind-16", "shuffle-ind-16", "etc-16", "vit-16/8"])
@pytest.mark.parametrize("form", ["compact", "dense"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_file_gives_the_same_model_back(scheme, form, dtype, plain, key, imagenet, tmp_path):
    model = copy.deepcopy(plain).to(dtype)
    encrypted = encrypt_model(model, Cipher(scheme, key), image_size=64, form=form, **imagenet)
    save_encrypted_model(encrypted, tmp_path / "m.safetensors")
    loaded = load_encrypted_model(tmp_path / "m.safetensors").eval()
    assert model_info(loaded) == model_info(encrypted)
    assert loaded.state_dict().keys() == encrypted.state_dict().keys()
    for name, tensor in loaded.state_dict().items():
        assert tensor.dtype == encrypted.state_dict()[name].dtype
        assert torch.equal(tensor, encrypted.state_dict()[name])
    with torch.inference_mode():
        assert torch.equal(loaded(images().to(dtype)), encrypted(images().to(dtype)))


def test_a_model_that_timm_does_not_know_needs_a_plain_one(key, make, half, tmp_path):
    model = make("unfolded")
    encrypted = encrypt_model(model, Cipher("ind-16", key), image_size=64, **half)
    path = tmp_path / "m.safetensors"
    save_encrypted_model(encrypted, path)
    with pytest.raises(ModelError, match="does not tell its architecture"):
        load_encrypted_model(path)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    loaded = load_encrypted_model(path, model)
    with torch.inference_mode():
        assert torch.equal(loaded(images()), encrypted(images()))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
    with pytest.raises(ModelError, match="encrypted itself"):
        load_encrypted_model(path, encrypted)


def test_arguments_that_no_file_can_hold_make_no_other_network(key, tmp_path):
    """A class among timm's arguments: without it the name would make a network with other logits."""
    torch.manual_seed(0)
    options = {"dim": 16, "depth": 1, "num_classes": 3, "act_layer": torch.nn.ReLU}
    model = timm.create_model("etc_convmixer_256_8_p8", **options).eval()
    encrypted = encrypt_model(model, Cipher("ind-8", key), image_size=64)
    save_encrypted_model(encrypted, tmp_path / "m.safetensors")
    with pytest.raises(ModelError, match="arguments that no file can hold"):
        load_encrypted_model(tmp_path / "m.safetensors")
    loaded = load_encrypted_model(tmp_path / "m.safetensors", model)
    with torch.inference_mode():
        assert torch.equal(loaded(images()), encrypted(images()))


def test_arguments_that_nobody_noted_make_no_other_network(key, tmp_path):
    """Called past `timm.create_model`, a network does not know what it was made with."""
    model = etc_convmixer_256_8_p8(dim=16, depth=1, act_layer=torch.nn.ReLU)
    encrypted = encrypt_model(model, Cipher("ind-8", key), image_size=64)
    assert model_info(encrypted).architecture is None


def test_a_name_may_be_given(file, encrypted):
    loaded = load_encrypted_model(file, "vit_tiny_patch16_224").eval()
    assert torch.equal(loaded(images()), encrypted(images()))


def test_the_facts_are_public_and_hold_no_key(file, key):
    with safe_open(file, framework="pt") as opened:
        facts = json.loads(opened.metadata()[FACTS])
    assert facts["format"] == "etc-data-model/1"
    assert (facts["scheme"], facts["context"], facts["key_id"]) == ("ind-16/8", "a", key.id)
    assert (facts["image_size"], facts["patch_size"], facts["form"]) == ([64, 64], [16, 16], "compact")
    assert facts["mean"] == facts["std"] == [0.5, 0.5, 0.5]
    assert facts["architecture"] == "vit_tiny_patch16_224"
    assert facts["model_args"] == {"img_size": [64, 64], "depth": 2, "num_classes": 10}
    assert read_model_info(file).key_id == key.id


def test_the_same_model_gives_the_same_bytes(encrypted, file, tmp_path):
    save_encrypted_model(load_encrypted_model(file), tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == file.read_bytes()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_compact_vit_tiny_is_at_most_2_percent_larger_than_the_plain_one(dtype, key, tmp_path):
    model = timm.create_model("vit_tiny_patch16_224", num_classes=10).to(dtype)
    save_file(model.state_dict(), tmp_path / "plain.safetensors")
    encrypted = encrypt_model(model, Cipher("shuffle-ind-16", key), image_size=224)
    save_encrypted_model(encrypted, tmp_path / "m.safetensors")
    plain_bytes = (tmp_path / "plain.safetensors").stat().st_size
    assert (tmp_path / "m.safetensors").stat().st_size <= 1.02 * plain_bytes


@pytest.mark.parametrize("side", [64, 96])
def test_no_loader_of_timm_takes_the_file_for_a_plain_model(side, file, encrypted):
    options = {"img_size": side, "depth": 2, "num_classes": 10}
    with pytest.raises(RuntimeError, match="Missing key"):
        timm.create_model("vit_tiny_patch16_224", **options, checkpoint_path=file)
    overlay = {"file": str(file), "num_classes": 10}
    with pytest.raises(RuntimeError, match="Missing key"):
        timm.create_model(
            "vit_tiny_patch16_224", **options, pretrained=True, pretrained_cfg_overlay=overlay
        )
    # With another number of classes timm is not strict, and so takes nothing at all.
    overlay["num_classes"] = 1000
    model = timm.create_model(
        "vit_tiny_patch16_224", **options, pretrained=True, pretrained_cfg_overlay=overlay
    )
    assert not torch.equal(model.blocks[0].mlp.fc1.weight, encrypted.blocks[0].mlp.fc1.weight)


def test_a_plain_model_cannot_be_saved_as_encrypted(plain, tmp_path):
    with pytest.raises(ModelError, match="no encrypted model"):
        save_encrypted_model(plain, tmp_path / "m.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written(encrypted, tmp_path):
    with pytest.raises(EtcError, match="cannot be written"):
        save_encrypted_model(encrypted, tmp_path / "none" / "m.safetensors")


# -- files that are not as they should be -------------------------------------------------------


def test_what_is_no_encrypted_model(plain, tmp_path):
    path = tmp_path / "m.safetensors"
    with pytest.raises(ModelError, match="does not exist"):
        load_encrypted_model(path)
    with pytest.raises(ModelError, match=r"model\.safetensors does not exist"):
        load_encrypted_model(tmp_path)
    path.write_bytes(b"no model")
    with pytest.raises(ModelError, match="no safetensors file, or damaged"):
        load_encrypted_model(path)
    save_file(plain.state_dict(), path)
    with pytest.raises(ModelError, match="is no encrypted model"):
        load_encrypted_model(path)


def test_a_file_cut_short(file):
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelError, match="damaged"):
        load_encrypted_model(file)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "etc-data-model/2"}, "this etc-data reads etc-data-model/1"),
        ({"format": "other/1"}, "the format is other/1"),
        ({"format": 3}, "malformed"),
        ({"key_id": "xyz"}, "key_id is 'xyz'"),
        ({"scheme": "com-16"}, "malformed"),
        ({"form": "sparse"}, "form is 'sparse'"),
        ({"image_size": [64]}, "image_size is"),
        ({"image_size": [64, -64]}, "image_size is"),
        ({"std": [0, 0, 0]}, "std above 0"),
        ({"any_size": 1}, "any_size is 1"),
        ({"model_args": []}, "model_args is"),
        ({"extra": 1}, "fields do not agree"),
        ({"patch_embedding": "nowhere"}, "no layer 'nowhere'"),
        ({"architecture": "hf-hub:someone/something"}, "timm does not know"),
        (
            {"model_args": {"checkpoint_path": "/etc/passwd"}},
            "argument checkpoint_path, which is a place",
        ),
        ({"model_args": {"unknown": 1}}, "timm cannot make"),
        (
            {"model_args": {"img_size": [64, 64], "depth": 3, "num_classes": 10}},
            "does not fit a Vision",
        ),
        ({"patch_size": [8, 8]}, "patches of 8×8 pixels, but the model has patches of 16×16"),
    ],
)
def test_facts_that_are_wrong(changes, message, file):
    rewritten(file, lambda facts: facts | changes)
    with pytest.raises(ModelError, match=message):
        load_encrypted_model(file)


@pytest.mark.parametrize("text", ["{", "[]", "null", "1", '{"format": "etc-data-model/1"}'])
def test_facts_that_are_missing_or_no_json(text, file):
    rewritten(file, lambda _: text)
    with pytest.raises(ModelError, match="malformed"):
        load_encrypted_model(file)


def test_an_image_size_that_the_model_does_not_take(file):
    rewritten(file, lambda facts: facts | {"image_size": [128, 128]})
    with pytest.raises(GeometryError, match="128×128"):
        load_encrypted_model(file)


def test_keys_that_are_no_permutation(file):
    name = "encrypted.patch_embed.proj.keys"
    with safe_open(file, framework="pt") as opened:
        keys = opened.get_tensor(name)
    keys[0, 0] = 255
    rewritten(file, tensors={name: keys})
    with pytest.raises(ModelError, match="order is no permutation"):
        load_encrypted_model(file)
