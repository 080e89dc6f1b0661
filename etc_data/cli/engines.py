"""What does the work: pictures, JPEG, and the graphics card."""

import json
import platform
import re
import warnings
from pathlib import Path

import PIL
from PIL import features

from etc_data.cli.children import ChildError, run_child
from etc_data.cli.findings import Finding
from etc_data.cli.options import human_bytes
from etc_data.codecs import JpegCodec

_SIMD_HINT = "pip install --force-reinstall --no-deps pillow-simd resizes 6 to 9 times faster"
_TURBO_VERSION = re.compile(rb"libjpeg-turbo version (\d+\.\d+(?:\.\d+)?)")
_TURBO_PATH = re.compile(r"/.*/libturbojpeg\.so.*")
_CUDA_PROBE = """
from etc_data.cli.engines import describe_cuda
answer(describe_cuda())
"""


def find_pillow() -> Finding:
    """Returns which Pillow it is, and on which libraries it stands."""
    simd = ".post" in PIL.__version__  # only its releases are called so
    names = {"libjpeg_turbo": "libjpeg-turbo", "zlib_ng": "zlib-ng"}
    found = [f"{name} {features.version(key)}" for key, name in names.items() if features.check(key)]
    slow = "" if features.check("libjpeg_turbo") else "; JPEG without libjpeg-turbo is slow"
    detail = ", ".join([f"{'pillow-simd' if simd else 'Pillow'} {PIL.__version__}", *found]) + slow
    hint = _SIMD_HINT if not simd and platform.machine() in ("x86_64", "AMD64") else ""
    return Finding("images", "warning" if slow else "ok", detail, hint)


def find_jpeg(turbo: Finding) -> Finding:
    """Returns which engine codes JPEG, given what is known of PyTurboJPEG."""
    engine = "Pillow" if turbo.failed else "PyTurboJPEG, the same bytes as Pillow"
    return Finding("JPEG", "ok", engine)


def find_cuda() -> Finding:
    """Returns which graphics cards torch can use."""
    try:
        state, detail = json.loads(run_child(_CUDA_PROBE)[0])
    except ChildError as error:
        return Finding("CUDA", "broken", str(error))
    hint = "https://pytorch.org/get-started tells which torch fits the driver" if state != "ok" else ""
    return Finding("CUDA", state, detail, hint)


def describe_cuda() -> str:
    """Returns the state and detail of `find_cuda` as JSON."""
    import torch

    version = torch.version.cuda
    if version is None:
        return json.dumps(["missing", f"torch {torch.__version__} is built without it"])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
    if not available:
        # torch warns where there is a card but the driver does not suit it.
        reasons = [str(warning.message) for warning in caught]
        detail = f"torch is built for CUDA {version} and finds no card"
        return json.dumps(["warning" if reasons else "missing", "; ".join([detail, *reasons])])
    cards = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    named = [f"{card.name}, {human_bytes(card.total_memory)}" for card in cards]
    return json.dumps(["ok", "; ".join([f"CUDA {version}", *named])])


def describe_turbo() -> str:
    """Returns the library that PyTurboJPEG stands on.

    Raises:
        CodecError: PyTurboJPEG cannot be used.
    """
    JpegCodec(engine="turbo")
    maps = Path("/proc/self/maps")  # of Linux
    loaded = _TURBO_PATH.search(maps.read_text()) if maps.exists() else None
    if loaded is None:
        return "libjpeg-turbo of unknown version"
    version = _TURBO_VERSION.search(Path(loaded[0]).read_bytes())
    return f"libjpeg-turbo {version[1].decode() if version else 'of unknown version'} ({loaded[0]})"
