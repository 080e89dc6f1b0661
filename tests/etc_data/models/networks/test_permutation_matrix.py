"""A matrix that undoes block scrambling, its penalty, and the report on it."""

import math
import sys

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import etc_data.models  # noqa: F401
from etc_data import Cipher, SecretKey
from etc_data.errors import EtcError, GeometryError
from etc_data.models.penalties import penalty
from etc_data.models.permutation_matrix import PermutationMatrix, permutation_penalty
from etc_data.models.permutation_report import report_permutation
from etc_data.operations import ScrambleBlocks
from etc_data.schemes import Scheme

orders = st.integers(1, 30).flatmap(lambda count: st.permutations(range(count))).map(np.array)


@given(orders)
def test_the_matrix_of_an_order_restores_it(order):
    module = PermutationMatrix(len(order), 0)
    module.matrix.data = torch.eye(len(order))[order]
    plain = torch.rand(2, 3, len(order), 1)
    assert torch.equal(module(plain[:, :, order]), plain)


def test_the_true_matrix_makes_convmixer_blind_to_block_scrambling(cifar):
    cipher = Cipher(Scheme((ScrambleBlocks(4),)), SecretKey(bytes(range(32))))
    order = cipher.plan(32, 32).tile_order
    model = timm.create_model("etc_convmixer_256_8_p4_adaptive", depth=2).eval()
    images = cifar[0]
    with torch.inference_mode():
        model.stem[-1].matrix.copy_(torch.eye(64))
        plain = model.forward_features(images)
        model.stem[-1].matrix.copy_(torch.eye(64)[order])
        found = model.forward_features(cipher.encrypt(images))
        torch.testing.assert_close(found, plain, atol=1e-5, rtol=1e-4)
        assert not torch.allclose(model.forward_features(images), plain, atol=1e-2)
    report = report_permutation(model.stem[-1].matrix, order)
    assert (report.agreeing, report.neighbors_kept) == (64, 1.0)


def test_other_image_sizes_are_refused_or_asked_for():
    model = timm.create_model("etc_convmixer_256_8_p4_adaptive", depth=1)
    with pytest.raises(GeometryError, match="12×12 patches meet a permutation matrix for 64") as caught:
        model(torch.rand(2, 3, 48, 48))
    assert "img_size" in caught.value.hint
    wide = timm.create_model("etc_convmixer_256_8_p4_adaptive", depth=1, img_size=(32, 48))
    assert wide(torch.rand(2, 3, 32, 48)).shape == (2, 10)
    with pytest.raises(GeometryError, match="image size 30×30 is not a multiple of patch size 4"):
        timm.create_model("etc_convmixer_256_8_p4_adaptive", depth=1, img_size=30)


@given(orders, st.integers(0, 2**31))
def test_signed_scaled_permutations_cost_nothing(order, seed):
    scale = torch.randn(len(order), generator=torch.Generator().manual_seed(seed))
    assert abs(permutation_penalty(scale[:, None] * torch.eye(len(order))[order])) < 1e-6


@given(st.integers(2, 12), st.integers(0, 2**31))
def test_the_penalty_agrees_with_a_loop(count, seed):
    U = np.random.default_rng(seed).normal(size=(count, count))
    total = 0.0
    for line in [*U, *U.T]:
        total += sum(map(abs, line)) - math.sqrt(sum(value**2 for value in line))
    found = permutation_penalty(torch.from_numpy(U)).item()
    assert found == pytest.approx(total / count**2, rel=1e-4)
    assert found > 0


def test_the_penalty_has_gradients_at_rows_of_zeros():
    matrix = torch.zeros(3, 3, requires_grad=True)
    permutation_penalty(matrix).backward()
    assert matrix.grad.isfinite().all()


def test_the_penalty_of_a_network_is_weighted():
    model = timm.create_model("etc_convmixer_256_8_p4_adaptive", depth=1)
    expected = 1e-4 * permutation_penalty(model.stem[-1].matrix)
    assert torch.equal(penalty(model), expected)
    assert torch.equal(penalty(nn.Sequential(model, nn.Sequential(model.stem))), expected)
    heavy = timm.create_model("etc_convmixer_256_8_p4_adaptive", depth=1, penalty_weight=3.0)
    assert torch.equal(penalty(heavy), 3 * permutation_penalty(heavy.stem[-1].matrix))


def test_the_penalty_leads_to_a_permutation():
    torch.manual_seed(0)
    target = torch.eye(16)[torch.randperm(16)]
    module = PermutationMatrix(16, 1.0)
    optimizer = torch.optim.Adam(module.parameters(), 0.05)
    for _ in range(100):
        image = torch.randn(16, 4, 4, 4)
        mistake = (module(image) - (image.flatten(2) @ target).view_as(image)).square().mean()
        optimizer.zero_grad()
        (mistake + module.penalty()).backward()
        optimizer.step()
    report = report_permutation(module.matrix, target.argmax(1).numpy())
    assert report.agreeing == 16
    assert report.similarity > 0.99


@settings(deadline=None)
@given(st.permutations(range(36)).map(np.array))
def test_the_report_knows_a_permutation(order):
    report = report_permutation(torch.eye(36)[order])
    assert np.array_equal(report.order, order)
    assert (report.distance, report.row_entropy, report.column_entropy) == (0, 0, 0)
    assert report.similarity == pytest.approx(1)
    assert report.agreeing is None
    halved = report_permutation(0.5 * torch.eye(36)[order])
    assert (halved.distance, halved.similarity) == (pytest.approx(3), pytest.approx(1))


def test_the_report_on_a_flat_matrix():
    report = report_permutation(torch.full((16, 16), 1 / 16))
    assert report.row_entropy == report.column_entropy == pytest.approx(4)
    assert report.similarity == pytest.approx(1 / 4)
    assert report.distance == pytest.approx(math.sqrt(15))
    assert report_permutation(torch.zeros(4, 4)).similarity == 0


@given(st.integers(2, 6), st.integers(0, 2**31))
@settings(deadline=None, max_examples=20)
def test_no_permutation_is_nearer(count, seed):
    random = np.random.default_rng(seed)
    U = random.normal(size=(count, count))
    report = report_permutation(torch.from_numpy(U))
    assert report.distance == pytest.approx(np.linalg.norm(U - np.eye(count)[report.order]))
    for _ in range(50):
        other = np.eye(count)[random.permutation(count)]
        assert report.distance <= np.linalg.norm(U - other) + 1e-9


def test_a_mirrored_image_keeps_all_neighbors_but_no_position():
    order = np.random.default_rng(0).permutation(36)
    mirrored = np.arange(36).reshape(6, 6)[:, ::-1].ravel()
    report = report_permutation(torch.eye(36)[mirrored[order]], order)
    assert (report.agreeing, report.neighbors_kept) == (0, 1.0)
    chance = report_permutation(torch.eye(36), order)
    assert chance.neighbors_kept < 0.3


def test_neighbors_on_an_oblong_grid():
    # Blocks 0 1 2 / 3 4 5 with blocks 2 and 5 exchanged: 0-1, 3-4, 0-3, 1-4 and 2-5 stay neighbors.
    order = np.arange(6)
    report = report_permutation(torch.eye(6)[[0, 1, 5, 3, 4, 2]], order, grid=(2, 3))
    assert (report.agreeing, report.neighbors_kept) == (4, pytest.approx(5 / 7))
    with pytest.raises(GeometryError, match="6 positions does not fit 6 blocks on a grid of 2×2"):
        report_permutation(torch.eye(6), order)
    with pytest.raises(GeometryError, match="is square, this one is 2×3"):
        report_permutation(torch.rand(2, 3))


def test_without_scipy_the_report_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(EtcError, match="needs scipy") as caught:
        report_permutation(torch.eye(2))
    assert caught.value.hint == "pip install 'etc-data[audit]'"
