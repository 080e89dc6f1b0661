"""lin2024 eq. 10–11 in explicit matrices, made from encrypted images alone and not from any plan.

An image with one added coordinate of value 1 turns both a negation and a normalization into a matrix.
So with M the normalization and A_i what the encryption does to patch i, both found by asking the
cipher: z = x M E for the plain patch x, and for the encrypted one ŷ = x A_i M, so that
Ê_i = (A_i M)⁻¹ M E; with mean = std = 0.5 that is k_iᵀ E.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.models.convmixer import ConvMixer
from torch import nn

from etc_data import Cipher, Scheme, SecretKey
from etc_data.errors import ModelError
from etc_data.models import encrypt_model
from etc_data.operations import (
    NegateValues,
    NegativePositive,
    RotateFlip,
    ScrambleBlocks,
    ScrambleSubBlocks,
    ShuffleColorComponents,
    ShuffleValues,
)


def signed_permutation(cipher, height, width):
    """Asks a cipher where each value goes: numbers [H, W, 3] and negations, of channels-last images.

    A digit below 128 comes back as itself, or negated as 255 minus itself, which is above.
    """
    numbers = np.arange(height * width * 3).reshape(height, width, 3)
    digits = np.stack([numbers % 128, numbers // 128 % 128, numbers // 128**2]).astype(np.uint8)
    seen = cipher.encrypt(digits).astype(np.int64)
    negated = seen >= 128
    assert (negated == negated[:1]).all()
    seen = np.where(negated, 255 - seen, seen)
    return seen[0] + 128 * seen[1] + 128**2 * seen[2], negated[0]


def patches_of(image, size):
    """Cuts [H, W, 3] into [N, L], values in the order of a kernel's weights: color, row, column."""
    height, width, _ = image.shape
    rows = [
        image[y : y + size, x : x + size].transpose(2, 0, 1).reshape(-1)
        for y in range(0, height, size)
        for x in range(0, width, size)
    ]
    return np.stack(rows)


def key_matrices(cipher, height, width, size):
    """Returns A_i [N, L + 1, L + 1], x̂_i = x_{τ(i)} A_i with the added coordinate, and τ [N].

    None if values of one encrypted patch come from several plain ones.
    """
    numbers, negated = signed_permutation(cipher, height, width)
    plain = patches_of(np.arange(numbers.size).reshape(numbers.shape), size)
    place = {value: (patch, slot) for (patch, slot), value in np.ndenumerate(plain)}
    matrices, moved = [], []
    for taken, signs in zip(patches_of(numbers, size), patches_of(negated, size), strict=True):
        places = [place[value] for value in taken]
        if len({patch for patch, _ in places}) > 1:
            return None
        matrix = np.zeros((len(taken) + 1, len(taken) + 1))
        matrix[-1, -1] = 1
        for slot, ((_, source), sign) in enumerate(zip(places, signs, strict=True)):
            matrix[source, slot] = -1 if sign else 1
            matrix[-1, slot] = 1 if sign else 0
        matrices.append(matrix)
        moved.append(places[0][0])
    return np.stack(matrices), np.array(moved)


def normalizing(mean, std, values):
    """Returns M, [L + 1, L + 1]."""
    means, stds = np.repeat(mean, values // 3), np.repeat(std, values // 3)
    matrix = np.diag(np.append(1 / stds, 1.0))
    matrix[-1, :-1] = -means / stds
    return matrix


def stacked(layer):
    """Returns E of a convolution with its bias as one more row, [L + 1, D]."""
    weight = layer.weight.detach().double().numpy()
    return np.vstack([weight.reshape(len(weight), -1).T, layer.bias.detach().double().numpy()])


def direct_embeddings(cipher, layer, side, normalization):
    """Returns Ê_i by the equation in the head of this file, [N, L + 1, D]."""
    keys, _ = key_matrices(cipher, side, side, layer.kernel_size[0])
    embedding = stacked(layer)
    normal = normalizing(normalization["mean"], normalization["std"], len(embedding) - 1)
    return np.stack([np.linalg.solve(key @ normal, normal @ embedding) for key in keys])


@pytest.mark.parametrize(
    "scheme", ["ind-8", "ind-8/4", "shuffle-ind-8", "pe", "com-8", "flip-8", "ind-4"]
)
def test_encrypted_weights_are_those_of_the_direct_matrices(scheme, key, normalization):
    torch.manual_seed(0)
    model = ConvMixer(16, 1, 3, 8, num_classes=5).double().eval()
    cipher = Cipher(scheme, key, key_scope="dataset")
    direct = direct_embeddings(cipher, model.stem[0], 32, normalization)
    layer = encrypt_model(model, cipher, image_size=32, form="dense", **normalization).stem[0]
    if isinstance(layer, nn.Conv2d):
        found = np.broadcast_to(stacked(layer), direct.shape)
    else:
        matrices, biases = layer.matrices.detach().numpy(), layer.biases.detach().numpy()
        found = np.concatenate([matrices.transpose(0, 2, 1), biases[:, None]], axis=1)
    assert np.allclose(found, direct, rtol=1e-9, atol=1e-11)


def test_with_half_normalization_the_embedding_is_the_transposed_key_times_the_plain_one(key, half):
    """Equation 10 as printed: Ê_i = k_iᵀ E, here bit by bit."""
    torch.manual_seed(0)
    model = ConvMixer(16, 1, 3, 8, num_classes=5).eval()
    cipher = Cipher("ind-8/4", key)
    keys, _ = key_matrices(cipher, 32, 32, 8)
    weight = stacked(model.stem[0])[:-1]
    layer = encrypt_model(model, cipher, image_size=32, form="dense", **half).stem[0]
    for found, matrix in zip(layer.matrices.detach().double().numpy(), keys, strict=True):
        assert np.array_equal(found.T, matrix[:-1, :-1].T @ weight)


@pytest.mark.parametrize("form", ["compact", "dense"])
def test_tokens_of_encrypted_photos_are_those_of_equation_11(form, key, photos, half):
    torch.manual_seed(0)
    model = ConvMixer(16, 1, 3, 8, num_classes=5).double().eval()
    cipher = Cipher("ind-8/4", key)
    embeddings = direct_embeddings(cipher, model.stem[0], 32, half)
    encrypted = cipher.encrypt(photos[:1, :, :32, :32])
    values = patches_of(encrypted[0].permute(1, 2, 0).numpy(), 8) / 127.5 - 1
    tokens = [
        np.append(patch, 1.0) @ embedding for patch, embedding in zip(values, embeddings, strict=True)
    ]
    layer = encrypt_model(model, cipher, image_size=32, form=form, **half).stem[0]
    with torch.inference_mode():
        found = layer(encrypted.double() / 127.5 - 1)[0].flatten(1).T.numpy()
    assert np.allclose(found, np.stack(tokens), atol=1e-12)


def test_rows_of_the_position_embedding_follow_the_patches_and_no_other_row_moves(key, make, half):
    model = make("deit")
    cipher = Cipher("etc-16", key)
    _, moved = key_matrices(cipher, 64, 64, 16)
    encrypted = encrypt_model(model, cipher, image_size=64, **half)
    assert torch.equal(encrypted.pos_embed[0, 2:], model.pos_embed[0, 2:][torch.from_numpy(moved)])
    assert torch.equal(encrypted.pos_embed[0, :2], model.pos_embed[0, :2])


# -- any geometry -------------------------------------------------------------------------------


@st.composite
def schemes(draw):
    """A scheme of one to three steps over blocks of 2 to 8 pixels."""
    steps = []
    for _ in range(draw(st.integers(1, 3))):
        block = draw(st.sampled_from([2, 4, 8]))
        sub_block = draw(st.sampled_from([size for size in (1, 2, 4, 8) if size <= block]))
        assignment = draw(st.sampled_from(["common", "independent"]))
        steps.append(
            draw(
                st.sampled_from(
                    [
                        ScrambleBlocks(block),
                        RotateFlip(block, assignment, sub_block),
                        NegativePositive(block, assignment, sub_block),
                        ShuffleColorComponents(block, assignment, sub_block),
                        ScrambleSubBlocks(block, assignment, sub_block),
                        ShuffleValues(block, assignment, "value"),
                        ShuffleValues(block, assignment, "pixel"),
                        NegateValues(block, assignment, "value"),
                    ]
                )
            )
        )
    return Scheme(tuple(steps))


@settings(max_examples=80, deadline=None)
@given(
    scheme=schemes(),
    patch=st.sampled_from([1, 2, 4, 8, 16]),
    grid=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    form=st.sampled_from(["compact", "dense"]),
    secret=st.binary(min_size=32, max_size=32),
    mean=st.tuples(*[st.floats(0, 1)] * 3),
    std=st.tuples(*[st.floats(0.1, 3)] * 3),
)
def test_a_model_is_accepted_if_and_only_if_every_patch_stays_whole_and_in_place(
    scheme, patch, grid, form, secret, mean, std
):
    height, width = 16 * grid[0], 16 * grid[1]
    cipher = Cipher(scheme, SecretKey(secret))
    found = key_matrices(cipher, height, width, patch) if patch > 1 else None
    torch.manual_seed(0)
    # Whether patches of one pixel stay whole takes as many matrices as there are pixels.
    keep = signed_permutation(cipher, height, width)[0] // 3 if patch == 1 else None
    tokens = 4 * (height // patch) * (width // patch)
    model = nn.Sequential(nn.Conv2d(3, 4, patch, patch), nn.Flatten(), nn.Linear(tokens, 3)).double()
    options = {"image_size": (height, width), "mean": mean, "std": std, "form": form}
    if patch == 1:
        accepted = bool((keep == np.arange(height * width).reshape(height, width)[..., None]).all())
    else:
        accepted = found is not None and bool((found[1] == np.arange(len(found[1]))).all())
    if not accepted:
        with pytest.raises(ModelError):
            encrypt_model(model, cipher, **options)
        return
    encrypted = encrypt_model(model, cipher, **options)
    image = torch.rand(2, 3, height, width, dtype=torch.float64)
    means, stds = (torch.tensor(numbers, dtype=torch.float64)[:, None, None] for numbers in (mean, std))
    with torch.inference_mode():
        plain = model((image - means) / stds)
        logits = encrypted((cipher.encrypt(image) - means) / stds)
    assert torch.allclose(logits, plain, rtol=0, atol=1e-10)
