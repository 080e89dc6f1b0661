"""Real photos where there are any, in the sizes that the attacks are tried at."""

import numpy as np
import pytest
from PIL import Image

from etc_data import Cipher, SecretKey
from etc_data.audit.evidence import Ciphertexts
from etc_data.audit.judgment import Owner, judge
from etc_data.sources.images import load_rgb, resize_to


@pytest.fixture(scope="session")
def photos(pictures):
    """40 photos of all ten classes, uint8 [40, 128, 128, 3]."""
    files = sorted((pictures / "imagenette224" / "train").glob("*/*"))[::25][:40]
    return np.stack([np.asarray(resize_to(load_rgb(file.read_bytes()), 128, 128)) for file in files])


@pytest.fixture(scope="session")
def cifar_images(pictures):
    """cifar_images("train_00", 200) gives the first of a sheet, uint8 [200, 32, 32, 3]."""

    def read(name, count):
        sheet = np.asarray(Image.open(pictures / "cifar10" / f"{name}.webp").convert("RGB"))
        rows, columns = sheet.shape[0] // 32, sheet.shape[1] // 32
        tiles = sheet.reshape(rows, 32, columns, 32, 3).transpose(0, 2, 1, 3, 4)
        return tiles.reshape(-1, 32, 32, 3)[:count].copy()

    return read


@pytest.fixture(scope="session")
def small_photos(cifar_images):
    """The first 200 images of CIFAR-10, uint8 [200, 32, 32, 3]."""
    return cifar_images("train_00", 200)


@pytest.fixture(scope="session")
def find():
    """find(attack, images, "etc-16", scope) encrypts images, attacks them and gives the finding."""

    def run(attack, images, scheme, scope="dataset", *, coded=None, seed=0):
        random = np.random.default_rng(seed)
        cipher = Cipher(scheme, SecretKey(random.bytes(32)), key_scope=scope)
        nonces = [cipher.new_nonce(random) for _ in images] if scope == "image" else None
        encrypted = cipher.encrypt(images, nonce=nonces)
        if coded is not None:
            encrypted = np.stack([coded(image) for image in encrypted])
        restoration = attack.run(Ciphertexts(cipher.scheme, scope, encrypted))
        owner = Owner(cipher, images[:4], (nonces or [])[:4])
        return judge(attack, restoration, cipher.scheme, scope, owner)

    return run
