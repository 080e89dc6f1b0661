"""`Encrypt` and `Decrypt` as torchvision-v2 transforms, which fail closed.

Put `Encrypt` after everything that crops, flips or colors, and before normalization:

    v2.Compose([v2.Resize(256), v2.CenterCrop(224), Encrypt(cipher), v2.ToImage(), ...])

torchvision's rule is that what a transform does not know passes through.  For encryption that would
ship plain pictures, so a sample that holds a second picture, boxes, key points or arrays is refused.
"""

import io
from typing import Any, Literal

import numpy as np
import PIL.Image
import torch

import etc_data.torchvision_cpu  # noqa: F401

# isort: split
from torchvision import tv_tensors
from torchvision.transforms import v2

from etc_data.cipher import Cipher
from etc_data.errors import NonceError, PlainLeakError
from etc_data.fitting import Fit
from etc_data.plans import Plan

MaskPolicy = Literal["refuse", "scramble"]


# Bytes longer than this are taken for a file, shorter ones for a label.
_LONGEST_LABEL = 256


class Nonce(bytes):
    """The public 16-byte nonce of one encrypted image, as it travels through a sample."""

    __slots__ = ()


class _Placeholder:
    """Stands where `Encrypt` puts the nonce."""


_NONCE_GOES_HERE = _Placeholder()
_NOT_THE_IMAGE = (tv_tensors.Mask, Nonce, _Placeholder)


class _CipherTransform(v2.Transform):
    """What `Encrypt` and `Decrypt` share: what they refuse, and how a plan meets each type."""

    _transformed_types = (torch.Tensor, PIL.Image.Image, Nonce, _Placeholder)
    _verb: str

    def __init__(self, cipher: Cipher, *, masks: MaskPolicy = "refuse") -> None:
        super().__init__()
        if not isinstance(cipher, Cipher):
            raise TypeError(f"{type(self).__name__} takes a Cipher, not {type(cipher).__name__}")
        if masks not in ("refuse", "scramble"):
            raise ValueError(f'masks is {masks!r}; it must be "refuse" or "scramble"')
        self._cipher = cipher
        self._masks = masks

    def extra_repr(self) -> str:
        """Returns what `print` shows; the key appears by its id alone."""
        return f"{self._cipher!r}, masks={self._masks!r}"

    def check_inputs(self, flat_inputs: list[Any]) -> None:
        """Refuses samples in which something plain would pass through.

        Raises:
            PlainLeakError: the sample has no image, more than one, or boxes, key points, videos,
                arrays, or masks without ``masks="scramble"``.
        """
        images = [entry for entry in flat_inputs if _is_image(entry)]
        bare = [entry for entry in flat_inputs if _is_bare_tensor(entry)]
        if not images and bare:
            # torchvision transforms the first bare tensor where there is no explicit image.
            images, bare = bare[:1], bare[1:]
        if len(images) != 1:
            found = "no image" if not images else f"{len(images)} images"
            raise PlainLeakError(
                f"a sample to {self._verb} must hold exactly one image; found {found}",
                "it holds a PIL image, a tv_tensors.Image or one tensor; treat views one by one",
            )
        size = _size_of(images[0])
        for entry in bare:
            if entry.ndim >= 3 or _shows_pixels(entry, size) or _is_file_like(entry):
                raise PlainLeakError(
                    f"a second tensor of shape {tuple(entry.shape)} would pass through as it is, and "
                    "it may be a plain view of the image",
                    "treat views one by one, or leave it out of the sample",
                )
        for entry in flat_inputs:
            self._check_entry(entry, size)

    def _check_entry(self, entry: Any, size: tuple[int, int]) -> None:
        if isinstance(entry, tv_tensors.Mask):
            if self._masks == "refuse":
                raise PlainLeakError(
                    "a mask shows the outlines of the plain image",
                    'masks="scramble" moves its pixels as the image\'s, without hiding its values',
                )
            if tuple(entry.shape[-2:]) != size:
                raise PlainLeakError(
                    f"a mask of {tuple(entry.shape[-2:])} pixels does not fit an image of {size}"
                )
        elif isinstance(entry, tv_tensors.TVTensor) and not isinstance(entry, tv_tensors.Image):
            raise PlainLeakError(
                f"{type(entry).__name__} would pass through in plain, and means nothing after "
                "encryption",
                "leave it out of the sample",
            )
        elif isinstance(entry, bytes | bytearray | memoryview) and len(entry) > _LONGEST_LABEL:
            raise PlainLeakError(
                f"{len(entry)} bytes would pass through as they are, and may be the plain image's file",
                "leave them out of the sample",
            )
        elif isinstance(entry, io.IOBase):
            raise PlainLeakError(
                "an open file would pass through as it is, and may be the plain image's",
                "leave it out of the sample",
            )
        elif isinstance(entry, np.ndarray) and (entry.ndim >= 2 or _is_file_like(entry)):
            raise PlainLeakError(
                f"a NumPy array of shape {entry.shape} would pass through as it is",
                "torchvision transforms take PIL images and tensors; convert it, or leave it out",
            )

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Returns one input encrypted or decrypted; called by torchvision for each."""
        if isinstance(inpt, _Placeholder):
            return params["nonce"]
        if isinstance(inpt, Nonce):
            return inpt
        if isinstance(inpt, tv_tensors.Mask):
            return tv_tensors.wrap(self._move_mask(inpt, params["nonce"]), like=inpt)
        plain_type = inpt.as_subclass(torch.Tensor) if isinstance(inpt, torch.Tensor) else inpt
        output = self._treat(plain_type, params["nonce"])
        return tv_tensors.wrap(output, like=inpt) if isinstance(inpt, tv_tensors.Image) else output

    def _treat(self, image: Any, nonce: Any) -> Any:
        raise NotImplementedError

    def _plan_for_mask(self, plan: Plan) -> Plan:
        raise NotImplementedError

    def _move_mask(self, mask: torch.Tensor, nonce: Any) -> torch.Tensor:
        if isinstance(nonce, list):
            if len(nonce) != 1:
                raise NonceError(
                    "masks of a batch cannot be moved where every image has its own nonce",
                    "encrypt image and mask one by one, before they are collated",
                )
            nonce = nonce[0]
        height, width = mask.shape[-2:]
        plan = self._plan_for_mask(self._cipher.plan(height, width, nonce=nonce))
        moved = plan.pixel_index()
        if (moved == np.arange(moved.size)).all():
            raise PlainLeakError(
                f"scheme {self._cipher.scheme.name} moves no pixels, so that the mask would stay plain",
                "leave the mask out of the sample, or choose a scheme that scrambles blocks",
            )
        index = torch.as_tensor(moved, device=mask.device)
        flat = mask.as_subclass(torch.Tensor).reshape(-1, height * width)
        return flat.index_select(1, index).reshape(mask.shape)


class Encrypt(_CipherTransform):
    """Encrypts the one image of a sample: PIL (RGB), tensor or `tv_tensors.Image` [..., 3, H, W].

    Everything else that is not an image (labels, indices, texts) passes as the identical object.

    Example:
        >>> from etc_data import Cipher, SecretKey
        >>> encrypt = Encrypt(Cipher("etc-16", SecretKey(bytes(32))))
        >>> image, label = encrypt((torch.zeros(3, 224, 224, dtype=torch.uint8), 7))
        >>> image.shape, label
        (torch.Size([3, 224, 224]), 7)
    """

    _verb = "encrypt"

    def __init__(
        self,
        cipher: Cipher,
        *,
        fit: Fit | None = None,
        masks: MaskPolicy = "refuse",
        return_nonce: bool = False,
        generator: np.random.Generator | None = None,
    ) -> None:
        """Makes the transform.

        Args:
            cipher: with key scope ``"image"`` every image gets a fresh nonce.
            fit: what to do with images that do not fit the grid (see `Cipher.encrypt`).
            masks: ``"refuse"``, or ``"scramble"`` to move a mask's pixels like the image's.
            return_nonce: with key scope ``"image"``, append the `Nonce` (for a batch the list of
                them) to what is returned: ``image, nonce = encrypt(image)``.
            generator: draws the nonces of a reproducible experiment, in the main process alone.

        Raises:
            NonceError: `return_nonce` is asked of a cipher that has none.
        """
        super().__init__(cipher, masks=masks)
        if return_nonce and cipher.key_scope != "image":
            raise NonceError('return_nonce needs key_scope="image"; key scope "dataset" has no nonces')
        if fit is not None and masks == "scramble":
            raise ValueError("masks cannot be scrambled together with fit; fit both beforehand")
        self._fit: Fit | None = fit
        self._return_nonce = return_nonce
        self._generator = generator

    def forward(self, *inputs: Any) -> Any:
        """Returns the sample encrypted, with the nonce appended if asked for."""
        if not self._return_nonce:
            return super().forward(*inputs)
        # torchvision's own forward turns the placeholder into the nonce, as it does the image.
        return super().forward(*inputs, _NONCE_GOES_HERE)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draws a fresh nonce per image where the key scope asks for it."""
        if self._cipher.key_scope != "image":
            return {"nonce": None}
        items = _items_of_batch(flat_inputs)
        if items is not None:
            return {"nonce": [self._new_nonce() for _ in range(items)]}
        return {"nonce": self._new_nonce()}

    def _new_nonce(self) -> Nonce:
        if self._generator is not None and torch.utils.data.get_worker_info() is not None:
            raise NonceError(
                "Encrypt's generator would draw the same nonces in every DataLoader worker",
                "leave the generator out, or use num_workers=0",
            )
        return Nonce(self._cipher.new_nonce(self._generator))

    def _treat(self, image: Any, nonce: Any) -> Any:
        return self._cipher.encrypt(image, nonce=nonce, fit=self._fit)

    def _plan_for_mask(self, plan: Plan) -> Plan:
        return plan


class Decrypt(_CipherTransform):
    """Undoes `Encrypt`; in key scope ``"image"`` the sample must hold the `Nonce` of its image.

    Example:
        >>> from etc_data import Cipher, SecretKey
        >>> cipher = Cipher("etc-16", SecretKey(bytes(32)), key_scope="image")
        >>> image = torch.rand(3, 32, 32)
        >>> encrypted, nonce = Encrypt(cipher, return_nonce=True)(image)
        >>> decrypted, _ = Decrypt(cipher)(encrypted, nonce)
        >>> torch.allclose(decrypted, image)
        True
    """

    _verb = "decrypt"

    def __init__(self, cipher: Cipher, *, masks: MaskPolicy = "refuse") -> None:
        """Makes the transform.

        Args:
            cipher: the cipher the image was encrypted with.
            masks: ``"refuse"``, or ``"scramble"`` to move a mask's pixels back like the image's.
        """
        super().__init__(cipher, masks=masks)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Collects the nonces of the sample: one, or one per image of a batch."""
        nonces = [entry for entry in flat_inputs if isinstance(entry, Nonce)]
        if not nonces:
            nothing = self._cipher.key_scope == "image" and _items_of_batch(flat_inputs) == 0
            return {"nonce": [] if nothing else None}
        return {"nonce": nonces[0] if len(nonces) == 1 else nonces}

    def _treat(self, image: Any, nonce: Any) -> Any:
        return self._cipher.decrypt(image, nonce=nonce)

    def _plan_for_mask(self, plan: Plan) -> Plan:
        return plan.inverse()


def _shows_pixels(entry: torch.Tensor, size: tuple[int, int]) -> bool:
    """Returns whether a tensor is a matrix that may be a gray view of the image, of any size."""
    return entry.ndim == 2 and (tuple(entry.shape) == size or entry.dtype == torch.uint8)


def _is_file_like(entry: Any) -> bool:
    """Returns whether a vector may hold the bytes of a file, or all pixels in one row."""
    return str(entry.dtype).endswith("uint8") and entry.ndim == 1 and entry.shape[0] > _LONGEST_LABEL


def _is_image(entry: Any) -> bool:
    return isinstance(entry, PIL.Image.Image | tv_tensors.Image)


def _items_of_batch(flat_inputs: list[Any]) -> int | None:
    """Returns how many items the first dimension of a batch has, None for a single image."""
    image = next(entry for entry in flat_inputs if not isinstance(entry, _NOT_THE_IMAGE))
    return image.shape[0] if isinstance(image, torch.Tensor) and image.ndim > 3 else None


def _is_bare_tensor(entry: Any) -> bool:
    return isinstance(entry, torch.Tensor) and not isinstance(entry, tv_tensors.TVTensor)


def _size_of(image: Any) -> tuple[int, int]:
    if isinstance(image, PIL.Image.Image):
        return image.height, image.width
    return tuple(image.shape[-2:]) if image.ndim >= 2 else (0, 0)
