"""Pictures of patch embeddings, plain and encrypted."""

import numpy as np
import pytest
import timm
import torch

import etc_data.models  # noqa: F401
from etc_data import Cipher, SecretKey
from etc_data.errors import ModelError
from etc_data.models.embedding_picture import draw_filters, embedding_filters, principal_components
from etc_data.models.model_encryption import encrypt_model

KEY = SecretKey(bytes(range(32)))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return timm.create_model("etc_convmixer_256_8_p4", depth=1).eval()


def encrypted(model, scheme, form="compact"):
    return encrypt_model(model, Cipher(scheme, KEY), image_size=32, form=form).state_dict()


@pytest.mark.parametrize(
    ("name", "weight"),
    [
        ("etc_convmixer_256_8_p4", "stem.0.weight"),
        ("etc_vit_tiny_patch16_224", "patch_embed.proj.weight"),
    ],
)
def test_filters_are_the_first_convolution(name, weight):
    state = timm.create_model(name, depth=1).state_dict()
    filters = embedding_filters(state)
    assert filters.dtype == np.float32
    assert np.array_equal(filters, state[weight].permute(0, 2, 3, 1).numpy())


def test_filters_of_half_precision():
    state = {"stem.weight": torch.rand(5, 3, 2, 2, dtype=torch.bfloat16)}
    assert embedding_filters(state).dtype == np.float32


@pytest.mark.parametrize("scheme", ["com-4", "flip-4"])
def test_an_encrypted_filter_holds_the_same_values_up_to_sign(model, scheme):
    plain, other = embedding_filters(model.state_dict()), embedding_filters(encrypted(model, scheme))
    assert not np.allclose(plain, other, atol=1e-2)
    both = [np.sort(np.abs(filters.reshape(256, -1)), axis=1) for filters in (plain, other)]
    np.testing.assert_allclose(*both, atol=1e-6)


def test_both_forms_of_independent_keys_show_patch_0(model):
    compact = embedding_filters(encrypted(model, "ind-4"))
    dense = embedding_filters(encrypted(model, "ind-4", "dense"))
    assert compact.shape == (256, 4, 4, 3)
    np.testing.assert_allclose(compact, dense, atol=1e-6)
    plain = embedding_filters(model.state_dict())
    both = [np.sort(np.abs(filters.reshape(256, -1)), axis=1) for filters in (plain, compact)]
    np.testing.assert_allclose(*both, atol=1e-6)


def test_a_model_without_patch_embedding_is_refused():
    with pytest.raises(ModelError, match="holds no patch embedding"):
        embedding_filters(torch.nn.Linear(12, 3).state_dict())


def test_principal_components_are_eigenvectors_of_the_covariance(model):
    filters = embedding_filters(model.state_dict())
    components = principal_components(filters, 5)
    values, vectors = np.linalg.eigh(np.cov(filters.reshape(256, -1).astype(np.float64).T))
    assert values[-1] > values[-6]
    for component, vector in zip(components.reshape(5, -1), vectors.T[::-1], strict=False):
        assert abs(component @ vector) == pytest.approx(1, abs=1e-3)
        assert component.max() == np.abs(component).max()


def test_there_are_no_more_components_than_values():
    assert principal_components(np.random.default_rng(0).random((9, 1, 1, 3), np.float32)).shape == (
        3,
        1,
        1,
        3,
    )


def test_the_picture_shows_each_filter_at_its_place():
    filters = np.zeros((5, 2, 2, 3), np.float32)
    filters[4, 0, 1, 2] = -0.5
    filters[4, 1, 0, 1] = 0.25
    picture = np.asarray(draw_filters(filters, columns=3))
    assert picture.shape == (2 * 18 - 2, 3 * 18 - 2, 3)
    tile = picture[18:34, 18:34]
    assert np.array_equal(tile[0, 8], [128, 128, 0])
    assert np.array_equal(tile[8, 0], [128, 191, 128])
    gray = (picture == 128).all(-1).sum() + (tile != 128).any(-1).sum()
    assert gray == 5 * 16**2
    assert (picture == 255).all(-1).sum() == picture[..., 0].size - 5 * 16**2


def test_negated_filters_have_complementary_colors():
    filters = np.random.default_rng(0).normal(size=(1, 4, 4, 3)).astype(np.float32)
    one, other = (np.asarray(draw_filters(f), int) for f in (filters, -filters))
    assert np.abs(one + other - 255).max() <= 1


def test_filters_of_single_pixels_are_squares():
    model = timm.create_model("etc_convmixer_256_8_p1", depth=1)
    assert draw_filters(embedding_filters(model.state_dict())).size == (16 * 18 - 2, 16 * 18 - 2)
