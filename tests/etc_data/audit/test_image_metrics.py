import numpy as np
import pytest

from etc_data.audit.image_metrics import psnr, ssim
from etc_data.errors import ImageError

metrics = pytest.importorskip("skimage.metrics")


@pytest.mark.parametrize("noise", [0, 3, 40])
def test_ssim_and_psnr_are_scikit_images(photos, noise):
    random = np.random.default_rng(0)
    images = photos[:3, :96]
    others = np.clip(images + random.normal(0, noise, images.shape), 0, 255).astype(np.uint8)
    wanted = [
        metrics.structural_similarity(
            a, b, channel_axis=2, gaussian_weights=True, use_sample_covariance=False, data_range=255
        )
        for a, b in zip(images, others, strict=True)
    ]
    assert ssim(images, others) == pytest.approx(wanted, abs=1e-9)
    if noise:
        wanted = [metrics.peak_signal_noise_ratio(a, b) for a, b in zip(images, others, strict=True)]
        assert psnr(images, others) == pytest.approx(wanted)
    else:
        assert np.isinf(psnr(images, others)).all()


def test_bad_input_is_named():
    with pytest.raises(ImageError, match="cannot be compared"):
        psnr(np.zeros((1, 16, 16, 3), np.uint8), np.zeros((1, 16, 8, 3), np.uint8))
    with pytest.raises(ImageError, match="SSIM needs 11 pixels"):
        ssim(np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, 8, 8, 3), np.uint8))
