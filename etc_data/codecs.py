"""Codes 8-bit RGB arrays as JPEG and PNG, and reads them back.

The bytes depend on the array and the codec alone, not on the engine: PyTurboJPEG is used only
after it has shown that it writes and reads what Pillow writes and reads, and what it cannot read
is left to Pillow's judgment.
"""

import functools
import importlib.metadata
import io
import itertools
import threading
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import PIL
from PIL import Image, UnidentifiedImageError, features

from etc_data.containers import JPEG_START, PNG_START, check_png, neither
from etc_data.errors import CodecError

Array: TypeAlias = npt.NDArray[np.uint8]
Subsampling = Literal["4:4:4", "4:2:2", "4:2:0"]
Engine = Literal["auto", "pillow", "turbo"]

_JPEG_LIMIT = 65500  # pixels per side; libjpeg's own limit, below the format's 65535
_PNG_LIMIT = 2**31 - 1


@dataclass(frozen=True)
class JpegCodec:
    """Encodes images as baseline JPEG files with standard Huffman tables and no metadata.

    4:4:4 is the default because an EtC image loses 1.5 to 4.6 dB to subsampled color.

    Attributes:
        quality: libjpeg's scale, 1–100.
        subsampling: "4:4:4", "4:2:2" or "4:2:0".
        engine: who does the work: "pillow", "turbo" (PyTurboJPEG, about 15 % faster), or "auto",
            turbo where it is installed. The bytes are the same; codecs that differ only here are
            equal.

    Raises:
        CodecError: a value is out of range, or the engine asked for by name cannot be used.

    Examples:
        >>> data = JpegCodec(quality=90).encode(np.zeros((32, 48, 3), np.uint8))
        >>> decode(data).shape
        (32, 48, 3)
    """

    quality: int = 95
    subsampling: Subsampling = "4:4:4"
    engine: Engine = field(default="auto", compare=False)

    extension: ClassVar[str] = "jpg"

    def __post_init__(self) -> None:
        _check_integer("JPEG quality", self.quality, 1, 100)
        if self.subsampling not in get_args(Subsampling):
            raise CodecError(
                f"JPEG subsampling {self.subsampling!r} is unknown; use 4:4:4, 4:2:2 or 4:2:0"
            )
        if self.engine != "auto":  # which is settled at the first image
            _turbo_for(self.engine)

    def encode(self, image: npt.NDArray[Any]) -> bytes:
        """Returns the JPEG file of an image.

        Args:
            image: uint8 [H, W, 3], RGB, 0–255, sides up to 65,500 pixels. It is read where it
                lies; only an array that is not C-contiguous is copied.

        Raises:
            CodecError: the array has another type or shape.
        """
        _check_image(image, _JPEG_LIMIT)
        turbo = _turbo_for(self.engine)
        if turbo is not None:
            return turbo.encode(image, self.quality, self.subsampling)
        return _pillow_jpeg(image, self.quality, self.subsampling)

    def describe(self) -> dict[str, str | int]:
        """Returns what a manifest records: all that decides the bytes, ready for JSON."""
        return {"name": "jpeg", "quality": self.quality, "subsampling": self.subsampling}


@dataclass(frozen=True)
class PngCodec:
    """Encodes images as PNG files, without loss and without metadata.

    The pixels come back exactly everywhere. The bytes repeat as long as Pillow is linked to the
    same deflate library (its wheels bring zlib-ng).

    Attributes:
        compress_level: zlib's scale, 0 (stored) – 9 (smallest).

    Raises:
        CodecError: the level is out of range.

    Examples:
        >>> image = np.arange(2 * 4 * 3, dtype=np.uint8).reshape(2, 4, 3)
        >>> np.array_equal(decode(PngCodec().encode(image)), image)
        True
    """

    compress_level: int = 6

    extension: ClassVar[str] = "png"

    def __post_init__(self) -> None:
        _check_integer("PNG compress_level", self.compress_level, 0, 9)

    def encode(self, image: npt.NDArray[Any]) -> bytes:
        """Returns the PNG file of an image, given as in `JpegCodec.encode`, of any size."""
        _check_image(image, _PNG_LIMIT)
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG", compress_level=self.compress_level)
        return file.getvalue()

    def describe(self) -> dict[str, str | int]:
        """Returns what a manifest records: all that decides the pixels and bytes, for JSON."""
        return {"name": "png", "compress_level": self.compress_level}


Codec: TypeAlias = JpegCodec | PngCodec


def codec_from_dict(description: Mapping[str, Any]) -> Codec:
    """Returns the codec that `Codec.describe` described.

    Raises:
        CodecError: the name is unknown, or the fields are not exactly those of that codec.

    Examples:
        >>> codec_from_dict({"name": "jpeg", "quality": 90, "subsampling": "4:4:4"})
        JpegCodec(quality=90, subsampling='4:4:4', engine='auto')
    """
    fields = dict(description)
    name = fields.pop("name", None)
    codecs: dict[str, type[Codec]] = {"jpeg": JpegCodec, "png": PngCodec}
    if not isinstance(name, str) or name not in codecs:
        raise CodecError(f"codec {name!r} is unknown; use 'jpeg' or 'png'")
    known = codecs[name]().describe().keys() - {"name"}
    if fields.keys() != known:
        met = sorted(map(str, fields))
        raise CodecError(f"a {name} codec has the fields {sorted(known)}, met {met}")
    return codecs[name](**fields)


def decode(data: bytes, *, engine: Engine = "auto") -> Array:
    """Returns the pixels of a JPEG or PNG file: a new, writable uint8 array [H, W, 3], RGB, 0–255.

    It reads what the codecs here write, and grayscale as three equal components. Photos need
    `etc_data.sources.load_rgb`, which turns them upright. Every engine gives the same pixels and
    refuses the same files. libjpeg conceals damage that leaves a scan its length: shards have
    hashes for that.

    Args:
        data: the whole file.
        engine: as in `JpegCodec`; PNG files are always read by Pillow.

    Raises:
        CodecError: the data is no such file, cut short or damaged, not 8-bit RGB or grayscale, or
            larger than twice `PIL.Image.MAX_IMAGE_PIXELS`.
    """
    if data.startswith(JPEG_START):
        turbo = _turbo_for(engine)
        pixels = turbo.decode(data) if turbo is not None else None
        return _pillow_pixels(data, "JPEG") if pixels is None else pixels
    if data.startswith(PNG_START):
        check_png(data)
        return _pillow_pixels(data, "PNG")
    raise CodecError(neither(data))


def available_engines() -> dict[str, str]:
    """Returns the JPEG engines that can be used here, each with its versions."""
    library = features.version("libjpeg_turbo")
    coder = f"libjpeg-turbo {library}" if library else f"libjpeg {features.version('jpg')}"
    engines = {"pillow": f"Pillow {PIL.__version__}, {coder}"}
    if not isinstance(_turbo(), str):
        engines["turbo"] = f"PyTurboJPEG {importlib.metadata.version('PyTurboJPEG')}"
    return engines


class QuietPillow:
    """Silences Python warnings while Pillow reads a file; a context manager that threads may share.

    Pillow warns of odd metadata, which we drop, and of large images, which are not an error.
    `warnings.catch_warnings` alone would race: threads that leave in another order than they
    entered would leave the filters of the whole process changed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readers = 0
        self._filters = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._readers == 0:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.simplefilter("ignore")
            self._readers += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._readers -= 1
            if self._readers == 0:
                self._filters.__exit__(None, None, None)


quiet_pillow = QuietPillow()


def pillow_reason(error: Exception) -> str:
    """Returns why Pillow could not read a file, in one line that names no file and no address."""
    if isinstance(error, UnidentifiedImageError):
        return "it is no picture of a format that Pillow reads, or its head is damaged"
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


class _Turbo:
    """PyTurboJPEG, held to what Pillow does."""

    def __init__(self) -> None:
        import turbojpeg

        class Strict(turbojpeg.TurboJPEG):
            """Raises where 1.x would only warn and return an array that is half unset."""

            def _TurboJPEG__report_error(self, handle: object) -> None:  # noqa: N802
                raise OSError(self._TurboJPEG__get_error_string(handle))

        self._coder = Strict()
        self._rgb = turbojpeg.TJPF_RGB
        codes = (turbojpeg.TJSAMP_444, turbojpeg.TJSAMP_422, turbojpeg.TJSAMP_420)
        self._subsamplings = dict(zip(get_args(Subsampling), codes, strict=True))
        # libjpeg's exact integer DCT, as Pillow uses it; TurboJPEG's default below quality 96 is
        # a faster, rougher one.
        self._encoding = turbojpeg.TJFLAG_ACCURATEDCT
        self._decoding = turbojpeg.TJFLAG_ACCURATEDCT | turbojpeg.TJFLAG_STOPONWARNING
        self._prove()

    def encode(self, image: Array, quality: int, subsampling: Subsampling) -> bytes:
        code = self._subsamplings[subsampling]
        return bytes(self._coder.encode(image, quality, self._rgb, code, self._encoding))

    def decode(self, data: bytes) -> Array | None:
        """Returns the pixels, or None for a file that Pillow has to judge."""
        try:
            width, height, *_ = self._coder.decode_header(data)
            limit = Image.MAX_IMAGE_PIXELS
            if limit is not None and width * height > 2 * limit:
                return None
            pixels: Array = self._coder.decode(data, pixel_format=self._rgb, flags=self._decoding)
        except (OSError, ValueError):
            return None
        return pixels

    def _prove(self) -> None:
        # Builds differ: forks of libjpeg-turbo, a Pillow on another libjpeg, coding options from
        # environment variables. A picture of odd size tells whether this pair agrees.
        image = np.random.default_rng(0).integers(0, 256, (37, 29, 3), np.uint8)
        for quality, subsampling in itertools.product((30, 95), get_args(Subsampling)):
            data = _pillow_jpeg(image, quality, subsampling)
            if self.encode(image, quality, subsampling) != data:
                raise CodecError("it writes other bytes than Pillow")
            pixels = self.decode(data)
            if pixels is None or not np.array_equal(pixels, _pillow_pixels(data, "JPEG")):
                raise CodecError("it reads other pixels than Pillow")
            if self.decode(data[: len(data) // 2]) is not None:
                raise CodecError("it does not report files that are cut short")


@functools.cache
def _turbo() -> _Turbo | str:
    """Returns the engine, tried once in a process, or the reason why it cannot be used."""
    try:
        return _Turbo()
    except Exception as error:  # a native library fails to load in many ways
        return str(error) or type(error).__name__


def _turbo_for(engine: Engine) -> _Turbo | None:
    """Returns the engine if it is wanted and there, None if Pillow is to work."""
    if engine == "pillow":
        return None
    if engine not in get_args(Engine):
        raise CodecError(f"JPEG engine {engine!r} is unknown; use auto, pillow or turbo")
    turbo = _turbo()
    if not isinstance(turbo, str):
        return turbo
    if engine == "turbo":
        raise CodecError(
            f"JPEG engine 'turbo' cannot be used: {turbo}",
            hint="install PyTurboJPEG and the system library libturbojpeg, or use engine 'auto'",
        )
    return None


def _pillow_jpeg(image: Array, quality: int, subsampling: Subsampling) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling=subsampling)
    return file.getvalue()


def _pillow_pixels(data: bytes, name: Literal["JPEG", "PNG"]) -> Array:
    try:
        with quiet_pillow, Image.open(io.BytesIO(data), formats=(name,)) as image:
            image.load()
            mode = image.mode
            # np.array, not asarray: the view of a Pillow image cannot be written to.
            pixels: Array = np.array(image.convert("RGB") if mode == "L" else image)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's plugins raise nearly every kind
        reason = pillow_reason(error)
        raise CodecError(f"{name} data of {len(data)} bytes cannot be read: {reason}") from error
    if mode not in ("L", "RGB"):
        raise CodecError(f"{name} data of color mode {mode} is not one of ours; use 8-bit RGB")
    return pixels


def _check_integer(name: str, value: object, lowest: int, highest: int) -> None:
    if type(value) is not int or not lowest <= value <= highest:
        raise CodecError(f"{name} {value!r} is not an integer in {lowest}–{highest}")


def _check_image(image: npt.NDArray[Any], limit: int) -> None:
    if not isinstance(image, np.ndarray):
        raise CodecError(f"image is a {type(image).__name__}, not a NumPy array uint8 [H, W, 3]")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise CodecError(f"image is {image.dtype} {list(image.shape)}, not uint8 [H, W, 3]")
    height, width, _ = image.shape
    if not (1 <= height <= limit and 1 <= width <= limit):
        raise CodecError(f"image of {height}×{width} pixels; sides must be in 1–{limit}")
