"""Measurements: the right numbers, and curves that rise."""

import numpy as np
import pytest

from etc_data import SecretKey
from etc_data.compression.coders import Jpeg, samplings
from etc_data.compression.lossless import Png
from etc_data.compression.measurement import BEST_PSNR, measure
from etc_data.compression.treatments import PLAIN, STUDIED, treatment
from etc_data.errors import GeometryError, SchemeError

BLOCKWISE = ("etc-16", "etc-8", "com-16", "ind-16", "com-16/8", "ind-16/8")
NOISE = ("shuffle-com-16", "shuffle-ind-16", "le-4", "ele-4")


@pytest.mark.parametrize("name", [PLAIN, "etc-16", "etc-gray-8"])
def test_numbers_are_those_of_the_files_and_of_scikit_image(name, treat, crops):
    metrics = pytest.importorskip("skimage.metrics")
    one, coder = treat(name), Jpeg(80, samplings(treat(name))[0])
    met = measure(crops, one, coder, with_ssim=True)
    for number, image in enumerate(crops):
        data = coder.encode(one.encrypt(image, number))
        restored = one.decrypt(coder.decode(data), number)
        error = np.mean(
            [(int(a) - int(b)) ** 2 for a, b in zip(image.flat, restored.flat, strict=True)]
        )
        assert met.bytes[number] == len(data)
        assert met.bits_per_pixel[number] == pytest.approx(len(data) * 8 / (96 * 128))
        assert met.psnr[number] == pytest.approx(20 * np.log10(255) - 10 * np.log10(error))
        assert met.psnr[number] == pytest.approx(metrics.peak_signal_noise_ratio(image, restored))
        _, places = metrics.structural_similarity(
            image,
            restored,
            channel_axis=2,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            full=True,
        )
        assert met.ssim[number] == pytest.approx(places[5:-5, 5:-5].mean(), abs=1e-6)
    assert met.mean_bytes == pytest.approx(met.bytes.mean())
    assert met.mean_psnr == pytest.approx(met.psnr.mean())


@pytest.mark.parametrize("name", [PLAIN, *STUDIED])
def test_quality_costs_bytes_and_gives_decibels(name, treat, crops):
    one = treat(name)
    sampling = samplings(one)[0]
    curve = [measure(crops, one, Jpeg(quality, sampling)) for quality in (50, 70, 85, 95)]
    assert all(np.diff([met.mean_bytes for met in curve]) > 0)
    assert all(np.diff([met.mean_psnr for met in curve]) > 0)


@pytest.mark.parametrize("name", BLOCKWISE)
def test_block_schemes_cost_little_and_others_much(name, treat, crops):
    coder = Jpeg(85, "4:4:4")
    plain = measure(crops, treat(PLAIN), coder)
    met = measure(crops, treat(name), coder)
    assert met.mean_bytes < 1.12 * plain.mean_bytes
    assert met.mean_psnr > plain.mean_psnr - 0.3


@pytest.mark.parametrize("name", NOISE)
def test_value_schemes_cost_much(name, treat, crops):
    coder = Jpeg(85, "4:4:4")
    plain = measure(crops, treat(PLAIN), coder)
    met = measure(crops, treat(name), coder)
    assert met.mean_bytes > 1.8 * plain.mean_bytes
    assert met.mean_psnr < plain.mean_psnr - 5


@pytest.mark.parametrize("name", [PLAIN, "etc-16", "ele-4", "pe"])
def test_without_loss_images_come_back_exactly(name, treat, crops):
    met = measure(crops, treat(name), Png(), with_ssim=True)
    assert (met.psnr == BEST_PSNR).all()
    assert met.ssim == pytest.approx(1)
    assert met.quality is None


def test_gray_planes_without_loss_lose_color_rounding_alone(treat, crops):
    met = measure(crops, treat("etc-gray-8"), Png())
    # A value is off by 0 or 1; if all were, the PSNR would be 48.13 dB.
    assert ((met.psnr > 48.13) & (met.psnr < BEST_PSNR)).all()


def test_cost_hardly_depends_on_the_key(crops):
    coder = Jpeg(85, "4:4:4")
    runs = [measure(crops, treatment("etc-16", SecretKey(bytes([n] * 32))), coder) for n in range(6)]
    sizes = np.array([run.mean_bytes for run in runs])
    assert sizes.std() < 0.01 * sizes.mean()
    assert np.std([run.mean_psnr for run in runs]) < 0.05


@pytest.mark.parametrize("name", STUDIED)
def test_every_image_has_draws_of_its_own(name, treat, crops):
    one, image = treat(name), crops[0]
    first, second = one.encrypt(image, 0), one.encrypt(image, 1)
    assert not np.array_equal(first, second)
    assert np.array_equal(first, one.encrypt(image, 0))
    assert np.abs(one.decrypt(second, 1).astype(int) - image).max() <= 1
    assert np.abs(one.decrypt(second, 0).astype(int) - image).mean() > 1


def test_step_is_called_after_each_image(treat, crops):
    calls = []
    measure(crops, treat(PLAIN), Png(), step=lambda: calls.append(1))
    assert len(calls) == len(crops)


def test_sizes_off_the_grid_are_refused(treat, crops):
    with pytest.raises(GeometryError):
        measure(crops[:, :90], treat("etc-16"), Png())


@pytest.mark.parametrize("name", ["bogus", "etc-0", "etc-gray-", ""])
def test_unknown_treatment_is_refused(name, treat):
    with pytest.raises(SchemeError, match="there is nothing called") as caught:
        treat(name)
    assert "etc-gray-8" in str(caught.value)


def test_only_what_the_command_writes_is_offered(treat):
    assert [name for name in (PLAIN, *STUDIED) if not treat(name).offered] == [PLAIN, "etc-gray-8"]
