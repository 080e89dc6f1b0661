"""From the bytes of any picture to an exact, upright 8-bit RGB image, and to the size wanted.

Exact means that every value follows from the file by a stated rule. What has no such rule, such as
floating-point pixels or one of several pages, is refused with its reason. ICC profiles are ignored:
values are taken as stored, as torchvision, timm and webdataset take them.
"""

import functools
import io
import os
from typing import BinaryIO, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile
from PIL.Image import Resampling, Transpose

from etc_data.codecs import pillow_reason, quiet_pillow
from etc_data.containers import check_png
from etc_data.errors import GeometryError, ImageError, UnreadableImageError
from etc_data.sources.item import read_file

PictureFile: TypeAlias = bytes | BinaryIO | str | os.PathLike[str]

_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
# Pillow knows these by name, but they are drawings, films or fields of measured values. Drawings
# would also start an outside program (Ghostscript).
_NO_PICTURES = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "PALM", "PDF", "WMF"}
_EIGHT_BIT_MODES = {"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr"}
_ALPHA_MODES = {"LA", "La", "PA", "RGBA", "RGBa"}
_SIXTEEN_BIT_MODES = {"I;16", "I;16B", "I;16L", "I"}
_DEPTHS_WITHOUT_KEY = {"L;2", "L;4", "RGB;16B"}  # raw modes of PNG
_TIFF_BITS, _TIFF_PHOTOMETRIC = 258, 262
_LARGEST_RESIZED = 1 << 26  # pixels; 256 MiB inside Pillow


@functools.cache
def picture_extensions() -> frozenset[str]:
    """Returns the file extensions, in lower case with their dot, that Pillow reads as pictures."""
    extensions = Image.registered_extensions().items()
    return frozenset(extension for extension, name in extensions if name not in _NO_PICTURES)


def load_rgb(file: PictureFile) -> Image.Image:
    """Returns a picture as an upright 8-bit RGB image without any metadata.

    The picture is decoded completely, turned as its EXIF orientation says, and converted:
    grayscale, palette, CMYK and YCbCr by Pillow's rules; 16-bit grayscale v to round(v · 255 /
    65535), never clipped; transparent pixels laid over white, c · α + 255 · (1 − α). Of a phone's
    multi-picture JPEG (MPO) the first picture is taken. ICC profiles are ignored.

    Suitable as `torchvision.datasets.ImageFolder(root, loader=load_rgb)`.

    Args:
        file: the bytes of the file, an open binary file (read from where it stands, left open), or
            a path.

    Raises:
        UnreadableImageError: the file is no picture, is empty, cut short or damaged, has more
            pixels than twice `PIL.Image.MAX_IMAGE_PIXELS`, is an animation or has several pages,
            or has pixels that no exact rule converts. The message does not tell the file's path.
            (Damage that leaves a JPEG scan of full length, libjpeg conceals; and a program that
            sets `PIL.ImageFile.LOAD_TRUNCATED_IMAGES` gets what it asked for.)

    Examples:
        >>> page = io.BytesIO()
        >>> Image.new("LA", (3, 2), (0, 128)).save(page, "PNG")
        >>> load_rgb(page.getvalue()).getpixel((0, 0))
        (127, 127, 127)
    """
    if isinstance(file, (str, os.PathLike)):
        data = read_file(file)
    else:
        data = file if isinstance(file, bytes) else file.read()
    if not data:
        raise UnreadableImageError("the file is empty")
    try:
        with quiet_pillow, Image.open(io.BytesIO(data)) as image:
            _check_form(image)
            if image.format == "PNG":
                check_png(data)
            image.load()
            rgb = _convert(image)
            turn = _turn(image)
    except (UnreadableImageError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        hint = "raise PIL.Image.MAX_IMAGE_PIXELS if the source is trusted"
        raise UnreadableImageError(pillow_reason(error), hint) from error
    except Exception as error:  # Pillow's plugins raise nearly every kind
        raise UnreadableImageError(f"cannot be read: {pillow_reason(error)}") from error
    if turn is not None:
        rgb = rgb.transpose(turn)
    rgb.info = {}
    return rgb


def resize_to(
    image: Image.Image, height: int, width: int, *, mode: Literal["crop", "exact"] = "crop"
) -> Image.Image:
    """Returns an RGB image of the size asked for, resampled once with an antialiased bicubic filter.

    Args:
        image: an RGB image.
        height: of the result, in pixels.
        width: of the result, in pixels.
        mode: "crop" keeps the shape: scales so that the image just covers (height, width), then
            crops around the center, for a square exactly as torchvision's `Resize(side, BICUBIC)`
            and `CenterCrop(side)` do. "exact" stretches.

    Returns:
        A new image, or the same object if it has the size already.

    Raises:
        GeometryError: a side is not positive, or the image is so narrow that its scaled form
            would take more than 256 MiB.
        ImageError: the image is not RGB.

    Examples:
        >>> resize_to(Image.new("RGB", (500, 375)), 224, 224).size
        (224, 224)
    """
    _check_rgb(image)
    if height < 1 or width < 1:
        raise GeometryError(f"size {height}×{width} is not positive; give both sides in pixels")
    own_width, own_height = image.size
    if mode == "exact":
        scaled = (width, height)
    elif mode != "crop":
        raise GeometryError(f"mode {mode!r} is unknown; use 'crop' or 'exact'")
    elif width * own_height >= height * own_width:
        scaled = (width, own_height * width // own_width)
    else:
        scaled = (own_width * height // own_height, height)
    if scaled[0] * scaled[1] > _LARGEST_RESIZED:
        raise GeometryError(
            f"image {own_height}×{own_width} scaled to cover {height}×{width} would be "
            f"{scaled[1]}×{scaled[0]}; crop it to a less narrow shape first"
        )
    # Pillow's box= would skip the part that is cropped off, but it rounds the filter's weights
    # anew, and the pixels would no longer be torchvision's.
    resized = image if image.size == scaled else image.resize(scaled, Resampling.BICUBIC)
    return _center_crop(resized, height, width)


def fit_to_grid(
    image: Image.Image, block_size: int, how: Literal["pad", "crop", "resize"]
) -> Image.Image:
    """Returns an RGB image whose sides are multiples of the block size.

    Args:
        image: an RGB image.
        block_size: pixels per side.
        how: "pad" repeats the last row and column at the bottom and right up to the next multiple;
            "crop" cuts down to the multiple around the center; "resize" scales to the nearest
            multiples (halfway up, at least one block) with an antialiased bicubic filter.

    Returns:
        A new image, or the same object if it fits already.

    Raises:
        GeometryError: the block size is not positive, or there is less than a block to crop.
        ImageError: the image is not RGB.

    Examples:
        >>> fit_to_grid(Image.new("RGB", (50, 33)), 16, "pad").size
        (64, 48)
    """
    _check_rgb(image)
    if block_size < 1:
        raise GeometryError(f"block_size {block_size} is not positive")
    width, height = image.size
    if width % block_size == 0 and height % block_size == 0:
        return image
    if how == "pad":
        missing = ((0, -height % block_size), (0, -width % block_size), (0, 0))
        return Image.fromarray(np.pad(np.asarray(image), missing, mode="edge"))
    if how == "crop":
        if min(width, height) < block_size:
            raise GeometryError(
                f"image {height}×{width} is smaller than one block of {block_size}; pad or resize it"
            )
        return _center_crop(image, height - height % block_size, width - width % block_size)
    if how == "resize":
        nearest = [
            max(1, (side + block_size // 2) // block_size) * block_size for side in (width, height)
        ]
        return image.resize((nearest[0], nearest[1]), Resampling.BICUBIC)
    raise GeometryError(f"how {how!r} is unknown; use 'pad', 'crop' or 'resize'")


def _check_form(image: ImageFile.ImageFile) -> None:
    """Refuses, before decoding, what is not one picture of pixels."""
    if image.format in _NO_PICTURES:
        raise UnreadableImageError(f"a file of type {image.format} holds no picture of pixels")
    if image.format != "MPO" and getattr(image, "is_animated", False):
        frames = getattr(image, "n_frames", "several")
        raise UnreadableImageError(
            f"it holds {frames} frames or pages, not a single picture; save one of them by itself"
        )
    raw_mode = image.tile[0].args if image.format == "PNG" and image.tile else None
    if "transparency" in image.info and raw_mode in _DEPTHS_WITHOUT_KEY:
        raise UnreadableImageError(
            "its transparent color is given at 2, 4 or 16 bits, which Pillow does not compare; "
            "save it with an alpha channel"
        )


def _turn(image: Image.Image) -> Transpose | None:
    """Returns what sets an image upright, None if it is or if its EXIF data cannot be read."""
    try:
        return _UPRIGHT.get(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # broken EXIF data leaves the pixels as good as ever; viewers ignore it too
        return None


def _convert(image: Image.Image) -> Image.Image:
    """Returns a new RGB image with the colors of any image."""
    mode = image.mode
    if mode in _SIXTEEN_BIT_MODES:
        return Image.fromarray(_eight_bits(image)).convert("RGB")
    if mode not in _EIGHT_BIT_MODES | _ALPHA_MODES:
        raise UnreadableImageError(
            f"color mode {mode} has no exact form in 8-bit RGB; convert the file first"
        )
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgb = Image.new("RGB", image.size, "white")
    rgba = image.convert("RGBA")
    rgb.paste(rgba, mask=rgba.getchannel("A"))
    return rgb


def _eight_bits(image: Image.Image) -> npt.NDArray[np.uint8]:
    """Returns 16-bit grayscale as uint8 [H, W]: round(v · 255 / white), transparent ones white."""
    values = np.asarray(image)
    tags = getattr(image, "tag_v2", {})
    white = 4095 if tags.get(_TIFF_BITS) == (12,) else 65535
    lowest, highest = int(values.min()), int(values.max())
    if lowest < 0 or highest > white:
        raise UnreadableImageError(
            f"grayscale values {lowest} to {highest} do not fit 0 to {white}; convert the file first"
        )
    # 510 · v + white is odd where white is, so nothing lies halfway and rounding is unambiguous.
    gray = ((values.astype(np.uint32) * 510 + white) // (2 * white)).astype(np.uint8)
    if tags.get(_TIFF_PHOTOMETRIC) == 0:  # white is zero; Pillow turns it around at 8 bits only
        gray = 255 - gray
    if "transparency" in image.info:
        gray[values == image.info["transparency"]] = 255
    return gray


def _check_rgb(image: Image.Image) -> None:
    if image.mode != "RGB":
        raise ImageError(f"image has the color mode {image.mode}, not RGB; read it with load_rgb")


def _center_crop(image: Image.Image, height: int, width: int) -> Image.Image:
    if image.size == (width, height):
        return image
    # round() goes to the even number at a half, as torchvision's CenterCrop does.
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))
