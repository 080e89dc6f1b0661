"""CSV tables that tell no names, and figures that show every curve and hold no metadata."""

import csv
import io

import numpy as np
import pytest
from PIL import Image

from etc_data.compression.coders import Jpeg
from etc_data.compression.figures import draw_curves, figure_bytes
from etc_data.compression.lossless import Png
from etc_data.compression.measurement import measure
from etc_data.compression.tables import image_rows, mean_rows


@pytest.fixture(scope="module")
def measurements(treat, crops):
    return [
        measure(crops, treat(name), coder, with_ssim=True)
        for name, samplings in (
            ("plain", ("4:4:4", "4:2:0")),
            ("etc-16", ("4:4:4", "4:2:0")),
            ("etc-gray-8", ("gray",)),
        )
        for coder in (*(Jpeg(quality, one) for one in samplings for quality in (50, 80)), Png())
    ]


def test_tables_hold_what_was_measured(measurements):
    rows = list(csv.DictReader(io.StringIO(image_rows(measurements))))
    means = list(csv.DictReader(io.StringIO(mean_rows(measurements))))
    assert len(rows) == 3 * len(measurements)
    assert len(means) == len(measurements)
    assert {row["image"] for row in rows} == {"0", "1", "2"}
    for mean, one in zip(means, measurements, strict=True):
        own = [
            row
            for row in rows
            if all(row[field] == mean[field] for field in ("treatment", "coder", "quality"))
        ]
        assert [int(row["bytes"]) for row in own] == one.bytes.tolist()
        for field in ("bytes", "bits_per_pixel", "psnr_db", "ssim"):
            assert float(mean[field]) == pytest.approx(
                np.mean([float(row[field]) for row in own]), abs=1e-3
            )
        assert (mean["images"], mean["height"], mean["width"]) == ("3", "96", "128")
        assert mean["quality"] == ("" if one.quality is None else str(one.quality))


def test_figure_has_a_curve_for_every_treatment(measurements):
    pytest.importorskip("matplotlib")
    axes = draw_curves(measurements, "a title").get_axes()
    assert [one.get_title() for one in axes] == ["JPEG 4:4:4", "JPEG 4:2:0", "", ""]
    curves = {line.get_label(): line.get_xydata() for line in axes[0].get_lines()}
    assert list(curves) == ["plain", "etc-16", "etc-gray-8"]
    wanted = [
        (float(one.bits_per_pixel.mean()), one.mean_psnr)
        for one in measurements
        if (one.treatment.name, one.coder.name) == ("etc-16", "JPEG 4:4:4")
    ]
    assert curves["etc-16"] == pytest.approx(np.array(wanted))
    # Gray images have no color to sample down, and lossless codings are no curve.
    assert len(curves["etc-gray-8"]) == 2
    assert [len(line.get_xydata()) for line in axes[1].get_lines()] == [2, 2, 0]


def test_figure_files_repeat_and_hold_no_metadata(measurements):
    pytest.importorskip("matplotlib")
    files = [
        [figure_bytes(draw_curves(measurements, "a title"), form) for form in ("png", "svg")]
        for _ in range(2)
    ]
    assert files[0] == files[1]
    png, svg = files[0]
    with Image.open(io.BytesIO(png)) as image:
        assert set(image.info) <= {"dpi"}
    assert b"<metadata>" not in svg
