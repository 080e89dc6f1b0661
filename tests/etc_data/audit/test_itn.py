import numpy as np
import pytest
import torch

from etc_data.audit.contours import contour_agreement
from etc_data.audit.evidence import Ciphertexts, CiphertextsAndOwnImages
from etc_data.audit.itn import InverseTransformationNetwork
from etc_data.audit.itn_network import PixelNetwork, block_network
from etc_data.audit.judgment import Owner, judge
from etc_data.cipher import Cipher
from etc_data.errors import ImageError
from etc_data.keys import SecretKey


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def own(cifar_images):
    """The attacker's images: 600 that the owner does not have, uint8 [600, 32, 32, 3]."""
    return cifar_images("train_02", 600)


@pytest.fixture(scope="module")
def attack_on(own, small_photos):
    """attack_on("pe", attack) gives the finding, and the pictures as the network gave them."""

    def run(scheme, attack):
        images = small_photos[:24]
        cipher = Cipher(scheme, SecretKey(bytes(range(32))), key_scope="image")
        random = np.random.default_rng(0)
        nonces = [cipher.new_nonce(random) for _ in images]
        hidden = Ciphertexts(cipher.scheme, "image", cipher.encrypt(images, nonce=nonces))
        restoration = attack.run(CiphertextsAndOwnImages(hidden, own))
        owner = Owner(cipher, images, nonces)
        return judge(attack, restoration, cipher.scheme, "image", owner), restoration.images

    return run


def test_pictures_emerge_from_pixelwise_encryption_under_keys_never_met(attack_on, small_photos):
    losses = []
    attack = InverseTransformationNetwork(epochs=3, progress=lambda _, loss: losses.append(loss))
    finding, pictures = attack_on("pe", attack)
    assert finding.success
    assert finding.scores["ssim"] > 0.2
    assert finding.scores["gain"] > 0.05
    assert contour_agreement(pictures, small_photos[:24]).mean() > 0.3
    assert len(losses) == 3
    assert losses[2] < losses[0]


@pytest.mark.parametrize("scheme", ["ele-4", "etc-4"])
def test_scrambled_blocks_withstand_it(attack_on, small_photos, scheme):
    finding, pictures = attack_on(scheme, InverseTransformationNetwork(epochs=5))
    assert not finding.success
    assert finding.scores["ssim"] < 0.17
    assert finding.scores["gain"] < 0.02
    assert contour_agreement(pictures, small_photos[:24]).mean() < 0.1


def test_the_same_seed_gives_the_same_pictures(attack_on):
    def pictures(seed):
        return attack_on("le-4", InverseTransformationNetwork(epochs=1, keys=10, seed=seed))[1]

    assert np.array_equal(pictures(1), pictures(1))
    assert not np.array_equal(pictures(1), pictures(2))


def test_the_block_network_is_the_published_one():
    shapes = [
        tuple(parameter.shape) for parameter in block_network(4).parameters() if parameter.ndim == 4
    ]
    assert shapes == [(48, 3, 4, 4), (48, 48, 1, 1), (512, 48, 1, 1), (3, 32, 1, 1)]


@pytest.mark.parametrize("size", [(32, 32), (9, 13)])
def test_the_pixel_network_sees_nothing_that_the_key_decides(size):
    torch.manual_seed(0)
    network = PixelNetwork().eval()
    images = 2 * torch.rand(2, 3, *size) - 1
    signs = torch.randint(0, 2, images.shape) * 2 - 1
    hidden = (signs * images)[:, torch.randperm(3)]
    with torch.inference_mode():
        assert network(images).shape == images.shape
        assert torch.equal(network(hidden), network(images))


def test_own_images_must_be_enough_and_of_the_same_size(own, small_photos):
    hidden = Ciphertexts(Cipher("pe", SecretKey(bytes(32))).scheme, "image", small_photos[:4])
    for images in (own[:8], own[:, :16]):
        with pytest.raises(ImageError, match="own images"):
            InverseTransformationNetwork().run(CiphertextsAndOwnImages(hidden, images))


@pytest.mark.gpu
def test_a_gpu_trains_it_too(attack_on):
    attack = InverseTransformationNetwork(epochs=2, device="cuda")
    assert attack_on("pe", attack)[0].scores["gain"] > 0
