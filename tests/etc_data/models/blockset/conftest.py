"""Real photos, and models whose batch normalization has seen some."""

import numpy as np
import pytest
import torch
from PIL import Image

import etc_data.torchvision_cpu

# isort: split
import timm

import etc_data.models.blockset  # noqa: F401


@pytest.fixture(scope="session")
def photos(pictures):
    """Returns four photos, uint8 [4, 3, 64, 96]."""
    files = sorted((pictures / "kodak24").glob("*.png"))[:4]
    images = [
        Image.open(file).convert("RGB").resize((96, 64), Image.Resampling.BICUBIC) for file in files
    ]
    return torch.from_numpy(np.stack([np.array(image) for image in images])).permute(0, 3, 1, 2)


@pytest.fixture(scope="session")
def normalized():
    """Returns what turns bytes into the values that the models take, centered at 0."""
    return lambda images: images.float() / 127.5 - 1


@pytest.fixture(scope="session")
def ready(photos, normalized):
    """Returns what makes a model by its name that answers as a trained one: with spread-out logits."""

    def make(name, **changes):
        torch.manual_seed(0)
        model = timm.create_model(name, **changes)
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                torch.nn.init.xavier_uniform_(module.weight)
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None
        with torch.no_grad():
            model.train()(normalized(photos))
        return model.eval()

    return make
