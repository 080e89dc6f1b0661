"""ShakeDrop scales forward and backward by factors of their own."""

import pytest
import torch

from etc_data.models.shake_drop import ShakeDrop


def shaken(module, images=4000):
    """The factor of each image forward and backward, found by sending ones through."""
    branch = torch.ones(images, 3, 2, 2, requires_grad=True)
    out = module(branch)
    out.sum().backward()
    for values in (out, branch.grad):
        assert torch.equal(values, values[:, :1, :1, :1].expand_as(values))
    return out[:, 0, 0, 0].detach(), branch.grad[:, 0, 0, 0]


def test_evaluation_scales_by_the_expectation():
    module = ShakeDrop(0.7).eval()
    branch = torch.randn(5, 3, 4, 4, requires_grad=True)
    out = module(branch)
    assert torch.equal(out, 0.7 * branch)
    out.sum().backward()
    assert torch.equal(branch.grad, torch.full_like(branch, 0.7))


def test_an_open_gate_changes_nothing():
    forward, backward = shaken(ShakeDrop(1.0), 10)
    assert torch.equal(forward, torch.ones(10))
    assert torch.equal(backward, torch.ones(10))


def test_a_closed_gate_draws_both_factors_uniformly_and_independently():
    torch.manual_seed(0)
    alpha, beta = shaken(ShakeDrop(0.0))
    for values, low, high in ((alpha, -1, 1), (beta, 0, 1)):
        assert low <= values.min() < low + 0.01
        assert high - 0.01 < values.max() <= high
        quantiles = values.quantile(torch.tensor([0.25, 0.5, 0.75]))
        expected = low + (high - low) * torch.tensor([0.25, 0.5, 0.75])
        torch.testing.assert_close(quantiles, expected, atol=0.04, rtol=0)
    assert abs(torch.corrcoef(torch.stack([alpha, beta]))[0, 1]) < 0.05


def test_one_gate_serves_the_batch_and_opens_with_the_survival_probability():
    torch.manual_seed(0)
    module, opened, total = ShakeDrop(0.7), 0, torch.zeros(())
    for _ in range(1000):
        forward, backward = shaken(module, 8)
        one = forward.eq(1)
        assert one.all() or not one.any()
        assert torch.equal(one, backward.eq(1))
        opened += int(one.all())
        total += forward.mean()
    assert 650 < opened < 750
    assert abs(total / 1000 - 0.7) < 0.03  # what evaluation scales by


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_type_stays(dtype):
    branch = torch.ones(3, 2, dtype=dtype, requires_grad=True)
    out = ShakeDrop(0.0)(branch)
    out.sum().backward()
    assert out.dtype == branch.grad.dtype == dtype


def test_checkpointed_passes_draw_the_same_factors():
    module, branch = ShakeDrop(0.0), torch.ones(6, 2, requires_grad=True)
    gradients = []
    for way in (
        lambda x: module(x),
        lambda x: torch.utils.checkpoint.checkpoint(module, x, use_reentrant=False),
    ):
        torch.manual_seed(3)
        gradients += torch.autograd.grad((way(branch) ** 2).sum(), branch)
    assert torch.equal(*gradients)


def test_it_compiles():
    torch.manual_seed(0)
    alpha, beta = shaken(torch.compile(ShakeDrop(0.0), backend="aot_eager", fullgraph=True), 200)
    assert alpha.min() < -0.9
    assert beta.min() >= 0
    assert abs(torch.corrcoef(torch.stack([alpha, beta]))[0, 1]) < 0.2
