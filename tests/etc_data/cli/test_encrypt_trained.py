"""`etc-data encrypt-model` on what `etc-data train` wrote: the file tells its network."""

import json

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from etc_data import Cipher, SecretKey
from etc_data.models import load_encrypted_model, read_model_info
from etc_data.recipes.evaluate import TrainedModel

OPTIONS = {"dim": 16, "depth": 2, "kernel_size": 3}
SETTINGS = {
    "epochs": 2,
    "batch": 8,
    "model": {"name": "etc_convmixer_256_8_p8", "options": OPTIONS},
    "data": {"size": 32, "workers": 0, "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]},
}


@pytest.fixture(scope="module")
def train(etc, labeled_photos, tmp_path_factory):
    """train("data.scheme=…") gives the weights of a short run on the photos."""

    def run(*changes):
        folder = tmp_path_factory.mktemp("runs")
        (folder / "tiny.yaml").write_text(yaml.safe_dump(SETTINGS))
        changes += (f"data.source={labeled_photos}", f"out={folder}/run")
        result = etc("train", folder / "tiny.yaml", *changes)
        assert result.code == 0, result.err
        return folder / "run" / "last.safetensors"

    return run


@pytest.fixture(scope="module")
def weights(train):
    """Of a network with options, which saw plain images with a normalization of their own."""
    return train()


@pytest.fixture(scope="module")
def encrypted(etc, key, weights, tmp_path_factory):
    out = tmp_path_factory.mktemp("encrypted") / "model.safetensors"
    result = etc("encrypt-model", weights, out, "--key", key, "--scheme", "ind-8")
    assert result.code == 0, result.err
    assert "mean     0.4, 0.5, 0.6 (the model's)" in result.err
    return out


def test_the_shortest_command_works_or_names_the_option_to_add(etc, key, weights, tmp_path):
    command = ("encrypt-model", weights, tmp_path / "m.safetensors", "--key", key)
    result = etc(*command)
    assert result.code == 1
    assert "moves whole patches" in result.error
    assert "(--scheme ind-8)" in result.hint
    assert etc(*command, "--scheme", "ind-8").code == 0


def test_the_logits_are_those_of_the_plain_model(key, weights, encrypted):
    plain = TrainedModel.load(weights)
    model = load_encrypted_model(encrypted).eval()
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    cipher = Cipher("ind-8", SecretKey.load(key))
    with torch.inference_mode():
        wanted = plain.model(plain.normalize(images))
        found = model(plain.normalize(cipher.encrypt(images)))
        wrong = model(plain.normalize(images))
    assert torch.allclose(found, wanted, atol=1e-5)
    assert not torch.allclose(wrong, wanted, atol=1e-2)


def test_the_facts_of_the_run_go_into_the_file(encrypted):
    info = read_model_info(encrypted)
    assert info.architecture == "etc_convmixer_256_8_p8"
    assert info.model_args == {**OPTIONS, "num_classes": 2}
    assert info.image_size == (32, 32)
    assert (info.normalization.mean, info.normalization.std) == ((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))


def test_it_is_evaluated_on_encrypted_images_with_the_plain_accuracy(
    etc, key, other_key, labeled_photos, weights, encrypted, tmp_path
):
    def accuracy(*arguments):
        result = etc("evaluate", *arguments, "--json")
        assert result.code == 0, result.err
        return json.loads(result.out)["accuracy"]

    shards = tmp_path / "shards"
    options = ("--key", key, "--scheme", "ind-8", "--size", 32, "--lossless")
    assert etc("encrypt", labeled_photos, shards, *options).code == 0
    plain = accuracy(weights, labeled_photos)
    assert accuracy(encrypted, shards) == plain
    assert accuracy(encrypted, labeled_photos, "--scheme", "ind-8", "--key", key) == plain
    result = etc("evaluate", encrypted, labeled_photos, "--scheme", "ind-8", "--key", other_key)
    assert f"the model is for images of key {SecretKey.load(key).id}" in result.error


def test_it_decrypts_to_the_weights_of_the_run(etc, key, weights, encrypted, tmp_path):
    assert etc("decrypt-model", encrypted, tmp_path / "p.safetensors", "--key", key).code == 0
    wanted, found = load_file(weights), load_file(tmp_path / "p.safetensors")
    for name, tensor in wanted.items():
        assert torch.allclose(found[name], tensor, rtol=1e-5, atol=1e-6), name


def test_a_model_that_learned_from_encrypted_images_is_refused(etc, key, train, tmp_path):
    weights = train("data.scheme=etc-8", f"data.key={key}", "epochs=1")
    command = ("encrypt-model", weights, tmp_path / "m.safetensors", "--key", key)
    result = etc(*command, "--scheme", "ind-8")
    assert "was trained on images of scheme etc-8" in result.error
    assert not list(tmp_path.iterdir())


def test_another_architecture_is_refused(etc, key, weights, tmp_path):
    command = ("encrypt-model", weights, tmp_path / "m.safetensors", "--key", key, "--scheme", "ind-8")
    assert "is of a etc_convmixer_256_8_p8" in etc(*command, "--model", "etc_convmixer_256_8_p4").error
    assert etc(*command, "--model", "etc_convmixer_256_8_p8").code == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"options": {"checkpoint_path": "/etc/passwd"}}, "the argument checkpoint_path"),
        ({"options": {"pretrained": True}}, "the argument pretrained"),
        ({"options": {"pretrained_cfg": {"url": "http://x"}}}, "the argument pretrained_cfg"),
        ({"options": {**OPTIONS, "shell": "ls"}}, "timm cannot make etc_convmixer_256_8_p8"),
        ({"options": {"dim": "many"}}, "timm cannot make"),
        ({"options": {"dim": -1}}, "timm cannot make"),
        ({"options": {**OPTIONS, "depth": 3}}, "does not fit etc_convmixer_256_8_p8"),
        ({"options": []}, "options is []"),
        ({"model": "hf-hub:someone/something"}, "timm does not know"),
        ({"model": "../../etc/passwd"}, "timm does not know"),
        ({"model": None}, "model is None"),
        ({"classes": True}, "classes is True"),
        ({"classes": 3}, "does not fit"),
        ({"size": [32]}, "size is [32]"),
        ({"size": [32, -32]}, "size is [32, -32]"),
        ({"mean": [0.5]}, "three numbers"),
        ({"std": [0, 1, 1]}, "std above 0"),
        ({"encryption": {}}, "field 'scheme' is missing"),
        ({"encryption": 3}, "is malformed"),
    ],
)
def test_facts_are_trusted_in_nothing(change, message, etc, key, weights, tmp_path):
    facts = {
        **{"model": "etc_convmixer_256_8_p8", "options": OPTIONS, "classes": 2, "size": [32, 32]},
        **{"mean": [0.5] * 3, "std": [0.5] * 3, "encryption": None},
    }
    path, out = tmp_path / "w.safetensors", tmp_path / "m.safetensors"
    save_file(load_file(weights), path, {"etc_data": json.dumps(facts | change)})
    result = etc("encrypt-model", path, out, "--key", key, "--scheme", "ind-8")
    assert result.code == 1
    assert message in result.error
    assert not out.exists()


@pytest.mark.parametrize("text", ["{", "[]", "null", "3", '"x"', "{}", "[" * 100_000])
def test_facts_that_are_no_facts(text, etc, key, weights, tmp_path):
    path = tmp_path / "w.safetensors"
    save_file(load_file(weights), path, {"etc_data": text})
    result = etc("encrypt-model", path, tmp_path / "m.safetensors", "--key", key)
    assert "is malformed" in result.error
