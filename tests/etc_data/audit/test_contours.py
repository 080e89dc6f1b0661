import numpy as np
import pytest

from etc_data.audit.contours import contour_agreement
from etc_data.errors import ImageError


def test_contours_know_neither_polarity_nor_color_order(photos):
    assert contour_agreement(photos[:3], photos[:3]) == pytest.approx(1)
    assert contour_agreement(photos[:3], 255 - photos[:3, ..., ::-1]) == pytest.approx(1)


def test_contours_of_different_shapes_are_refused(photos):
    with pytest.raises(ImageError, match="shapes"):
        contour_agreement(photos[:3], photos[:2])


def test_contours_of_strangers_do_not_agree(photos):
    assert abs(contour_agreement(photos[:24], np.roll(photos[:24], 7, axis=0)).mean()) < 0.2


def test_contours_show_through_coarse_blocks(photos):
    means = photos[:24].reshape(24, 32, 4, 32, 4, 3).mean(axis=(2, 4)).astype(np.uint8)
    coarse = means.repeat(4, axis=1).repeat(4, axis=2)
    assert contour_agreement(coarse, photos[:24]).mean() > 0.9


def test_flat_images_have_none():
    flat = np.full((2, 64, 64, 3), 7, np.uint8)
    assert (contour_agreement(flat, flat) == 0).all()
