"""Decrypting an encrypted model gives the plain one back."""

import pytest
import torch

from etc_data import Cipher
from etc_data.errors import ModelError, WrongKeyError
from etc_data.models import decrypt_model, encrypt_model

SCHEMES = "com-16 ind-16/8 shuffle-ind-16 flip-16 pe".split()


def encrypted_and_plain(model, cipher, form, normalization):
    encrypted = encrypt_model(model, cipher, image_size=64, form=form, **normalization)
    return encrypted, decrypt_model(encrypted, cipher)


@pytest.mark.parametrize("form", ["compact", "dense"])
@pytest.mark.parametrize("scheme", [*SCHEMES, "etc-16", "adaptive-16"])
def test_with_half_normalization_every_bit_comes_back(scheme, form, key, transformer, make, half):
    if transformer == "vit/8":
        scheme = scheme.replace("16/8", "8/4").replace("16", "8")
    model = make(transformer)
    encrypted, plain = encrypted_and_plain(model, Cipher(scheme, key, key_scope="dataset"), form, half)
    assert any(
        not torch.equal(encrypted.state_dict().get(n, t[:0]), t) for n, t in model.state_dict().items()
    )
    assert plain.state_dict().keys() == model.state_dict().keys()
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name
    assert repr(plain) == repr(model)


@pytest.mark.parametrize("form", ["compact", "dense"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_any_normalization_comes_back_within_rounding(
    scheme, form, key, other_network, make, normalization
):
    model = make(other_network)
    _, plain = encrypted_and_plain(model, Cipher(scheme, key, key_scope="dataset"), form, normalization)
    for name, tensor in plain.state_dict().items():
        before = model.state_dict()[name]
        # A bias of 0.1 that took up constants near 100 keeps their rounding.
        assert torch.allclose(tensor, before, rtol=3e-7, atol=1e-4 if name.endswith("bias") else 0), (
            name
        )
        assert tensor.dtype == before.dtype


def test_a_bias_that_was_added_goes_away(key, make, imagenet):
    model = make("clip")
    assert model.patch_embed.proj.bias is None
    for scheme, form in (("ind-16", "compact"), ("ind-16", "dense"), ("com-16/8", "compact")):
        encrypted, plain = encrypted_and_plain(model, Cipher(scheme, key), form, imagenet)
        assert any(name.startswith("patch_embed.proj.bias") for name, _ in encrypted.named_parameters())
        assert plain.patch_embed.proj.bias is None


def test_no_bias_is_added_where_no_constant_needs_one(key, make, half):
    encrypted = encrypt_model(make("clip"), Cipher("ind-16", key), image_size=64, **half)
    assert encrypted.patch_embed.proj.bias is None


def test_mode_gradients_and_dtype_are_kept(key, make, half):
    model = make("vit").bfloat16().train()
    model.patch_embed.requires_grad_(False)
    encrypted, plain = encrypted_and_plain(model, Cipher("ind-16", key), "compact", half)
    for one in (encrypted, plain):
        assert one.training and one.patch_embed.proj.training
        assert all(p.dtype == torch.bfloat16 for p in one.parameters())
        assert not any(p.requires_grad for p in one.patch_embed.parameters())
        assert one.head.weight.requires_grad


def test_a_compact_model_trained_on_encrypted_images_decrypts_to_the_trained_model(
    key, make, photos, half, answer
):
    cipher = Cipher("ind-16/8", key)
    encrypted = encrypt_model(make("vit").double(), cipher, image_size=64, **half).train()
    images = cipher.encrypt(photos).double() / 127.5 - 1
    optimizer = torch.optim.SGD(encrypted.parameters(), lr=0.1)
    loss = torch.nn.functional.cross_entropy(encrypted(images), torch.arange(8))
    loss.backward()
    optimizer.step()
    plain = decrypt_model(encrypted, cipher).eval()
    logits = answer(encrypted.eval(), cipher.encrypt(photos), half)
    assert (answer(plain, photos, half) - logits).abs().max() < 1e-11
    assert (answer(make("vit").double(), photos, half) - logits).abs().max() > 1e-3


def test_a_dense_model_that_was_trained_is_refused(key, make, half):
    cipher = Cipher("ind-16", key)
    encrypted = encrypt_model(make("vit"), cipher, image_size=64, form="dense", **half)
    with torch.no_grad():
        encrypted.patch_embed.proj.matrices[2, 3, 4] += 0.1
    with pytest.raises(ModelError, match="trained after it was encrypted") as caught:
        decrypt_model(encrypted, cipher)
    assert "compact" in caught.value.hint


def test_another_cipher_is_refused(key, other_key, make, half):
    encrypted = encrypt_model(make("vit"), Cipher("ind-16", key), image_size=64, **half)
    with pytest.raises(WrongKeyError, match=f"key {key.id}, but the cipher with key {other_key.id}"):
        decrypt_model(encrypted, Cipher("ind-16", other_key))
    with pytest.raises(ModelError, match="for scheme ind-16, but the cipher has com-16"):
        decrypt_model(encrypted, Cipher("com-16", key))
    with pytest.raises(ModelError, match="for context '', but the cipher has 'b'"):
        decrypt_model(encrypted, Cipher("ind-16", key, context="b"))
    with pytest.raises(ModelError, match="one key, but the cipher has key scope"):
        decrypt_model(encrypted, Cipher("ind-16", key, key_scope="image"))
