"""Real photos, and small networks of every kind that model encryption knows, with random weights."""

from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import etc_data.torchvision_cpu  # noqa: F401
from etc_data import SecretKey

# isort: split
from timm.models.convmixer import ConvMixer
from timm.models.deit import VisionTransformerDistilled
from timm.models.mlp_mixer import MlpMixer, ResBlock
from timm.models.vision_transformer import VisionTransformer

SIDE = 64


@pytest.fixture(scope="session")
def key():
    return SecretKey(bytes(range(32)))


@pytest.fixture(scope="session")
def other_key():
    return SecretKey(bytes(range(1, 33)))


@pytest.fixture(scope="session")
def large_photos(pictures):
    """Eight photos of as many classes, uint8 [8, 3, 224, 224]."""
    paths = [sorted(place.iterdir())[0] for place in sorted((pictures / "imagenette224/val").glob("*"))]
    arrays = [np.asarray(Image.open(path).convert("RGB")) for path in paths[:8]]
    return torch.from_numpy(np.stack(arrays)).movedim(-1, 1).contiguous()


@pytest.fixture(scope="session")
def photos(large_photos):
    """The middles of the photos, uint8 [8, 3, 64, 64]."""
    return large_photos[..., 80 : 80 + SIDE, 80 : 80 + SIDE].contiguous()


class UnfoldedNet(nn.Module):
    """A patch embedding as a linear layer, over values in the order (row, column, color)."""

    def __init__(self, patch: int = 16, side: int = SIDE) -> None:
        super().__init__()
        self.patch = patch
        self.embed = nn.Linear(3 * patch * patch, 24)
        self.head = nn.Linear(24 * (side // patch) ** 2, 10)

    def forward(self, image):
        batch, colors, height, width = image.shape
        size = self.patch
        cut = image.reshape(batch, colors, height // size, size, width // size, size)
        patches = cut.permute(0, 2, 4, 3, 5, 1).reshape(batch, -1, size * size * colors)
        return self.head(torch.tanh(self.embed(patches)).flatten(1))


_VIT = {
    "img_size": SIDE,
    "patch_size": 16,
    "embed_dim": 32,
    "depth": 2,
    "num_heads": 2,
    "num_classes": 10,
}
_TRANSFORMERS = {
    "vit": partial(VisionTransformer, **_VIT),
    "vit/8": partial(VisionTransformer, **{**_VIT, "patch_size": 8}),
    "deit3": partial(VisionTransformer, **_VIT, no_embed_class=True, init_values=0.1, reg_tokens=4),
    "clip": partial(VisionTransformer, **_VIT, pre_norm=True),  # no bias in its patch embedding
    "siglip": partial(VisionTransformer, **_VIT, class_token=False, global_pool="map"),
    "no positions": partial(VisionTransformer, **_VIT, pos_embed="none", global_pool="avg"),
    "deit": partial(VisionTransformerDistilled, **_VIT),
}
_OTHERS = {
    "convmixer": partial(ConvMixer, 32, 2, 5, 16, num_classes=10),
    "mixer": partial(MlpMixer, 10, SIDE, patch_size=16, num_blocks=2, embed_dim=32),
    "resmlp": partial(
        MlpMixer, 10, SIDE, patch_size=16, num_blocks=2, embed_dim=32, block_layer=ResBlock, mlp_ratio=4
    ),
    "unfolded": UnfoldedNet,
}
TRANSFORMERS, OTHERS = tuple(_TRANSFORMERS), tuple(_OTHERS)


def pytest_generate_tests(metafunc):
    """Runs a test for every kind of network where it asks for their names."""
    for argument, names in (("transformer", TRANSFORMERS), ("other_network", OTHERS)):
        if argument in metafunc.fixturenames:
            metafunc.parametrize(argument, names)


def lively(model: nn.Module) -> nn.Module:
    """Gives every weight, zero or not, noise, so that each part of a network has its say."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale = 0.5 if name in ("pos_embed", "cls_token") else 0.1
            parameter += scale * torch.randn(
                parameter.shape, generator=generator, dtype=parameter.dtype
            )
    return model.eval()


@pytest.fixture(scope="session")
def make():
    """make("vit") gives a small network of that kind in evaluation mode."""

    def network(kind: str, **changes) -> nn.Module:
        torch.manual_seed(0)
        return lively((_TRANSFORMERS | _OTHERS)[kind](**changes))

    return network


@pytest.fixture(scope="session")
def enliven():
    return lively


NORMALIZATIONS = {
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "uneven": ((0.1, 0.5, 0.9), (0.1, 0.5, 2.0)),
}


@pytest.fixture(params=list(NORMALIZATIONS))
def normalization(request):
    """mean= and std= of a model's input."""
    mean, std = NORMALIZATIONS[request.param]
    return {"mean": mean, "std": std}


@pytest.fixture(scope="session")
def half():
    mean, std = NORMALIZATIONS["half"]
    return {"mean": mean, "std": std}


@pytest.fixture(scope="session")
def imagenet():
    mean, std = NORMALIZATIONS["imagenet"]
    return {"mean": mean, "std": std}


@pytest.fixture(scope="session")
def answer():
    """answer(model, photos, normalization) gives the logits for uint8 photos."""

    def logits(model: nn.Module, images, normalization, dtype=torch.float64):
        mean, std = (
            torch.tensor(normalization[name], dtype=torch.float64)[:, None, None]
            for name in ("mean", "std")
        )
        with torch.inference_mode():
            return model(((images.double() / 255 - mean) / std).to(dtype)).double()

    return logits
