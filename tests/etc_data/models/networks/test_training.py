"""Every network learns: a few steps on real images bring the loss down."""

import math

import pytest
import timm
import torch
import torch.nn.functional as F

import etc_data.models  # noqa: F401
from etc_data.models.penalties import penalty

SMALL = {
    "etc_convmixer_256_8_p1": {"depth": 1, "dim": 64},
    "etc_convmixer_256_8_p4": {"depth": 1},
    "etc_convmixer_256_8_p4_adaptive": {"depth": 1},
    "etc_pyramidnet110_a270": {"depth": 20, "alpha": 24},
    "etc_pyramidnet110_a270_ele": {"depth": 20, "alpha": 24},
    "etc_pyramidnet110_a270_le": {"depth": 20, "alpha": 24},
    "etc_resnet18_32": {"layers": (1, 1, 1, 1)},
    "etc_vit_tiny_patch16_224": {"depth": 2, "img_size": 32},
}
LARGE = [
    "etc_convmixer_256_8_p1",
    "etc_convmixer_256_8_p4",
    "etc_convmixer_256_8_p4_adaptive",
    "etc_convmixer_256_8_p8",
    "etc_convmixer_256_8_p16",
    "etc_convmixer_384_8_p4",
    "etc_convmixer_384_8_p8",
    "etc_convmixer_384_8_p16",
    "etc_convmixer_512_16_p8",
    "etc_convmixer_512_16_p16",
    "etc_convmixer_512_16_p16_adaptive",
    "etc_convmixer_768_32_p16",
    "etc_pyramidnet110_a270",
    "etc_pyramidnet110_a270_ele",
    "etc_pyramidnet110_a270_le",
    "etc_resnet18_32",
    "etc_vit_tiny_patch16_224",
    "etc_vit_small_patch16_224",
    "etc_vit_base_patch16_224",
]


def losses(model, images, labels, steps, rate):
    """The loss before each step."""
    optimizer = torch.optim.AdamW(model.parameters(), rate)
    found = []
    for _ in range(steps):
        loss = F.cross_entropy(model(images), labels) + penalty(model)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


def normalized(model, images):
    mean, std = model.pretrained_cfg["mean"][0], model.pretrained_cfg["std"][0]
    return (images - mean) / std


@pytest.mark.parametrize("name", SMALL)
def test_the_loss_falls(name, cifar):
    images, labels = cifar
    torch.manual_seed(0)
    model = timm.create_model(name, **SMALL[name])
    found = losses(model, normalized(model, images), labels, 8, 3e-3)
    assert all(map(math.isfinite, found))
    assert sum(found[-3:]) / 3 < 0.9 * found[0]
    assert all(weight.grad is not None for weight in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_the_loss_of_the_whole_network_falls(name, cifar):
    images, labels = cifar
    torch.manual_seed(0)
    model = timm.create_model(name)
    side = model.pretrained_cfg["input_size"][1]
    images = F.interpolate(normalized(model, images)[:4], side, mode="bicubic")
    found = losses(model, images, labels[:4], 6, 3e-4)
    assert min(found[-2:]) < 0.9 * found[0]


@pytest.mark.parametrize("name", SMALL)
def test_mixed_precision(name, cifar):
    images, labels = cifar
    model = timm.create_model(name, **SMALL[name])
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(normalized(model, images))
        loss = F.cross_entropy(logits, labels) + penalty(model)
    assert logits.dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    loss.backward()
    assert all(weight.grad.isfinite().all() for weight in model.parameters())
