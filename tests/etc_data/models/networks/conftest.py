"""Real images for the networks, and the file of CIFAR-10 they come from."""

import numpy as np
import pytest
import torch
from PIL import Image

import etc_data.torchvision_cpu  # noqa: F401


@pytest.fixture(scope="session")
def cifar(pictures):
    """The first 16 training images of CIFAR-10, float32 [16, 3, 32, 32] in [0, 1], and their labels."""
    sheet = np.asarray(Image.open(pictures / "cifar10" / "train_00.webp"))
    row = sheet[:32].reshape(32, 25, 32, 3)[:, :16].transpose(1, 3, 0, 2)
    with np.load(pictures / "cifar10" / "labels.npz") as labels:
        name = next(key for key in labels.files if "train" in key)
        numbers = labels[name][:16].astype(np.int64)
    return torch.from_numpy(row / np.float32(255)), torch.from_numpy(numbers)
