"""The packages that etc-data is made of: is each there, new enough, and can it be imported."""

import importlib.metadata
import importlib.util
import re
from dataclasses import dataclass

import PIL

from etc_data.cli.children import ChildError, run_child
from etc_data.cli.findings import Finding


@dataclass(frozen=True)
class Part:
    """One package.

    Attributes:
        name: as `pip` knows it.
        module: as Python imports it.
        minimum: the oldest version that will do, as in pyproject.toml.
        purpose: what it is for; empty for what is always needed.
        extra: of etc-data, which installs it.
        probe: Python code that fails where the package does not work, and may answer what else
            there is to say; by default it imports the module.
        mend: how to mend it where it is there and does not work.
    """

    name: str
    module: str
    minimum: str
    purpose: str = ""
    extra: str = ""
    probe: str = ""
    mend: str = ""


_TORCHVISION_PROBE = """
from etc_data.torchvision_cpu import LIBRARY
if LIBRARY is not None:
    answer("made for another torch, mended by etc-data; nms and io, which it needs not, stay broken")
"""
_TURBO_PROBE = """
from etc_data.cli.engines import describe_turbo
answer(describe_turbo())
"""

NEEDED = (
    Part("torch", "torch", "2.6"),
    Part("torchvision", "torchvision", "0.21", probe=_TORCHVISION_PROBE),
    Part("timm", "timm", "1.0.31", probe="import etc_data.torchvision_cpu, timm"),
    Part("webdataset", "webdataset", "1.0"),
    Part("braceexpand", "braceexpand", "0.1.7"),
    Part("numpy", "numpy", "2"),
    Part("pillow", "PIL", "11", probe="import PIL.Image"),
    Part(
        "cryptography", "cryptography", "42", probe="from cryptography.hazmat.primitives import ciphers"
    ),
    Part("safetensors", "safetensors", "0.4"),
    Part("click", "click", "8.1"),
    Part("rich", "rich", "13"),
    Part("tqdm", "tqdm", "4.66"),
    Part("PyYAML", "yaml", "6"),
)

OPTIONAL = (
    Part(
        "PyTurboJPEG",
        "turbojpeg",
        "1.8",
        "codes JPEG about 15 % faster",
        "turbo",
        probe=_TURBO_PROBE,
        mend="it also needs libjpeg-turbo: apt install libturbojpeg0 (Ubuntu: libturbojpeg), or brew "
        "install jpeg-turbo; PyTurboJPEG 1.x takes libjpeg-turbo 2, PyTurboJPEG 2.x takes 3",
    ),
    Part("ray", "ray", "2.10", "encrypts on many machines", "ray"),
    Part("datasets", "datasets", "3", "reads Hugging Face data sets (hf:NAME)", "hf"),
    Part("aiohttp", "aiohttp", "3.9", "streams shards from http:// and https://", "http"),
    Part("s3fs", "s3fs", "2024.2", "streams shards from s3:// and writes them there", "s3"),
    Part("accelerate", "accelerate", "1.0", "trains on several devices", "train"),
    Part("tensorboard", "tensorboard", "2.16", "shows how training goes", "train"),
    Part("torchdata", "torchdata", "0.11", "resumes training inside an epoch", "train"),
    Part("matplotlib", "matplotlib", "3.8", "draws the figures of training and audit", "train"),
    Part("Jinja2", "jinja2", "3.1", "writes the page of the audit", "audit"),
    Part("scikit-image", "skimage", "0.24", "image metrics of the audit, photos of the demo", "audit"),
    Part("scipy", "scipy", "1.13", "statistics of the audit", "audit"),
    Part(
        "lpips",
        "lpips",
        "0.1.4",
        "audit --lpips compares pictures by it",
        "audit",
        "import etc_data.torchvision_cpu, lpips",
    ),
    Part("imagecodecs", "imagecodecs", "2024.9.22", "JPEG-LS, JPEG 2000 in compress-study", "codecs"),
    Part("scikit-learn", "sklearn", "1.5", "photos of the demo", "demo"),
)


def examine(part: Part) -> Finding:
    """Returns how a package is; it is imported in a process of its own."""
    wanted = f"etc-data[{part.extra}]" if part.extra else f"{part.name}>={part.minimum}"
    get = f"pip install '{wanted}'"
    spec = importlib.util.find_spec(part.module)
    if spec is None or spec.origin is None:  # a mere folder of that name has no origin
        return Finding(part.name, "missing", part.purpose or "not installed", get)
    version = _version(part)
    if version and _numbers(version) < _numbers(part.minimum):
        return Finding(part.name, "broken", f"{version} is older than {part.minimum}", get)
    try:
        answers = run_child(part.probe or f"import {part.module}")
    except ChildError as error:
        mend = part.mend or f"pip install --force-reinstall '{part.name}>={part.minimum}'"
        return Finding(part.name, "broken", f"{version}; {error}", mend)
    told = [version or "of unknown version", *answers, part.purpose]
    return Finding(part.name, "ok", "; ".join(filter(None, told)))


def _version(part: Part) -> str | None:
    if part.module == "PIL":  # pillow-simd, which takes its place, has another name
        return PIL.__version__
    try:
        return importlib.metadata.version(part.name)
    except Exception:  # a package may lack its metadata, or have it damaged in any way
        return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version.partition("+")[0])))
