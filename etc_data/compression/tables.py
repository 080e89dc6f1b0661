"""Measurements as CSV: one row an image, or one row a coding.  Images are numbers, never names."""

import csv
import io
from collections.abc import Iterable, Sequence

from etc_data.compression.measurement import Measurement

_CODING = ("treatment", "coder", "quality")
_VALUES = ("bytes", "bits_per_pixel", "psnr_db", "ssim")


def image_rows(measurements: Sequence[Measurement]) -> str:
    """Returns a table of every image under every coding, with the image's number from 0."""
    rows = (
        (*_coding(one), number, *values)
        for one in measurements
        for number, values in enumerate(
            zip(
                one.bytes.tolist(),
                _decimals(one.bits_per_pixel),
                _decimals(one.psnr),
                _decimals(one.ssim),
                strict=True,
            )
        )
    )
    return _csv((*_CODING, "image", *_VALUES), rows)


def mean_rows(measurements: Sequence[Measurement]) -> str:
    """Returns a table of the means of every coding, and of how many images."""
    rows = (
        (
            *_coding(one),
            len(one.bytes),
            one.height,
            one.width,
            *_decimals((one.mean_bytes, one.bits_per_pixel.mean(), one.mean_psnr, one.mean_ssim)),
        )
        for one in measurements
    )
    return _csv((*_CODING, "images", "height", "width", *_VALUES), rows)


def _coding(measurement: Measurement) -> tuple[str, str, int | str]:
    quality = measurement.quality
    return measurement.treatment.name, measurement.coder.name, "" if quality is None else quality


def _decimals(values: Iterable[float]) -> tuple[str, ...]:
    return tuple(f"{value:.4f}" for value in values)


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return file.getvalue()
