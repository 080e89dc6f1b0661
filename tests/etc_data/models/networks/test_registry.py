"""Every network of the papers exists in timm, has the papers' size, and reads local files."""

import pytest
import safetensors.torch
import timm
import torch

import etc_data.models  # noqa: F401
from etc_data.models.parameter_counts import convmixer_parameters

# name: (parameters, pixels a side)
NETWORKS = {
    "etc_convmixer_256_8_p1": (706_570, 32),
    "etc_convmixer_256_8_p4": (718_090, 32),
    "etc_convmixer_256_8_p4_adaptive": (718_090 + 64**2, 32),
    "etc_convmixer_256_8_p8": (754_954, 224),
    "etc_convmixer_256_8_p16": (902_410, 224),
    "etc_convmixer_384_8_p4": (1_470_346, 224),
    "etc_convmixer_384_8_p8": (1_525_642, 224),
    "etc_convmixer_384_8_p16": (1_746_826, 224),
    "etc_convmixer_512_16_p8": (5_011_978, 224),
    "etc_convmixer_512_16_p16": (5_306_890, 224),
    "etc_convmixer_512_16_p16_adaptive": (5_345_306, 224),
    "etc_convmixer_768_32_p16": (20_825_866, 224),
    "etc_pyramidnet110_a270": (28_485_493, 32),
    "etc_pyramidnet110_a270_ele": (29_310_661, 32),
    "etc_pyramidnet110_a270_le": (28_485_493 + 13 * 16 * 9 + 12_800, 32),
    "etc_resnet18_32": (11_173_962, 32),
    "etc_vit_base_patch16_224": (85_806_346, 224),
    "etc_vit_small_patch16_224": (21_669_514, 224),
    "etc_vit_tiny_patch16_224": (5_526_346, 224),
}
# What the papers print, in millions.
PRINTED = {
    "etc_convmixer_256_8_p1": 0.71,
    "etc_convmixer_384_8_p4": 1.47,
    "etc_convmixer_512_16_p16": 5.31,
    "etc_convmixer_512_16_p16_adaptive": 5.35,
    "etc_pyramidnet110_a270": 28.49,
    "etc_pyramidnet110_a270_ele": 29.31,
    "etc_resnet18_32": 11.17,
    "etc_vit_base_patch16_224": 85.81,
}
QUICK = {"pyramidnet": {"depth": 20, "alpha": 24}, "convmixer": {"depth": 2}, "vit": {"depth": 2}}


def small(name, **options):
    """The network, less deep where it can be."""
    shape = next((value for part, value in QUICK.items() if part in name), {})
    return timm.create_model(name, **shape, **options)


def bare(name):
    """The network without memory for its weights."""
    with torch.device("meta"):
        return timm.create_model(name)


def same_weights(one, other):
    there = other.state_dict()
    return all(torch.equal(value, there[key]) for key, value in one.state_dict().items())


def test_the_registry_holds_these_networks():
    names = {name for name in timm.list_models("etc_*") if not name.startswith("etc_blockset")}
    assert names == set(NETWORKS)


@pytest.mark.parametrize("name", NETWORKS)
def test_number_of_parameters(name):
    assert sum(weight.numel() for weight in bare(name).parameters()) == NETWORKS[name][0]


@pytest.mark.parametrize("name", PRINTED)
def test_number_of_parameters_is_what_the_papers_print(name):
    assert round(NETWORKS[name][0] / 1e6, 2) == PRINTED[name]


def test_the_other_count_of_the_ele_network_includes_layers_that_are_never_used():
    linear, attention = 2 * (4096 * 4096 + 4096), 2 * (256 * 32 + 32) + 256 * 256 + 256 + 1
    unused = linear + attention + 3 * (64 * 64 + 64) + 3 * 2 * 64 + 4096
    assert round((NETWORKS["etc_pyramidnet110_a270_ele"][0] + unused) / 1e6, 2) == 62.97


@pytest.mark.parametrize("name", [name for name in NETWORKS if "convmixer" in name])
def test_convmixers_follow_their_names_and_the_formula(name):
    model = bare(name)
    _, _, width, depth, patch, *rest = name.split("_")
    stem, mixer = model.stem[0], model.blocks[0][0].fn[0]
    assert (stem.out_channels, len(model.blocks), f"p{stem.kernel_size[0]}") == (
        int(width),
        int(depth),
        patch,
    )
    assert mixer.kernel_size == ((7, 7) if width == "768" else (9, 9))
    count = convmixer_parameters(int(width), int(depth), mixer.kernel_size[0], int(patch[1:]), 10)
    positions = (NETWORKS[name][1] // int(patch[1:])) ** 2 if rest else 0
    assert NETWORKS[name][0] == count + positions**2


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_have_the_size_that_was_asked_for(name):
    pixels = 32 if "p1" in name.split("_") else NETWORKS[name][1]
    model = small(name, num_classes=7).eval()
    with torch.inference_mode():
        assert model(torch.rand(2, 3, pixels, pixels)).shape == (2, 7)
    model.reset_classifier(5)
    with torch.inference_mode():
        assert model(torch.rand(1, 3, pixels, pixels)).shape == (1, 5)
    assert isinstance(model.get_classifier(), torch.nn.Linear)
    assert model.num_classes == 5


@pytest.mark.parametrize("name", NETWORKS)
def test_data_settings(name):
    settings = timm.data.resolve_model_data_config(bare(name))
    assert settings["input_size"] == (3, NETWORKS[name][1], NETWORKS[name][1])
    raw = "pyramidnet" in name
    assert settings["mean"] == (0, 0, 0) if raw else (0.5, 0.5, 0.5)
    assert settings["std"] == (1, 1, 1) if raw else (0.5, 0.5, 0.5)
    assert settings["crop_pct"] == 1


@pytest.mark.parametrize("name", NETWORKS)
def test_local_files_give_the_same_network_back(name, tmp_path):
    model = small(name)
    plain, safe = tmp_path / "model.pth", tmp_path / "model.safetensors"
    torch.save({"state_dict": model.state_dict()}, plain)
    safetensors.torch.save_file(model.state_dict(), safe)
    assert same_weights(model, small(name, num_classes=10, checkpoint_path=str(plain)))
    overlay = {"file": str(safe)}
    again = small(name, num_classes=10, pretrained=True, pretrained_cfg_overlay=overlay)
    assert same_weights(model, again)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_file_for_other_classes_gives_all_but_the_classifier(name, tmp_path):
    model = small(name, num_classes=21)
    torch.save(model.state_dict(), tmp_path / "model.pth")
    overlay = {"file": str(tmp_path / "model.pth"), "num_classes": 21}
    tuned = small(name, num_classes=10, pretrained=True, pretrained_cfg_overlay=overlay)
    changed = {
        key for key, value in model.state_dict().items() if not value.equal(tuned.state_dict()[key])
    }
    last = tuned.pretrained_cfg["classifier"]
    assert changed == {f"{last}.weight", f"{last}.bias"}


def test_pretrained_without_a_file_raises():
    with pytest.raises(RuntimeError, match="No pretrained weights exist"):
        timm.create_model("etc_convmixer_256_8_p4", pretrained=True)


def test_vit_weights_of_another_image_size_are_refused_not_resampled(tmp_path):
    torch.save(small("etc_vit_tiny_patch16_224").state_dict(), tmp_path / "model.pth")
    overlay = {"file": str(tmp_path / "model.pth")}
    with pytest.raises(RuntimeError, match="size mismatch for pos_embed"):
        small("etc_vit_tiny_patch16_224", img_size=32, pretrained=True, pretrained_cfg_overlay=overlay)


def test_vit_takes_weights_of_timms_own(tmp_path):
    theirs = timm.create_model("vit_tiny_patch16_224", depth=2, num_classes=21_843)
    torch.save(theirs.state_dict(), tmp_path / "in21k.pth")
    overlay = {"file": str(tmp_path / "in21k.pth"), "num_classes": 21_843}
    ours = small("etc_vit_tiny_patch16_224", pretrained=True, pretrained_cfg_overlay=overlay).eval()
    image = torch.rand(1, 3, 224, 224)
    with torch.inference_mode():
        assert ours.forward_features(image).equal(theirs.eval().forward_features(image))


def test_convmixer_768_32_takes_weights_of_timms_own_but_for_the_stem():
    with torch.device("meta"):
        theirs = timm.create_model("convmixer_768_32", num_classes=10).state_dict()
    ours = bare("etc_convmixer_768_32_p16").state_dict()
    assert theirs.keys() == ours.keys()
    assert {key for key in ours if ours[key].shape != theirs[key].shape} == {"stem.0.weight"}
    with torch.device("meta"):
        names = ("convmixer_768_32", "etc_convmixer_768_32_p16")
        activations = [timm.create_model(name).blocks[0][2] for name in names]
    assert all(isinstance(activation, torch.nn.ReLU) for activation in activations)


def test_resnet18_keeps_the_size_of_small_images():
    model = timm.create_model("etc_resnet18_32", features_only=True)
    shapes = [tuple(feature.shape[1:]) for feature in model(torch.rand(1, 3, 32, 32))]
    assert shapes == [(64, 32, 32), (64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4)]
    assert model.feature_info.reduction() == [1, 1, 2, 4, 8]


def test_convmixer_gives_features():
    model = small("etc_convmixer_256_8_p4", features_only=True, out_indices=(1,))
    assert model(torch.rand(1, 3, 32, 32))[0].shape == (1, 256, 8, 8)
