"""Rate–distortion curves as a picture (lin2024 Fig. 11, with SSIM and 4:2:0 beside it)."""

import io
import itertools
from collections.abc import Sequence
from typing import Any, Literal

from etc_data.compression.coders import Jpeg, Sampling
from etc_data.compression.measurement import Measurement
from etc_data.errors import EtcError

_COLUMNS: dict[str, tuple[Sampling, ...]] = {
    "JPEG 4:4:4": ("4:4:4", "gray"),
    "JPEG 4:2:0": ("4:2:0",),
}
_ROWS = {"mean_psnr": "PSNR (dB)", "mean_ssim": "SSIM"}
_NO_METADATA: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "svg": {"Creator": None, "Date": None, "Format": None, "Type": None},
}


def check_matplotlib() -> None:
    """Checks that figures can be drawn.

    Raises:
        EtcError: matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise EtcError(f"figures need matplotlib: {error}", "pip install 'etc-data[audit]'") from None


def draw_curves(measurements: Sequence[Measurement], title: str) -> Any:
    """Returns a figure of PSNR and SSIM of decrypted images against bits per pixel.

    One curve a treatment, a column each for JPEG 4:4:4 and 4:2:0; gray images stand with 4:4:4, since
    their color is not sampled down.  The axis of bits is logarithmic.

    Args:
        measurements: with SSIM; those of lossless coders are left out.
        title: a line above.

    Raises:
        EtcError: matplotlib is not installed.
    """
    check_matplotlib()
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(one.treatment.name for one in measurements))
    styles = [{"color": "black", "linewidth": 2.5}, *_styles()]
    figure = Figure(figsize=(12, 9), layout="constrained")
    grid = figure.subplots(len(_ROWS), len(_COLUMNS), sharex=True, sharey="row", squeeze=False)
    for axes_row, field in zip(grid, _ROWS, strict=True):
        for axes, samplings in zip(axes_row, _COLUMNS.values(), strict=True):
            for name, style in zip(names, itertools.cycle(styles)):
                bits, values = _curve(measurements, name, samplings, field)
                axes.plot(bits, values, marker=".", label=name, **style)
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter("{x:g}")
            axes.grid(alpha=0.3, which="both")
        axes_row[0].set_ylabel(f"{_ROWS[field]} after decryption")
    for column, heading in enumerate(_COLUMNS):
        grid[0][column].set_title(heading)
        grid[-1][column].set_xlabel("bits per pixel")
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center")
    figure.suptitle(title)
    return figure


def _styles() -> list[dict[str, Any]]:
    """Returns ten colors, then the same ten dashed."""
    from matplotlib import color_sequences

    lines = itertools.product(("-", "--"), color_sequences["tab10"])
    return [{"linestyle": line, "color": color} for line, color in lines]


def _curve(
    measurements: Sequence[Measurement], name: str, samplings: Sequence[Sampling], field: str
) -> tuple[list[float], list[float]]:
    """Returns the points of one curve: bits per pixel, and the means of a field."""
    points = sorted(
        (float(one.bits_per_pixel.mean()), float(getattr(one, field)))
        for one in measurements
        if one.treatment.name == name
        and isinstance(one.coder, Jpeg)
        and one.coder.sampling in samplings
    )
    return [bits for bits, _ in points], [value for _, value in points]


def figure_bytes(figure: Any, form: Literal["png", "svg"]) -> bytes:
    """Returns a figure as a file without metadata; the same figure gives the same bytes."""
    import matplotlib

    file = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "etc-data"}):
        figure.savefig(file, format=form, dpi=120, metadata=_NO_METADATA[form])
    return file.getvalue()
