"""The adaptation networks against plain ones that treat block after block."""

import copy
import pickle

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

import etc_data.models  # noqa: F401
from etc_data.errors import GeometryError
from etc_data.models.ele_adaptation import ELEAdaptation
from etc_data.models.le_adaptation import LEAdaptation
from etc_data.models.parameter_counts import ele_parameters
from etc_data.models.penalties import penalty
from etc_data.models.smoothness import Smoothness, roughness


class BlockAfterBlock(nn.Module):
    """ELE's adaptation network in small steps: N convolutions, N BatchNorms, torch's spectral norm."""

    def __init__(self, fast: ELEAdaptation) -> None:
        super().__init__()
        self.rows, self.columns = fast.grid
        self.block = fast.block_size
        self.matrix = fast.permutation.matrix.detach().clone()
        self.convolutions, self.norms = nn.ModuleList(), nn.ModuleList()
        for weight, vector in zip(fast.weight.detach(), fast.spectral_norm.right, strict=True):
            convolution = nn.Conv2d(3, len(weight), self.block, stride=self.block, bias=False)
            convolution.weight.data = weight.unflatten(1, (3, self.block, self.block)).clone()
            parametrizations.spectral_norm(convolution)
            norm = convolution.parametrizations.weight[0]
            norm._v.copy_(vector)
            norm._u.copy_(F.normalize(weight @ vector, dim=0))
            self.convolutions.append(convolution)
            self.norms.append(nn.BatchNorm2d(len(weight)).double())

    def forward(self, image):
        parts = []
        for number in range(self.rows * self.columns):
            y, x = (self.block * place for place in divmod(number, self.columns))
            block = image[:, :, y : y + self.block, x : x + self.block]
            part = self.norms[number](self.convolutions[number](block))
            parts.append(F.leaky_relu(part, 0.2)[:, :, 0, 0])
        mixed = [sum(part * u for part, u in zip(parts, row, strict=True)) for row in self.matrix.T]
        grid = torch.stack(mixed, 2).unflatten(2, (self.rows, self.columns))
        return F.pixel_shuffle(grid, self.block)


@pytest.fixture
def pair():
    torch.manual_seed(0)
    fast = ELEAdaptation(img_size=(8, 12), block_size=4, channels=2).double()
    # At the singular vectors the two ways of iterating stand still.
    fast.spectral_norm.right.copy_(torch.linalg.svd(fast.weight.detach()).Vh[:, 0])
    return fast, BlockAfterBlock(fast)


def test_ele_agrees_with_block_after_block(pair):
    fast, slow = pair
    for _ in range(3):
        image = torch.rand(6, 3, 8, 12).double()
        torch.testing.assert_close(fast(image), slow(image))
    image = torch.rand(1, 3, 8, 12).double()
    torch.testing.assert_close(fast.eval()(image), slow.eval()(image))


def test_ele_has_the_gradients_of_block_after_block(pair):
    fast, slow = pair
    image, target = torch.rand(6, 3, 8, 12).double(), torch.rand(6, 2, 8, 12).double()
    for module in (fast, slow):
        (module(image) * target).sum().backward()
    for number, convolution in enumerate(slow.convolutions):
        expected = convolution.parametrizations.weight.original.grad.flatten(1)
        torch.testing.assert_close(fast.weight.grad[number], expected, atol=1e-9, rtol=1e-6)


def test_ele_divides_by_the_largest_singular_value():
    adaptation = ELEAdaptation(img_size=8, block_size=4)
    for _ in range(200):
        adaptation(torch.rand(2, 3, 8, 8))
    matrices = adaptation.eval().spectral_norm(adaptation.weight)
    sizes = torch.linalg.matrix_norm(matrices, 2)
    torch.testing.assert_close(sizes, torch.ones(4), atol=1e-3, rtol=0)


@pytest.mark.parametrize(("image_size", "block_size"), [(32, 4), (16, 8)])
def test_ele_has_the_parameters_of_equation_2(image_size, block_size):
    adaptation = ELEAdaptation(image_size, block_size)
    count = sum(weight.numel() for weight in adaptation.parameters())
    assert count == ele_parameters(16 * block_size**2, block_size, image_size, 0)


def test_ele_treats_blocks_apart_and_sends_them_where_the_matrix_says():
    adaptation = ELEAdaptation(img_size=16, block_size=4).eval()
    order = torch.randperm(16)
    adaptation.permutation.matrix.data = torch.eye(16)[order]
    image = torch.rand(1, 3, 16, 16)
    changed = image.clone()
    changed[..., 4:8, 8:12] += 1  # block 6
    rows, columns = torch.nonzero((adaptation(image) != adaptation(changed)).any(1)[0]).unbind(1)
    assert set((rows // 4 * 4 + columns // 4).tolist()) == {int(order[6])}


def test_ele_refuses_other_sizes():
    with pytest.raises(GeometryError, match="image size 30×30 is not a multiple of block size 4"):
        ELEAdaptation(img_size=30)
    with pytest.raises(GeometryError, match=r"image of 16×64 pixels .* for 32×32"):
        ELEAdaptation()(torch.rand(2, 3, 16, 64))


def test_le_agrees_with_block_after_block():
    torch.manual_seed(0)
    adaptation = LEAdaptation().eval()
    adaptation.norm.running_mean.normal_()
    image = torch.rand(2, 3, 32, 32)
    adapted = adaptation(image)
    assert adapted.shape == (2, 16, 32, 32)
    weight = adaptation.embed.weight.flatten(1)
    for y in range(0, 32, 4):
        for x in range(0, 32, 4):
            values = image[:, :, y : y + 4, x : x + 4].flatten(1) @ weight.T
            values = (values - adaptation.norm.running_mean) / (1 + adaptation.norm.eps) ** 0.5
            expected = F.leaky_relu(values, 0.1).reshape(2, 16, 4, 4)
            torch.testing.assert_close(adapted[:, :, y : y + 4, x : x + 4], expected)


def test_roughness_agrees_with_a_sum_over_places():
    image = torch.rand(2, 3, 4, 5).double()
    total = 0.0
    for y in range(3):
        for x in range(4):
            down = image[:, :, y + 1, x] - image[:, :, y, x]
            right = image[:, :, y, x + 1] - image[:, :, y, x]
            total += float((down**2 + right**2).sum())
    assert roughness(image).item() == pytest.approx(total / (2 * 3 * 3 * 5))


def test_smoothness_counts_in_training_alone():
    module, image = Smoothness(0.5), torch.rand(1, 2, 4, 4)
    assert module.penalty() == 0
    assert module(image) is image
    assert module.penalty() == 0.5 * roughness(image)
    module.eval()(image)
    assert module.penalty() == 0


def test_the_penalty_of_ele_is_the_papers():
    model = timm.create_model("etc_pyramidnet110_a270_ele", depth=8, alpha=6)
    images, adapted = torch.rand(2, 3, 32, 32), []
    model.adaptation.register_forward_hook(lambda *call: adapted.append(call[2]))
    model(images)
    U = model.adaptation.permutation.matrix
    rows = sum(U[i].abs().sum() - U[i].square().sum().sqrt() for i in range(64))
    columns = sum(U[:, j].abs().sum() - U[:, j].square().sum().sqrt() for j in range(64))
    expected = 0.001 * (rows + columns) / 64**2 + 0.1 * roughness(adapted[0])
    torch.testing.assert_close(penalty(model), expected)
    weights = {"penalty_weight": 2.0, "smoothness_weight": 0.0}
    other = timm.create_model("etc_pyramidnet110_a270_ele", depth=8, alpha=6, **weights)
    other.load_state_dict(model.state_dict())
    other(images)
    torch.testing.assert_close(penalty(other), 2 * (rows + columns) / 64**2)


def test_a_network_in_training_can_be_copied():
    model = timm.create_model("etc_pyramidnet110_a270_ele", depth=8, alpha=6)
    model(torch.rand(2, 3, 32, 32))
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert twin.adaptation.smoothness.penalty() == 0
    assert model.adaptation.smoothness.penalty() > 0
