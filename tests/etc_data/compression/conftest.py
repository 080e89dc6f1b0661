"""Small pieces of real photos, and real treatments of them."""

import numpy as np
import pytest
from PIL import Image

from etc_data import SecretKey
from etc_data.compression.treatments import treatment


@pytest.fixture(scope="session")
def crops(pictures):
    """Three lossless pieces of Kodak photos, uint8 [3, 96, 128, 3]."""
    files = sorted((pictures / "kodak24").glob("*.png"))[:9:4]
    if not files:
        pytest.skip("no Kodak photos")
    photos = (np.asarray(Image.open(file).convert("RGB")) for file in files)
    return np.stack([photo[200:296, 200:328] for photo in photos])


@pytest.fixture(scope="session")
def treat():
    """treat("etc-16") is the treatment of that name under a fixed key."""
    return lambda name: treatment(name, SecretKey(bytes(range(32))))
