"""`etc-data show-embedding` draws what the patch embeddings of checkpoints look for."""

import io

import pytest
import safetensors.torch
import torch
from PIL import Image

import etc_data.models  # noqa: F401

# isort: split
import timm


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two checkpoints, and a folder as Hugging Face writes it."""
    root = tmp_path_factory.mktemp("checkpoints")
    state = timm.create_model("etc_convmixer_256_8_p4", depth=1).state_dict()
    safetensors.torch.save_file(state, root / "plain.safetensors")
    torch.save({"state_dict": state}, root / "plain.pth")
    (root / "hub").mkdir()
    safetensors.torch.save_file(state, root / "hub" / "model.safetensors")
    return root


def test_models_stand_side_by_side(etc, folder, tmp_path):
    single, double = tmp_path / "single.png", tmp_path / "double.png"
    result = etc("show-embedding", folder / "plain.safetensors", "-o", single)
    assert (result.code, result.out) == (0, "")
    assert result.err.endswith("single.png: 1 patch embedding\n")
    etc("show-embedding", folder / "plain.pth", folder / "hub", "-o", double)
    with Image.open(single) as one, Image.open(double) as two:
        assert one.format == "PNG"
        assert two.height == one.height
        assert two.width > 1.9 * one.width
        assert two.crop((0, 0, 288, 288)).tobytes() == one.crop((0, 0, 288, 288)).tobytes()


def test_the_picture_may_go_to_stdout(etc, folder):
    result = etc("show-embedding", folder / "plain.pth", "-o", "-", "--filters", 20)
    assert result.err == ""
    assert Image.open(io.BytesIO(result.raw)).format == "PNG"


def test_an_output_is_not_overwritten(etc, folder, tmp_path):
    taken = tmp_path / "taken.png"
    taken.write_text("mine")
    assert "exists already" in etc("show-embedding", folder / "plain.pth", "-o", taken).error
    assert taken.read_text() == "mine"
    assert etc("show-embedding", folder / "plain.pth", "-o", taken, "--force").code == 0


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("nothing.pth", "neither a file nor a model that timm has weights for"),
        ("etc_convmixer_256_8_p4", "neither a file nor a model that timm has weights for"),
        ("noise.pth", "noise.pth cannot be read as a checkpoint"),
        ("noise.safetensors", "noise.safetensors cannot be read as a checkpoint"),
        ("linear.pth", "linear.pth: this state dict holds no patch embedding"),
        ("empty", "empty is a folder without weights"),
    ],
)
def test_what_is_no_model_is_told(etc, tmp_path, monkeypatch, model, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "noise.pth").write_bytes(b"noise")
    (tmp_path / "noise.safetensors").write_bytes(b"noise")
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "linear.pth")
    (tmp_path / "empty").mkdir()
    result = etc("show-embedding", model, "-o", "out.png")
    assert message in result.error
    assert result.code == 1
    assert not (tmp_path / "out.png").exists()


def test_other_names_than_png_are_refused(etc, folder):
    assert "must end with .png" in etc("show-embedding", folder / "plain.pth", "-o", "out.jpg").error
