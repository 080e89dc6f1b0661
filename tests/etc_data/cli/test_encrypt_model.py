"""`etc-data encrypt-model` and `decrypt-model` on timm's checkpoints and Hugging Face folders."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import etc_data.models
import etc_data.torchvision_cpu  # noqa: F401
from etc_data import Cipher, SecretKey

# isort: split
import timm
from timm.models import save_for_hf

NAME = "etc_vit_tiny_patch16_224"


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return timm.create_model(NAME, num_classes=7).eval()


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory, model):
    """The model in every form that timm writes."""
    folder = tmp_path_factory.mktemp("checkpoints")
    save_file(model.state_dict(), folder / "vit.safetensors")
    torch.save({"state_dict": model.state_dict(), "epoch": 3}, folder / "vit.pth.tar")
    torch.save(model.state_dict(), folder / "vit.pth")
    save_for_hf(model, folder / "hf", safe_serialization=True)
    return folder


@pytest.fixture(scope="module")
def image():
    return torch.randint(0, 256, (2, 3, 224, 224), dtype=torch.uint8)


def logits(model, image):
    with torch.inference_mode():
        return model.eval()(image / 127.5 - 1)


def check(out, model, cipher, image):
    from etc_data.models import load_encrypted_model

    encrypted = load_encrypted_model(out)
    assert torch.allclose(logits(encrypted, cipher.encrypt(image)), logits(model, image), atol=1e-5)


def same_weights(path, model):
    found = load_file(path)
    assert found.keys() == model.state_dict().keys()
    return all(torch.equal(tensor, found[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("name", ["vit.safetensors", "vit.pth.tar", "vit.pth"])
def test_a_checkpoint_there_and_back(name, etc, key, checkpoints, model, image, tmp_path):
    out, plain = tmp_path / "enc.safetensors", tmp_path / "plain.safetensors"
    result = etc("encrypt-model", checkpoints / name, out, "--key", key, "--model", NAME)
    assert result.code == 0, result.err
    assert result.out == ""
    assert f"wrote {out}: 21." in result.err and "etc-16" in result.err
    assert "mean     0.5, 0.5, 0.5 (the model's)" in result.err
    check(out, model, Cipher("etc-16", SecretKey.load(key)), image)
    result = etc("decrypt-model", out, plain, "--key", key)
    assert result.code == 0, result.err
    assert same_weights(plain, model)


def test_a_folder_there_and_back(etc, key, checkpoints, model, image, tmp_path):
    out, plain = tmp_path / "enc", tmp_path / "plain"
    options = ("--key", key, "--scheme", "ind-16/8", "--context", "a", "--form", "dense")
    result = etc("encrypt-model", checkpoints / "hf", out, *options)
    assert result.code == 0, result.err
    assert sorted(path.name for path in out.iterdir()) == ["config.json", "model.safetensors"]
    check(out, model, Cipher("ind-16/8", SecretKey.load(key), context="a"), image)
    with pytest.raises(RuntimeError, match="Missing key"):
        timm.create_model(f"local-dir:{out}", pretrained=True)
    assert etc("decrypt-model", out, plain, "--key", key).code == 0
    again = timm.create_model(f"local-dir:{plain}", pretrained=True)
    assert torch.equal(logits(again, image), logits(model, image))


def test_the_normalization_may_be_given_and_the_facts_printed(etc, key, checkpoints, tmp_path):
    result = etc(
        *("encrypt-model", checkpoints / "vit.pth", tmp_path / "e.safetensors", "--model", NAME),
        *("--key", key, "--scheme", "com-8", "--mean", "0", "--std", "0.2,0.3,0.4", "--json"),
    )
    assert result.code == 0, result.err
    facts = json.loads(result.out)
    assert (facts["mean"], facts["std"]) == ([0, 0, 0], [0.2, 0.3, 0.4])
    assert (facts["form"], facts["any_size"]) == ("common", True)
    assert "std      0.2, 0.3, 0.4 (given)" in result.err
    assert "any size of whole blocks" in result.err


def test_a_wrong_key_is_refused_before_any_work(etc, key, other_key, checkpoints, tmp_path):
    out = tmp_path / "e.safetensors"
    etc("encrypt-model", checkpoints / "vit.pth", out, "--key", key, "--model", NAME)
    result = etc("decrypt-model", out, tmp_path / "p.safetensors", "--key", other_key)
    assert "the model was encrypted with key" in result.error
    assert not (tmp_path / "p.safetensors").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--model", NAME, "--scheme", "le-4"), "le-4 permutes 4-bit halves"),
        (("--model", NAME, "--scheme", "etc-8"), "etc-8 does not suit patches of 16×16 pixels"),
        (("--model", NAME, "--scheme", "none"), "there is no scheme 'none'"),
        (("--model", NAME, "--size", 160), "does not fit etc_vit_tiny_patch16_224"),
        ((), "does not tell its architecture"),
        (("--model", "no_such_model"), "timm has no architecture 'no_such_model'"),
        (("--model", "etc_vit_small_patch16_224"), "does not fit etc_vit_small_patch16_224"),
    ],
)
def test_what_does_not_fit_is_one_line_and_leaves_no_file(
    options, message, etc, key, checkpoints, tmp_path
):
    out = tmp_path / "e.safetensors"
    result = etc("encrypt-model", checkpoints / "vit.pth", out, "--key", key, *options)
    assert result.code == 1
    assert message in result.error
    assert not list(tmp_path.iterdir())


def test_wrong_usage(etc, key, checkpoints, tmp_path):
    source, out = checkpoints / "vit.pth", tmp_path / "e.safetensors"
    assert etc("encrypt-model", source, out).code == 2
    result = etc("encrypt-model", source, out, "--key", key, "--mean", "0.5,0.5")
    assert result.code == 2
    assert "'0.5,0.5' is not one number or three" in result.error
    assert (
        "must end with .safetensors"
        in etc("encrypt-model", source, tmp_path / "e.pth", "--key", key, "--model", NAME).error
    )
    assert (
        "names the architecture"
        in etc("encrypt-model", checkpoints / "hf", tmp_path / "e", "--key", key, "--model", NAME).error
    )
    assert "has no config.json" in etc("encrypt-model", tmp_path, out, "--key", key).error


def test_nothing_is_overwritten_without_force(etc, key, checkpoints, model, tmp_path):
    source, out = checkpoints / "vit.pth", tmp_path / "e.safetensors"
    options = ("--key", key, "--model", NAME)
    out.write_bytes(b"mine")
    assert "exists already" in etc("encrypt-model", source, out, *options).error
    assert out.read_bytes() == b"mine"
    assert etc("encrypt-model", source, out, *options, "--force").code == 0
    folder = tmp_path / "hf"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    assert "is not empty" in etc("encrypt-model", checkpoints / "hf", folder, "--key", key).error
    result = etc("encrypt-model", checkpoints / "hf", folder, "--key", key, "--force")
    assert "holds more than a model's" in result.error
    assert (
        "no other folder"
        in etc("encrypt-model", checkpoints / "hf", checkpoints / "hf", "--key", key, "--force").error
    )


class Opener:
    """A pickle that would open a file for writing."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize(
    "content", ["list", "number", "names", "nested", "code", "nothing", "text", "cut"]
)
def test_checkpoints_that_are_none(content, etc, key, checkpoints, tmp_path):
    path = tmp_path / "x.pth"
    objects = {
        "list": [1, 2],
        "number": 3,
        "names": {1: torch.zeros(2)},
        "nested": {"state_dict": {"a": [1]}},
        "code": {"state_dict": Opener(tmp_path / "harm")},
    }
    whole = (checkpoints / "vit.pth").read_bytes()
    octets = {"nothing": b"", "text": b"hello", "cut": whole[: len(whole) // 2]}
    if content in objects:
        torch.save(objects[content], path)
    else:
        path.write_bytes(octets[content])
    result = etc("encrypt-model", path, tmp_path / "e.safetensors", "--key", key, "--model", NAME)
    assert result.code == 1
    assert "x.pth" in result.error
    assert "save_file(model.state_dict()" in result.hint
    assert [path.name for path in tmp_path.iterdir()] == ["x.pth"]


@pytest.fixture
def folder(checkpoints, tmp_path):
    """folder(changes, weights) gives a Hugging Face folder, its config.json or weights changed."""

    def make(changes=None, weights=None):
        place = tmp_path / "in"
        place.mkdir()
        config = json.loads((checkpoints / "hf" / "config.json").read_bytes()) | (changes or {})
        (place / "config.json").write_text(json.dumps(config))
        if weights is None:
            weights = load_file(checkpoints / "hf" / "model.safetensors")
        torch.save(weights, place / "pytorch_model.bin")
        return place

    return make


def test_a_folder_with_pytorch_weights(etc, key, folder, model, image, tmp_path):
    options = ("--key", key, "--scheme", "ind-16")
    assert etc("encrypt-model", folder(), tmp_path / "out", *options).code == 0
    check(tmp_path / "out", model, Cipher("ind-16", SecretKey.load(key)), image)


def test_a_folder_whose_config_names_other_classes_gives_no_fresh_classifier(
    etc, key, folder, model, image, tmp_path
):
    changed = folder({"num_classes": 9})
    options = ("--key", key, "--scheme", "ind-16")
    assert etc("encrypt-model", changed, tmp_path / "out", *options).code == 0
    check(tmp_path / "out", model, Cipher("ind-16", SecretKey.load(key)), image)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": None}, "names no architecture of timm"),  # as in transformers' folders
        ({"architecture": "hf-hub:someone/something"}, "timm cannot load"),
        ({"model_args": {"checkpoint_path": "/etc/passwd"}}, "timm cannot load"),
        ({"model_args": {"cache_dir": "/tmp"}}, "timm cannot load"),
        ({"model_args": {"img_size": 160}}, "does not fit"),
    ],
)
def test_folders_that_do_not_fit(changes, message, etc, key, folder, tmp_path):
    result = etc("encrypt-model", folder(changes), tmp_path / "out", "--key", key)
    assert message in result.error
    assert not (tmp_path / "out").exists()


def test_folders_that_hold_code_or_nothing(etc, key, folder, tmp_path):
    place = folder(weights={"state_dict": Opener(tmp_path / "harm")})
    command = ("encrypt-model", place, tmp_path / "out", "--key", key)
    assert "cannot be read as a checkpoint" in etc(*command).error
    assert not (tmp_path / "harm").exists()
    (place / "pytorch_model.bin").unlink()
    assert "has no weights" in etc(*command).error


def test_a_bfloat16_checkpoint_stays_one(etc, key, model, tmp_path):
    path, out, plain = (tmp_path / f"{name}.safetensors" for name in ("in", "out", "plain"))
    state = {name: tensor.to(torch.bfloat16) for name, tensor in model.state_dict().items()}
    save_file(state, path)
    options = ("--key", key, "--scheme", "ind-16")
    assert etc("encrypt-model", path, out, "--model", NAME, *options).code == 0
    assert out.stat().st_size <= 1.02 * path.stat().st_size
    assert etc("decrypt-model", out, plain, "--key", key).code == 0
    found = load_file(plain)
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())


def test_files_that_are_no_models(etc, key, checkpoints, tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"none")
    for command in ("encrypt-model", "decrypt-model"):
        result = etc(
            command,
            tmp_path / "x.safetensors",
            tmp_path / "e.safetensors",
            "--key",
            key,
            "--model",
            NAME,
        )
        assert "x.safetensors" in result.error
    result = etc(
        "decrypt-model", checkpoints / "vit.safetensors", tmp_path / "e.safetensors", "--key", key
    )
    assert "is no encrypted model" in result.error


def test_an_encrypted_model_is_not_encrypted_again(etc, key, checkpoints, tmp_path):
    out = tmp_path / "e.safetensors"
    options = ("--key", key, "--model", NAME)
    assert etc("encrypt-model", checkpoints / "vit.pth", out, *options).code == 0
    result = etc("encrypt-model", out, tmp_path / "f.safetensors", *options)
    assert "is an encrypted model already" in result.error
