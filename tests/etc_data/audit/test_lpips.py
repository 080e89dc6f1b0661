"""LPIPS with a network of random weights: the real ones cannot be downloaded by a test."""

import numpy as np
import pytest
import torch

import etc_data.torchvision_cpu  # noqa: F401

# isort: split
from etc_data import Cipher, SecretKey
from etc_data.audit.as_is import AsIs
from etc_data.audit.evidence import Ciphertexts
from etc_data.audit.judgment import Owner, judge
from etc_data.audit.lpips import Lpips
from etc_data.errors import EtcError, ImageError

package = pytest.importorskip("lpips")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    network = package.LPIPS(net="alex", pretrained=False, pnet_rand=True, verbose=False)
    state = {
        name: value.abs() if ".model." in name else value
        for name, value in network.state_dict().items()
    }
    path = tmp_path_factory.mktemp("lpips") / "alex.pth"
    torch.save(state, path)
    return path


def test_distance_grows_with_noise_and_is_zero_between_equals(weights, photos):
    metric = Lpips.load(weights)
    plain = photos[:4]
    noise = np.random.default_rng(0).normal(0, 1, plain.shape)
    distances = [
        metric(np.clip(plain + strength * noise, 0, 255).astype(np.uint8), plain)
        for strength in (0, 10, 60)
    ]
    assert (distances[0] == 0).all()
    assert (distances[0] < distances[1]).all()
    assert (distances[1] < distances[2]).all()
    network = metric.network
    pair = [
        torch.from_numpy(x.transpose(2, 0, 1)[None] / 127.5 - 1).float() for x in (plain[0], plain[1])
    ]
    with torch.inference_mode():
        wanted = float(network(*pair))
    assert metric(plain[:1], plain[1:2]) == pytest.approx([wanted], rel=1e-5)


def test_findings_are_judged_by_it_too(weights, photos):
    cipher = Cipher("com-16", SecretKey(bytes(32)))
    attack = AsIs(2)
    restoration = attack.run(Ciphertexts(cipher.scheme, "dataset", cipher.encrypt(photos[:2])))
    with_it = Owner(cipher, photos[:2], lpips=Lpips.load(weights))
    assert judge(attack, restoration, cipher.scheme, "dataset", with_it).scores["lpips"] > 0
    without = judge(attack, restoration, cipher.scheme, "dataset", Owner(cipher, photos[:2]))
    assert "lpips" not in without.scores


def test_pictures_too_small_for_its_network_are_judged_without_it(weights, photos):
    small = np.ascontiguousarray(photos[:2, :16, :16])
    cipher = Cipher("com-16", SecretKey(bytes(32)))
    restoration = AsIs(2).run(Ciphertexts(cipher.scheme, "dataset", cipher.encrypt(small)))
    owner = Owner(cipher, small, lpips=Lpips.load(weights))
    finding = judge(AsIs(2), restoration, cipher.scheme, "dataset", owner)
    assert "lpips" not in finding.scores
    assert finding.scores["ssim"] > 0


def test_other_files_and_shapes_are_refused(tmp_path, weights, photos):
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("no weights")
    for name in ("other.pth", "text.pth", "none.pth"):
        with pytest.raises(EtcError, match="holds no weights of LPIPS"):
            Lpips.load(tmp_path / name)
    with pytest.raises(ImageError, match="cannot be compared"):
        Lpips.load(weights)(photos[:1], photos[:1, :64])
