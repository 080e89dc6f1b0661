"""Every refusal says why, and what to use instead."""

import pytest
import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from etc_data import Cipher
from etc_data.errors import GeometryError, ModelError
from etc_data.models import decrypt_model, encrypt_model, model_info

HALF = {"mean": (0.5,) * 3, "std": (0.5,) * 3}


def refused(model, cipher, error=ModelError, **options):
    with pytest.raises(error) as caught:
        encrypt_model(model, cipher, **({"image_size": 64} | HALF | options))
    assert caught.value.hint
    return str(caught.value), caught.value.hint


# -- schemes ------------------------------------------------------------------------------------


def test_a_key_for_each_image(key, make):
    message, hint = refused(make("vit"), Cipher("etc-16", key, key_scope="image"))
    assert "every image has its own key" in message
    assert "order-free" in hint
    assert "every image has its own key" in refused(make("vit"), Cipher("pe", key))[0]


@pytest.mark.parametrize("scheme", ["le-16", "ele-16", "le-4"])
def test_schemes_over_half_bytes(scheme, key, make):
    message, hint = refused(make("vit"), Cipher(scheme, key))
    assert f"{scheme} permutes 4-bit halves" in message
    assert "--scheme shuffle-com-16" in hint


@pytest.mark.parametrize(
    ("kind", "scheme"),
    [("vit", "etc-8"), ("vit", "shuffle-ind-32"), ("vit/8", "shuffle-com-16"), ("vit/8", "com-16/4")],
)
def test_schemes_that_mix_the_values_of_patches(kind, scheme, key, make):
    message, hint = refused(make(kind), Cipher(scheme, key))
    side = 8 if kind == "vit/8" else 16
    assert message.startswith(f"{scheme} does not suit patches of {side}×{side} pixels")
    assert f"ind-{side}" in hint


def test_scrambled_blocks_in_networks_that_know_their_neighbors(other_network, key, make):
    message, hint = refused(make(other_network), Cipher("etc-16", key))
    assert "moves whole patches" in message and type(make(other_network)).__name__ in message
    assert "--scheme ind-16" in hint


_SMALL = {"img_size": 64, "embed_dim": 32, "num_heads": 2, "depth": 1, "num_classes": 2}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("beit_base_patch16_224", _SMALL),  # relative positions
        ("eva02_tiny_patch14_224", _SMALL | {"patch_size": 16}),  # rotary positions
        ("vit_relpos_small_patch16_224", _SMALL),
        ("swin_tiny_patch4_window7_224", {"img_size": 64, "window_size": 4, "depths": (1, 1, 1, 1)}),
    ],
)
def test_scrambled_blocks_in_transformers_that_are_not_indifferent_to_order(name, options, key):
    model = timm.create_model(name, **options)
    message, _ = refused(model, Cipher("etc-4" if "swin" in name else "etc-16", key))
    assert "not known to take its patches in any order" in message


class RollBlock(nn.Module):
    """A block that looks at the next token."""

    def __init__(self, **_) -> None:
        super().__init__()

    def forward(self, tokens):
        return tokens + tokens.roll(1, dims=1)


def test_scrambled_blocks_with_foreign_parts_in_a_vision_transformer(key):
    options = {"img_size": 64, "patch_size": 16, "embed_dim": 32, "depth": 1, "num_heads": 2}
    scrambling = Cipher("etc-16", key)
    message, _ = refused(VisionTransformer(**options, block_fn=RollBlock), scrambling)
    assert "has a RollBlock" in message
    convolved = VisionTransformer(**options)
    convolved.norm_pre = nn.Sequential(nn.Conv1d(17, 17, 1))
    assert "has a Conv1d" in refused(convolved, scrambling)[0]
    message, hint = refused(VisionTransformer(**options, global_pool="", class_token=False), scrambling)
    assert "gives out all its tokens" in message and "global_pool" in hint
    message, hint = refused(VisionTransformer(**options, dynamic_img_size=True), scrambling)
    assert "resamples its position embedding" in message and "dynamic_img_size=False" in hint
    loose = VisionTransformer(**options)
    loose.patch_embed.strict_img_size = False
    assert "resamples its position embedding" in refused(loose, scrambling)[0]
    odd = VisionTransformer(**options)
    odd.pos_embed = nn.Parameter(torch.zeros(1, 18, 32))
    with pytest.raises(ModelError, match="18 rows for 16 patches and 1 other token"):
        encrypt_model(odd, scrambling, image_size=64, **HALF)


# -- models -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "what"),
    [
        (nn.Conv2d(3, 8, 7, 2, 3), "stride 2×2"),
        (nn.Conv2d(3, 8, 16, 8), "stride 8×8"),
        (nn.Conv2d(3, 8, 16, 16, padding=16), "padding"),
        (nn.Conv2d(3, 9, 16, 16, groups=3), "no patch embedding"),
        (nn.Conv2d(3, 8, 3, 3, dilation=2), "no patch embedding"),
        (nn.BatchNorm2d(3), "is a BatchNorm2d"),
    ],
)
def test_first_layers_that_are_no_patch_embedding(layer, what, key):
    message, _ = refused(nn.Sequential(layer, nn.Flatten()), Cipher("com-16", key), image_size=96)
    assert what in message


def test_gray_images(key):
    class Gray(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Conv2d(1, 8, 16, 16)

        def forward(self, image):
            return self.embed(image.mean(1, keepdim=True))

    assert "1 channels" in refused(Gray(), Cipher("com-16", key))[0]


def test_a_subclass_of_convolution_that_standardizes_its_weights(key):
    from timm.layers import StdConv2d

    model = nn.Sequential(StdConv2d(3, 8, 16, 16), nn.Flatten())
    assert "is a StdConv2d" in refused(model, Cipher("com-16", key))[0]


def test_images_that_are_changed_inside_of_the_model(key):
    class Normalize(nn.Module):
        def forward(self, image):
            return image * 2 - 1

    model = nn.Sequential(Normalize(), nn.Conv2d(3, 8, 16, 16))
    message, hint = refused(model, Cipher("com-16", key))
    assert "changed before it reaches '1'" in message and "mean=" in hint
    cropping = nn.Sequential(nn.Unfold(16, stride=16), nn.Linear(16, 4))
    message, _ = refused(cropping, Cipher("com-16", key), image_size=(64, 64))
    assert "do not hold their color components" in message
    short = nn.Sequential(nn.AdaptiveMaxPool2d(32), nn.Conv2d(3, 8, 16, 16))
    assert "changed" in refused(short, Cipher("com-16", key))[0]


def test_a_computed_weight(key):
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 8, 16, 16)), nn.Flatten())
    with pytest.raises(ModelError) as caught:
        encrypt_model(model, Cipher("com-16", key), image_size=64, patch_embedding="0", **HALF)
    assert caught.value.hint


def test_models_that_never_meet_the_image_or_are_one_layer(key):
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unused = nn.Linear(2, 2)

        def forward(self, image):
            return image.mean()

    with pytest.raises(ModelError, match="never reaches a layer with weights"):
        encrypt_model(Constant(), Cipher("com-16", key), image_size=64, **HALF)
    with pytest.raises(ModelError, match="the model has no weights"):
        encrypt_model(nn.Identity(), Cipher("com-16", key), image_size=64, **HALF)
    assert "single layer" in refused(nn.Conv2d(3, 8, 16, 16), Cipher("com-16", key))[0]


def test_a_layer_that_is_named_wrongly(key, make):
    with pytest.raises(ModelError, match="no layer 'stem'"):
        encrypt_model(make("vit"), Cipher("ind-16", key), image_size=64, patch_embedding="stem", **HALF)
    message, _ = refused(make("vit"), Cipher("ind-16", key), patch_embedding="blocks.0.attn.qkv")
    assert "changed before it reaches 'blocks.0.attn.qkv'" in message


def test_a_layer_can_be_named(key, make, photos, half, answer):
    cipher = Cipher("ind-16", key)
    model = make("vit").double()
    named = encrypt_model(model, cipher, image_size=64, patch_embedding="patch_embed.proj", **half)
    assert model_info(named).patch_embedding == "patch_embed.proj"
    found = encrypt_model(model, cipher, image_size=64, **half)
    assert torch.equal(answer(named, photos, half), answer(found, photos, half))


def test_wrapped_models(key, make):
    cipher = Cipher("ind-16", key)
    message, hint = refused(torch.compile(make("vit"), backend="eager"), cipher)
    assert "OptimizedModule" in message and "then compile" in hint
    assert "DataParallel" in refused(nn.DataParallel(make("vit")), cipher)[0]


def test_wrapped_parts_of_a_model(key, make):
    encrypted = encrypt_model(make("vit"), Cipher("com-16", key), image_size=64, **HALF)
    assert "encrypted already" in refused(nn.Sequential(encrypted), Cipher("com-16", key))[0]
    message, _ = refused(nn.Sequential(nn.DataParallel(make("vit"))), Cipher("com-16", key))
    assert "wrapped in a DataParallel" in message
    traced = torch.jit.trace(make("convmixer"), torch.zeros(1, 3, 64, 64))
    assert "wrapped in a TopLevelTracedModule" in refused(traced, Cipher("com-16", key))[0]


class TwoScales(nn.Module):
    """Sees the image through two embeddings, as CrossViT does."""

    def __init__(self) -> None:
        super().__init__()
        self.coarse = nn.Conv2d(3, 8, 16, 16)
        self.fine = nn.Conv2d(3, 8, 8, 8)

    def forward(self, image):
        return self.coarse(image).mean((2, 3)) + self.fine(image).mean((2, 3))


class Gated(nn.Module):
    """Multiplies the patches by the brightness of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 16, 16)

    def forward(self, image):
        return {"logits": [self.embed(image) * image.mean()]}


class Mirrored(nn.Module):
    """Embeds the image and its mirror image."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 16, 16)

    def forward(self, image):
        return self.embed(image) + self.embed(image.flip(-1))


class Tied(nn.Module):
    """Shares the weight of its embedding with a decoder, or the whole embedding under another name."""

    def __init__(self, *, whole: bool) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 16, 16)
        self.other = self.embed if whole else nn.ConvTranspose2d(8, 3, 16, 16)
        self.other.weight = self.embed.weight

    def forward(self, image):
        return self.embed(image)


@pytest.mark.parametrize("scheme", ["com-8", "ind-8"])
def test_models_that_see_the_image_past_their_patch_embedding(scheme, key):
    cipher = Cipher(scheme, key)
    message, hint = refused(TwoScales(), cipher)
    assert "past its patch embedding 'coarse'" in message and "one patch embedding" in hint
    assert "past its patch embedding 'embed'" in refused(Gated(), cipher)[0]
    assert "uses its patch embedding 'embed' 2 times" in refused(Mirrored(), cipher)[0]
    for whole in (True, False):
        message, hint = refused(Tied(whole=whole), cipher)
        assert "shares its weights" in message and "other.weight" in message
    crossvit = timm.create_model("crossvit_9_240", num_classes=2)
    message, _ = refused(crossvit, Cipher("ind-4", key), image_size=240)
    assert "the answer of this CrossVit past its patch embedding" in message


def test_the_model_is_only_looked_at(key, make):
    """In training mode, too: no statistics, hooks or modes change."""
    model = make("convmixer").train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    encrypted = encrypt_model(model, Cipher("ind-16", key), image_size=64, **HALF)
    for found in (model, encrypted):
        assert all(module.training and not module._forward_hooks for module in found.modules())
        for name, tensor in found.state_dict().items():
            assert not name.startswith("blocks") or torch.equal(tensor, before[name]), name


def test_a_model_that_does_not_run_here(key):
    class Elsewhere(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Conv2d(3, 8, 16, 16)

        def forward(self, image):
            self.embed(image)
            raise RuntimeError("no kernel for this device")

    message, hint = refused(Elsewhere(), Cipher("com-16", key))
    assert "does not run in torch.float32 on cpu: no kernel for this device" in message
    assert "where it runs" in hint


def test_models_that_pad_images(key, make):
    model = make("vit", dynamic_img_size=True, dynamic_img_pad=True)
    message, hint = refused(model, Cipher("com-16", key))
    assert "pads images" in message and "dynamic_img_pad=False" in hint


def test_encrypted_twice_and_decrypted_twice(key, make):
    cipher = Cipher("ind-16", key)
    encrypted = encrypt_model(make("vit"), cipher, image_size=64, **HALF)
    message, _ = refused(encrypted, cipher)
    assert f"encrypted already, with key {key.id}" in message
    with pytest.raises(ModelError, match="no encrypted model"):
        decrypt_model(decrypt_model(encrypted, cipher), cipher)


# -- arguments ----------------------------------------------------------------------------------


def test_a_normalization_that_nobody_tells(key, make):
    with pytest.raises(ModelError, match="does not say how its input is normalized") as caught:
        encrypt_model(make("vit"), Cipher("ind-16", key), image_size=64)
    assert "mean=" in caught.value.hint
    with pytest.raises(ModelError, match="does not say"):
        encrypt_model(make("vit"), Cipher("ind-16", key), image_size=64, mean=(0, 0, 0))


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        (0.5, 0.5),
        ((0.5, 0.5), (0.5, 0.5)),
        ((0.5,) * 3, (0.5, 0.0, 0.5)),
        ((0.5,) * 3, (0.5, -1, 0.5)),
        ((0.5, float("nan"), 0.5), (0.5,) * 3),
        (("a", "b", "c"), (0.5,) * 3),
    ],
)
def test_a_malformed_normalization(mean, std, key, make):
    message, _ = refused(make("vit"), Cipher("ind-16", key), mean=mean, std=std)
    assert "three numbers each" in message


def test_an_unknown_form(key, make):
    with pytest.raises(ModelError, match="form is 'sparse'"):
        encrypt_model(make("vit"), Cipher("ind-16", key), image_size=64, form="sparse", **HALF)


def test_sizes_that_do_not_fit(key, make):
    cipher = Cipher("ind-16", key)
    message, _ = refused(make("vit"), cipher, GeometryError, image_size=128)
    assert "does not take an image of 128×128 pixels" in message
    message, _ = refused(make("convmixer"), Cipher("ind-10", key), GeometryError, image_size=64)
    assert "64 is not a multiple of block_size 10" in message
    with pytest.raises(GeometryError, match="patches of 16×16 pixels do not divide"):
        encrypt_model(make("convmixer"), cipher, image_size=(72, 64), **HALF)


@pytest.mark.parametrize("size", [0, -64, 64.0, "64", (64,), (3, 64, 64), (64, -64), (64, 64.5)])
def test_a_malformed_image_size(size, key, make):
    with pytest.raises(GeometryError, match="must be pixels per side"):
        encrypt_model(make("vit"), Cipher("ind-16", key), image_size=size, **HALF)


def test_a_hint_names_a_scheme_that_works(key):
    """For odd and oblong patches, and where not even the image fits the scheme."""
    for kernel, side, scheme in (((7, 7), 70, "ind-7"), ((8, 16), 80, "ind-8"), ((16, 8), 80, "ind-8")):
        model = nn.Sequential(nn.Conv2d(3, 8, kernel, kernel), nn.Flatten())
        for refusing in ("etc-32", "etc-10"):
            error = GeometryError if side % int(refusing[4:]) else ModelError
            _, hint = refused(model, Cipher(refusing, key), error, image_size=side)
            assert f"(--scheme {scheme})" in hint
        encrypt_model(model, Cipher(scheme, key), image_size=side, **HALF)
    _, hint = refused(nn.Sequential(nn.Conv2d(3, 8, 4, 4)), Cipher("etc-16", key))
    assert "(--scheme ind-4)" in hint
    _, hint = refused(nn.Sequential(nn.Conv2d(3, 8, 4, 4)), Cipher("le-16", key))
    assert "(--scheme shuffle-com-4)" in hint
    encrypt_model(
        nn.Sequential(nn.Conv2d(3, 8, 4, 4)), Cipher("shuffle-com-4", key), image_size=64, **HALF
    )


# -- after encryption ---------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["compact", "dense"])
@pytest.mark.parametrize("kind", ["convmixer", "unfolded"])
def test_images_of_another_size(kind, form, key, make):
    encrypted = encrypt_model(make(kind), Cipher("ind-16", key), image_size=64, form=form, **HALF)
    with pytest.raises(GeometryError, match="encrypted for"):
        encrypted(torch.zeros(1, 3, 80, 80))


def test_images_of_another_size_with_a_dynamic_transformer(key, make):
    model = make("vit", dynamic_img_size=True)
    encrypted = encrypt_model(model, Cipher("ind-16", key), image_size=64, **HALF)
    with pytest.raises(GeometryError, match="encrypted for"):
        encrypted(torch.zeros(1, 3, 80, 80))


@pytest.mark.parametrize("scheme", ["com-16", "ind-16", "etc-16", "adaptive-16"])
def test_resizing_an_encrypted_model(scheme, key, make):
    cipher = Cipher(scheme, key)
    encrypted = encrypt_model(make("vit"), cipher, image_size=64, **HALF)
    for module in (encrypted, encrypted.patch_embed):
        with pytest.raises(ModelError, match="cannot be resized") as caught:
            module.set_input_size(img_size=(128, 128))
        assert "resize the plain model" in caught.value.hint
    plain = decrypt_model(encrypted, cipher)
    plain.set_input_size(img_size=(128, 128))
    assert plain(torch.zeros(1, 3, 128, 128)).shape == (1, 10)


def test_timms_checkpoint_filter_finds_no_kernel_to_resample(key, make):
    from timm.models.vision_transformer import checkpoint_filter_fn

    encrypted = encrypt_model(make("vit"), Cipher("ind-16", key), image_size=64, **HALF)
    smaller = make("vit/8", img_size=32)
    state = checkpoint_filter_fn(encrypted.state_dict(), smaller)
    with pytest.raises(RuntimeError, match=r"patch_embed\.proj\.weight"):
        smaller.load_state_dict(state)
