"""An encrypted model gives to encrypted photos the plain model's logits for the plain ones."""

import numpy as np
import pytest
import timm
import torch

from etc_data import Cipher
from etc_data.models import encrypt_model, model_info

IN_PLACE = (
    "com-16 ind-16 com-16/8 ind-16/8 shuffle-com-16 shuffle-ind-16 flip-16 flip-4 com-4 ind-8 ind-8/4 "
    "shuffle-ind-4 pe"
).split()
MOVING = "etc-16 adaptive-16 adaptive-pixel-16 vit-16/8".split()
FORMS = ("compact", "dense")


def check(model, scheme, key, images, normalization, answer, **options):
    model = model.double()
    cipher = Cipher(scheme, key, key_scope="dataset")
    plain = answer(model, images, normalization)
    for form in FORMS:
        encrypted = encrypt_model(
            model, cipher, image_size=images.shape[-1], form=form, **normalization, **options
        )
        logits = answer(encrypted, cipher.encrypt(images), normalization)
        # In float64 nothing but rounding is left, so this is equality of the functions.
        assert (logits - plain).abs().max() < 1e-11 * plain.std()
        assert torch.equal(logits.argmax(1), plain.argmax(1))
        assert (answer(encrypted, images, normalization) - plain).abs().max() > 0.01 * plain.std()
    return encrypted


@pytest.mark.parametrize("scheme", IN_PLACE)
def test_other_networks_take_every_scheme_that_leaves_patches_in_place(
    other_network, scheme, key, make, photos, normalization, answer
):
    check(make(other_network), scheme, key, photos, normalization, answer)


@pytest.mark.parametrize("scheme", MOVING)
def test_transformers_take_schemes_that_scramble_blocks_too(
    transformer, scheme, key, make, photos, imagenet, answer
):
    if transformer == "vit/8":
        scheme = scheme.replace("adaptive-16", "adaptive-8").replace("pixel-16", "pixel-8")
    check(make(transformer), scheme, key, photos, imagenet, answer)


@pytest.mark.parametrize("scheme", IN_PLACE)
def test_transformers_take_schemes_that_leave_patches_in_place(
    scheme, key, make, photos, normalization, answer
):
    check(make("vit"), scheme, key, photos, normalization, answer)


@pytest.mark.parametrize("scheme", MOVING)
def test_scrambled_blocks_are_exact_under_any_normalization(
    scheme, key, make, photos, normalization, answer
):
    check(make("deit3"), scheme, key, photos, normalization, answer)


@pytest.mark.parametrize(
    ("kind", "scheme"), [("vit/8", "ind-16"), ("vit/8", "com-16"), ("vit", "ind-32"), ("vit", "etc-32")]
)
def test_smaller_patches_than_blocks_move_inside_their_block(
    kind, scheme, key, make, photos, imagenet, answer
):
    encrypted = check(make(kind), scheme, key, photos, imagenet, answer)
    assert model_info(encrypted).position_embedding == "pos_embed"
    assert not model_info(encrypted).any_size


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        ("vit_tiny_patch16_224", "ind-16/8"),
        ("vit_tiny_patch16_224", "etc-16"),
        ("deit_tiny_distilled_patch16_224", "vit-16/8"),
        ("deit3_small_patch16_224", "etc-16"),
        ("mixer_s16_224", "ind-16"),
        ("resmlp_12_224", "flip-4"),
        ("etc_convmixer_512_16_p16", "ind-16/8"),
    ],
)
def test_float32_networks_of_timm_keep_their_answers(name, scheme, key, large_photos, enliven, answer):
    torch.manual_seed(0)
    model = enliven(timm.create_model(name, num_classes=10))
    config = {"mean": model.pretrained_cfg["mean"], "std": model.pretrained_cfg["std"]}
    cipher = Cipher(scheme, key)
    encrypted = encrypt_model(model, cipher, image_size=224)
    plain = answer(model, large_photos[:4], config, torch.float32)
    logits = answer(encrypted, cipher.encrypt(large_photos[:4]), config, torch.float32)
    assert (logits - plain).abs().max() < 1e-3 * plain.std()
    assert torch.equal(logits.argmax(1), plain.argmax(1))


def test_the_given_model_is_untouched(key, make, imagenet):
    model = make("vit")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    mode, layer = model.training, model.patch_embed.proj
    encrypt_model(model, Cipher("etc-16", key), image_size=64, **imagenet)
    assert model.training == mode
    assert model.patch_embed.proj is layer
    assert not model._forward_pre_hooks and not layer._forward_pre_hooks
    assert "set_input_size" not in vars(model)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_a_wrong_key_gives_other_logits(key, other_key, make, photos, half, answer):
    model = make("convmixer").double()
    plain = answer(model, photos, half)
    for scheme in ("com-16", "ind-16/8", "shuffle-ind-16", "flip-4"):
        encrypted = encrypt_model(model, Cipher(scheme, key), image_size=64, **half)
        wrong = answer(encrypted, Cipher(scheme, other_key).encrypt(photos), half)
        assert (wrong - plain).abs().max() > 0.01 * plain.std(), scheme


def test_another_context_gives_other_logits(key, make, photos, half, answer):
    model = make("vit").double()
    encrypted = encrypt_model(model, Cipher("etc-16", key), image_size=64, **half)
    other = Cipher("etc-16", key, context="b").encrypt(photos)
    plain = answer(model, photos, half)
    assert (answer(encrypted, other, half) - plain).abs().max() > 0.01 * plain.std()


@pytest.mark.parametrize("field", ["order", "negated"])
def test_one_changed_entry_of_the_keys_changes_the_logits(field, key, make, photos, half, answer):
    cipher = Cipher("shuffle-ind-16" if field == "order" else "ind-16", key)
    encrypted = encrypt_model(make("convmixer").double(), cipher, image_size=64, **half)
    layer = encrypted.stem[0]
    before = answer(encrypted, cipher.encrypt(photos), half)
    # 768 values of 10 bits and a sign each
    bits = np.unpackbits(layer.keys[3].numpy(), bitorder="little").reshape(768, 11)
    if field == "order":
        bits[[5, 6]] = bits[[6, 5]]
    else:
        bits[5, 10] ^= 1
    layer.keys[3] = torch.from_numpy(np.packbits(bits, bitorder="little"))
    layer.expand_keys()
    assert (answer(encrypted, cipher.encrypt(photos), half) - before).abs().max() > 1e-9


def test_a_common_key_serves_every_size(key, make, large_photos, imagenet, answer):
    model = make("convmixer").double()
    cipher = Cipher("com-16/8", key)
    encrypted = encrypt_model(model, cipher, image_size=224, **imagenet)
    assert model_info(encrypted).any_size
    for side in (64, 96, 208):
        images = large_photos[:2, :, :side, :224].contiguous()
        plain = answer(model, images, imagenet)
        logits = answer(encrypted, cipher.encrypt(images), imagenet)
        assert (logits - plain).abs().max() < 1e-11 * plain.std()


def test_oblong_images_and_the_normalization_of_timm(key, large_photos, answer):
    model = timm.create_model("vit_tiny_patch16_224", img_size=(64, 96), depth=1, num_classes=10)
    model = model.double().eval()
    images = large_photos[:2, :, :64, :96].contiguous()
    cipher = Cipher("etc-16", key)
    encrypted = encrypt_model(model, cipher, image_size=(64, 96))
    config = {"mean": model.pretrained_cfg["mean"], "std": model.pretrained_cfg["std"]}
    plain = answer(model, images, config)
    assert (answer(encrypted, cipher.encrypt(images), config) - plain).abs().max() < 1e-11


@pytest.mark.parametrize("layout", ["channels first", "channels last"])
def test_any_stem_with_stride_kernel_will_do(layout, key, photos, imagenet, answer):
    convnext = timm.create_model("convnext_atto", num_classes=10, depths=(1, 1, 1, 1)).double().eval()
    cipher = Cipher("shuffle-ind-4", key)
    encrypted = encrypt_model(convnext, cipher, image_size=64, **imagenet)
    images = cipher.encrypt(photos)
    if layout == "channels last":
        images = images.contiguous(memory_format=torch.channels_last)
    plain = answer(convnext, photos, imagenet)
    assert (answer(encrypted, images, imagenet) - plain).abs().max() < 1e-11
