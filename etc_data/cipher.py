"""`Cipher`: a scheme and a key together, the face of the library for images.

It takes PIL images, NumPy arrays and torch tensors and gives the same type back.
"""

import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from etc_data.errors import ImageError, NonceError, SchemeError
from etc_data.fitting import Fit, fit_image, is_pil
from etc_data.keys import SecretKey
from etc_data.keystream import StreamFactory
from etc_data.plans import Plan
from etc_data.schemes import KeyScope, Scheme
from etc_data.states import COLORS

if TYPE_CHECKING:
    from PIL import Image

NONCE_BYTES = 16
EXIF_ORIENTATION = 0x0112

Nonces = bytes | Sequence[bytes] | None
ImageType = TypeVar("ImageType", bound=Any)

# Plans of the sizes in use.  A plan takes about 27 bytes a pixel, 1.4 MB at 224 px, and photos of
# full size must not fill the memory.
_CACHED_PLANS = 32
_CACHED_PIXELS = 1 << 25


class Cipher:
    """Encrypts and decrypts images with one scheme and one key.

    With key scope ``"dataset"`` (the papers') all images of a size share one plan.  With ``"image"``
    every image has its own, drawn from the key and a public 16-byte nonce that must be kept with the
    encrypted image.  See docs/threat-model.md for what either protects against which attack.

    Example:
        >>> cipher = Cipher("etc-16", SecretKey(bytes(32)))
        >>> image = np.zeros((32, 48, 3), np.uint8)
        >>> encrypted = cipher.encrypt(image)
        >>> encrypted.shape, bool((cipher.decrypt(encrypted) == image).all())
        ((32, 48, 3), True)
    """

    def __init__(
        self,
        scheme: str | Scheme,
        key: SecretKey,
        *,
        key_scope: KeyScope | None = None,
        context: str = "",
    ) -> None:
        """Joins a scheme and a key.

        Args:
            scheme: a preset's name or a `Scheme`.
            key: the secret key.
            key_scope: ``"dataset"`` or ``"image"``; by default ``"image"`` for pe, else ``"dataset"``.
            context: a public text; data sets that share a key but not a context share no draws.

        Raises:
            SchemeError: there is no such scheme or key scope, or an argument is of another type.
        """
        self.scheme = Scheme.preset(scheme) if isinstance(scheme, str) else scheme
        if not isinstance(self.scheme, Scheme):
            raise SchemeError(f"a scheme is a name or a Scheme, not {type(scheme).__name__}")
        if not isinstance(key, SecretKey):
            raise SchemeError(
                f"a cipher needs a SecretKey, not {type(key).__name__}",
                "SecretKey.load(path) reads a key file",
            )
        if key_scope not in (None, "dataset", "image"):
            raise SchemeError(f'key_scope is {key_scope!r}; it must be "dataset" or "image"')
        try:
            context.encode("utf-8")
        except (AttributeError, UnicodeEncodeError):
            raise SchemeError(f"context is {context!r}; it must be a text") from None
        self.key_scope: KeyScope = key_scope or self.scheme.default_key_scope
        self.context = context
        self._key = key
        self._plans: dict[tuple[int, int, bytes, bool], Plan] = {}

    @property
    def key_id(self) -> str:
        """The public one-way fingerprint of the key."""
        return self._key.id

    def subkey(self, purpose: str) -> bytes:
        """Returns a sub-key of the cipher's key, for what belongs to a data set beside its pixels."""
        return self._key.subkey(purpose)

    def __repr__(self) -> str:
        context = f", context={self.context!r}" if self.context else ""
        return (
            f"Cipher({self.scheme.name!r}, key_id={self.key_id!r}, "
            f"key_scope={self.key_scope!r}{context})"
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_plans": {}}

    # -- plans ----------------------------------------------------------------------------------

    def new_nonce(self, generator: np.random.Generator | None = None) -> bytes:
        """Returns 16 random bytes, the public nonce of one image.

        Args:
            generator: where to draw from for a reproducible experiment; by default the operating
                system.  Two images with one nonce share their draws: never reuse a generator's seed.

        Raises:
            NonceError: the key scope is ``"dataset"``, which has no nonces.
        """
        if self.key_scope != "image":
            raise NonceError('key scope "dataset" has no nonces', 'use key_scope="image"')
        return secrets.token_bytes(NONCE_BYTES) if generator is None else generator.bytes(NONCE_BYTES)

    def plan(self, height: int, width: int, *, nonce: bytes | None = None) -> Plan:
        """Returns the plan for images of `height` × `width` pixels, from a cache where it can.

        Args:
            height: pixels, a multiple of the scheme's block size; likewise `width`.
            width: see `height`.
            nonce: 16 bytes with key scope ``"image"``, else None.

        Raises:
            GeometryError: the size does not fit the grid.
            NonceError: a nonce is missing, unwanted or not 16 bytes.
        """
        self._check_nonce(nonce)
        return self._plan(height, width, nonce or b"", inverse=False)

    def key_space_bits(self, height: int, width: int) -> float:
        """Returns log₂ of the number of different plans for one image of this size."""
        return self.scheme.key_space_bits(height, width)

    def _plan(self, height: int, width: int, nonce: bytes, inverse: bool) -> Plan:
        key = (height, width, nonce, inverse)
        plan = self._plans.get(key)
        if plan is None:
            if inverse:
                plan = self._plan(height, width, nonce, inverse=False).inverse()
            else:
                streams = StreamFactory.for_image(self._key, self.scheme.canonical, self.context, nonce)
                plan = self.scheme.compile(height, width, streams)
            if nonce:
                return plan
            # A nonce is seldom met twice, so only plans that serve many images are kept.
            self._keep(key, plan)
        return plan

    def _keep(self, key: tuple[int, int, bytes, bool], plan: Plan) -> None:
        # The dictionary is replaced and never changed, so that threads can share it without a lock.
        plans = {**self._plans, key: plan}
        while len(plans) > _CACHED_PLANS or (
            len(plans) > 1 and sum(height * width for height, width, _, _ in plans) > _CACHED_PIXELS
        ):
            del plans[next(iter(plans))]
        self._plans = plans

    def _check_nonce(self, nonce: bytes | None) -> None:
        if self.key_scope == "dataset":
            if nonce is not None:
                raise NonceError('key scope "dataset" takes no nonce, but one was given')
        elif nonce is None:
            raise NonceError(
                'key scope "image" needs the nonce of the image',
                "draw one with cipher.new_nonce() and keep it with the encrypted image",
            )
        elif not isinstance(nonce, bytes) or len(nonce) != NONCE_BYTES:
            met = f"{len(nonce)} bytes" if isinstance(nonce, bytes) else type(nonce).__name__
            raise NonceError(f"a nonce is {NONCE_BYTES} bytes, not {met}")

    # -- images ---------------------------------------------------------------------------------

    def encrypt(self, image: ImageType, *, nonce: Nonces = None, fit: Fit | None = None) -> ImageType:
        """Returns the encrypted image, of the same type, dtype and device; a copy.

        Args:
            image: PIL image of mode RGB; NumPy [..., H, W, 3]; or torch [..., 3, H, W].  uint8, or
                floating point in [0, 1], where the negative of x is 1 − x.
            nonce: with key scope ``"image"``: 16 bytes for all of the batch, or a sequence of nonces,
                one per item of the first dimension.
            fit: what to do with an image that does not fit the grid of blocks: ``"pad"`` repeats the
                last row and column, ``"crop"`` cuts around the center, ``"resize"`` goes to the
                nearest multiple (bicubic, antialiased).  By default such an image is refused.

        Raises:
            ImageError: the image's type, mode, dtype or values do not fit.
            GeometryError: its size does not fit the grid and `fit` is None.
            NonceError: a nonce is missing, unwanted, or there is not one per item.
        """
        if fit is not None:
            # Fitting would hide what is wrong: it drops EXIF tags and cuts values off at 1.
            check_image(image)
            image = fit_image(image, self.scheme.block_size, fit)
        encrypted: ImageType = self._apply(image, nonce, inverse=False)
        return encrypted

    def decrypt(self, image: ImageType, *, nonce: Nonces = None) -> ImageType:
        """Returns the decrypted image, of the same type, dtype and device; a copy.

        Bytes come back exactly; floats within the rounding of 1 − (1 − x).

        Args:
            image: as for `encrypt`.
            nonce: what the image was encrypted with.

        Raises:
            ImageError: as for `encrypt`; likewise GeometryError and NonceError.
        """
        decrypted: ImageType = self._apply(image, nonce, inverse=True)
        return decrypted

    def _apply(self, image: Any, nonce: Nonces, inverse: bool) -> Any:
        check_image(image)
        if is_pil(image):
            from PIL import Image

            return Image.fromarray(self._apply(np.asarray(image), nonce, inverse))
        height_axis = -3 if isinstance(image, np.ndarray) else -2
        height, width = image.shape[height_axis], image.shape[height_axis + 1]
        if nonce is None or isinstance(nonce, bytes):
            self._check_nonce(nonce)
            return self._plan(height, width, nonce or b"", inverse).apply(image)
        if image.ndim == COLORS or len(nonce) != image.shape[0]:
            items = 1 if image.ndim == COLORS else image.shape[0]
            raise NonceError(
                f"a sequence of {len(nonce)} nonces for {items} images; one nonce (bytes) serves all, "
                "or there is one per item of the first dimension"
            )
        for one in nonce:
            self._check_nonce(one)
        if not len(nonce):
            return image.copy() if isinstance(image, np.ndarray) else image.clone()
        plans = (self._plan(height, width, one, inverse) for one in nonce)
        items = [plan.apply(item) for plan, item in zip(plans, image, strict=True)]
        if isinstance(image, np.ndarray):
            return np.stack(items)
        import torch

        return torch.stack(items)


def check_image(image: Any) -> None:
    """Checks that an image can be encrypted as it is; its size is checked against a scheme.

    Raises:
        ImageError: its type, mode, dtype, shape or values do not fit, or an EXIF tag says that its
            pixels lie rotated.
    """
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim >= COLORS:
        return  # the usual case, worth its own line at 0.1 ms an image
    if is_pil(image):
        _check_pil(image)
    elif isinstance(image, np.ndarray):
        floating = np.issubdtype(image.dtype, np.floating)
        _check_values(image, floating, floating or image.dtype == np.uint8)
    elif hasattr(image, "is_floating_point"):
        import torch

        floating = image.is_floating_point()
        _check_values(image.detach(), floating, floating or image.dtype == torch.uint8)
    else:
        raise ImageError(
            f"cannot encrypt a {type(image).__name__}; give a PIL image, a NumPy array or a tensor"
        )


def _check_pil(image: "Image.Image") -> None:
    if image.mode != "RGB":
        raise ImageError(
            f"PIL image of mode {image.mode}; it must be RGB",
            "etc_data.sources.load_rgb converts every mode; or image.convert('RGB')",
        )
    orientation = image.getexif().get(EXIF_ORIENTATION, 1)
    if orientation not in (0, 1):
        raise ImageError(
            f"the image's EXIF orientation is {orientation}: its pixels lie rotated, and encryption "
            "would lose the tag that says so",
            "etc_data.sources.load_rgb or PIL.ImageOps.exif_transpose turns it upright",
        )


def _check_values(image: Any, floating: bool, known_dtype: bool) -> None:
    if image.ndim < COLORS:
        raise ImageError(
            f"an image has 3 dimensions or more, not shape {tuple(image.shape)}; "
            "NumPy [..., H, W, 3], torch [..., 3, H, W]"
        )
    if not known_dtype:
        raise ImageError(f"image of dtype {image.dtype}; images are uint8 or floating point in [0, 1]")
    if not floating or 0 in image.shape:
        return
    low, high = float(image.min()), float(image.max())
    if not (low >= 0 and high <= 1):
        raise ImageError(
            f"float image with values in [{low:.4g}, {high:.4g}]; they must lie in [0, 1]",
            "encrypt before normalizing, and scale 8-bit values by 1/255",
        )
