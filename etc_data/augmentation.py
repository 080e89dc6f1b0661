"""Augmentation of plain images before they are encrypted: who trains cannot crop or flip blocks.

Recipes name steps joined by ``+``, such as ``crop:0.35+flip+randaugment``.  The steps themselves are
torchvision's and timm's; here they only get their random numbers from a seed, so that shards stay
reproducible.
"""

import contextlib
import importlib.metadata
import math
import random
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any, NamedTuple, cast

import numpy as np
from PIL import Image

from etc_data.errors import AugmentationError

Change = Callable[[Image.Image], Image.Image]

_LONGEST_RECIPE = 200
# Name → (default, least, most) of its number, which is whole if they are; None where it takes none.
_NUMBERS: dict[str, tuple[float, float, float] | None] = {
    "crop": (0.08, 0.01, 1.0),
    "shift": (4, 1, 256),
    "flip": None,
    "color": (0.4, 0.01, 1.0),
    "randaugment": (9, 0, 30),
    "trivialaugment": None,
}
# timm itself passes over sections that it does not know.
_TIMM_SECTION = (
    r"m[0-9]{1,2}|mstd[0-9]{1,3}(\.[0-9]{1,3})?|mmax[1-9][0-9]?|n[1-9]|p(0(\.[0-9]{1,3})?|1(\.0{1,3})?)"
    r"|inc[01]|tweights|t3aw?"
)
_TIMM = re.compile(rf"rand(-({_TIMM_SECTION}))+")
_TIMM_NAME = re.compile(r"t|[a-z]+")  # tweights and t3a name the same thing
_TIMM_LARGEST = 10  # magnitude, unless mmax says otherwise
_GRAY = 128
_LOCK = threading.Lock()


class _Step(NamedTuple):
    """A step of a recipe, and its number if it takes one."""

    name: str
    number: float | None = None

    def __str__(self) -> str:
        return self.name if self.number is None else f"{self.name}:{self.number}"


@dataclass(frozen=True)
class Augmentation:
    """A recipe: what is done at random to each copy of a plain image.

    ``crop:0.08``
        a random part of the image, of at least this share of its area, brought to size; comes first,
        in place of the center crop (torchvision's `RandomResizedCrop`).
    ``shift:4``
        moved by up to so many pixels; the image is mirrored at its borders (`RandomCrop` with padding).
    ``flip``
        left and right exchanged half of the time.  Where a recipe has nothing else, copies come in
        pairs: one as it is and one mirrored, in an order that key and content decide.
    ``color:0.4``
        brightness, contrast and saturation changed by up to this share (`ColorJitter`).
    ``randaugment:9``
        two operations of this magnitude, 0 … 30 (`RandAugment`).
    ``trivialaugment``
        one operation of random strength (`TrivialAugmentWide`).
    ``rand-m9-mstd0.5``
        timm's RandAugment, by its configuration string; m is at most 10, or what mmax says.

    The numbers are the defaults, which stand in for a step's name alone.

    Attributes:
        recipe: the steps, joined by ``+``, in the order in which they are done; all numbers spelled
            out.

    Raises:
        AugmentationError: a step is unknown, its number is out of range, or the order is wrong.

    Example:
        >>> Augmentation("crop+flip").recipe
        'crop:0.08+flip'
    """

    recipe: str

    def __post_init__(self) -> None:
        """Checks the recipe and spells its numbers out."""
        recipe = "+".join(map(str, self._steps))
        if len(recipe) > _LONGEST_RECIPE:
            raise AugmentationError(
                f"augmentation {recipe[:40]!r}… is too long: with all numbers it has {len(recipe)} "
                f"characters, and may have {_LONGEST_RECIPE}"
            )
        if any(step.name == "crop" for step in self._steps[1:]):
            raise AugmentationError(
                f"crop comes first, once, in an augmentation, not as in {recipe!r}",
                "it takes the place of the resizing that all other steps follow",
            )
        object.__setattr__(self, "recipe", recipe)

    @cached_property
    def _steps(self) -> tuple[_Step, ...]:
        return tuple(map(_parse, self.recipe.split("+")))

    @property
    def crops(self) -> bool:
        """Whether it takes part of the image to bring it to size."""
        return self._steps[0].name == "crop"

    @property
    def keeps_blocks(self) -> bool:
        """Whether all copies of an image are made of the same blocks, at most turned over."""
        return all(step.name == "flip" for step in self._steps)

    @property
    def outcomes(self) -> int | None:
        """How many different images it can make of one at most; None where that is no small number."""
        names = {step.name for step in self._steps}
        if not names <= {"flip", "shift"}:
            return None
        moves = [2 * int(step.number) + 1 for step in self._steps if step.number is not None]
        return math.prod(move**2 for move in moves) * (2 if "flip" in names else 1)

    def __call__(
        self, image: Image.Image, prepare: Change, size: tuple[int, int] | None, seed: int
    ) -> Image.Image:
        """Returns a randomly changed image of mode RGB.

        Args:
            image: of mode RGB, upright.
            prepare: brings an image to the size that is encrypted.
            size: (height, width) in pixels for ``crop``; may be None without it.
            seed: not negative; the same seed gives the same image.
        """
        with _seeded(seed):
            if self.crops:
                assert size is not None
                image = _change(self._steps[0], size)(image)
            image = prepare(image)
            for step in self._steps[self.crops :]:
                image = _change(step, (image.height, image.width))(image)
        return image

    def versions(self) -> dict[str, str]:
        """Returns the versions of the libraries that decide what the steps do."""
        names = ["torch", "torchvision"]
        if any(_TIMM.fullmatch(step.name) for step in self._steps):
            names.append("timm")
        # What stands behind "+" tells for which device it was built.
        return {name: importlib.metadata.version(name).partition("+")[0] for name in names}

    def __str__(self) -> str:
        return self.recipe


def _parse(text: str) -> _Step:
    if _TIMM.fullmatch(text):
        _check_timm(text)
        return _Step(text)
    name, colon, written = text.partition(":")
    if name.startswith("rand-"):
        raise AugmentationError(
            f"augmentation {text[:40]!r} is not in timm's form",
            "it is made of sections such as m9, n2, p0.5, mstd0.5, mmax10, inc1 and tweights, as in "
            "rand-m9-mstd0.5",
        )
    if name not in _NUMBERS:
        known = ", ".join((*_NUMBERS, "rand-… of timm"))
        raise AugmentationError(f"augmentation {text[:40]!r} is unknown; known are {known}")
    limits = _NUMBERS[name]
    if limits is None:
        if colon:
            raise AugmentationError(f"augmentation {name} takes no number, but {text[:40]!r} gives one")
        return _Step(name)
    default, least, most = limits
    whole = isinstance(default, int)
    if not colon:
        return _Step(name, default)
    if re.fullmatch(r"[0-9]+" if whole else r"[0-9]*\.?[0-9]+", written):
        number = int(written) if whole else float(written)
        if least <= number <= most:
            return _Step(name, number)
    raise AugmentationError(
        f"augmentation {text[:40]!r} needs {'a whole' if whole else 'a'} number from {least:g} to "
        f"{most:g} behind the colon"
    )


def _check_timm(text: str) -> None:
    """Refuses what timm would pass over without a word."""
    values: dict[str, str] = {}
    for section in text.split("-")[1:]:
        name = _TIMM_NAME.match(section)
        assert name is not None
        if name[0] in values:
            raise AugmentationError(f"augmentation {text[:40]!r} gives {name[0]} twice")
        values[name[0]] = section.removeprefix(name[0])
    largest = int(values.get("mmax", _TIMM_LARGEST))
    if int(values.get("m", 0)) > largest:
        raise AugmentationError(
            f"augmentation {text[:40]!r} has magnitude m{values['m']}, which may be at most {largest}",
            f"give m{largest}, or raise the limit with mmax",
        )


@lru_cache(maxsize=64)
def _change(step: _Step, size: tuple[int, int]) -> Change:
    """Returns what does a step, for images of a size (height, width), or to that size for crop."""
    # A CPU-only torch needs this before torchvision is imported.
    import etc_data.torchvision_cpu  # noqa: F401, I001
    from torchvision.transforms import v2

    bilinear, bicubic = v2.InterpolationMode.BILINEAR, v2.InterpolationMode.BICUBIC
    number = step.number
    change: Change
    match step.name:
        case "crop":
            change = v2.RandomResizedCrop(size, scale=(number, 1.0), interpolation=bicubic)
        case "shift":
            change = v2.RandomCrop(size, padding=number, padding_mode="reflect")
        case "flip":
            change = v2.RandomHorizontalFlip()
        case "color":
            change = v2.ColorJitter(brightness=number, contrast=number, saturation=number)
        case "randaugment":
            change = v2.RandAugment(magnitude=number, interpolation=bilinear, fill=_GRAY)
        case "trivialaugment":
            change = v2.TrivialAugmentWide(interpolation=bilinear, fill=_GRAY)
        case configuration:
            change = _timm_rand_augment(configuration, size)
    return change


def _timm_rand_augment(configuration: str, size: tuple[int, int]) -> Change:
    from timm.data.auto_augment import rand_augment_transform

    hints = {"translate_const": int(min(size) * 0.45), "img_mean": (_GRAY,) * 3}
    change: Any = rand_augment_transform(configuration, hints)
    for operation in change.ops:
        if operation.name.startswith("Posterize"):
            # At full strength timm asks for 0 bits a value, which Pillow refuses.
            operation.level_fn = partial(_at_least_one_bit, operation.level_fn)
    return cast(Change, change)


def _at_least_one_bit(
    bits: Callable[[float, dict[str, Any]], tuple[int]], level: float, hints: dict[str, Any]
) -> tuple[int]:
    return (max(1, bits(level, hints)[0]),)


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Lets a seed decide what the steps draw from the process's generators, and puts these back.

    Generators of GPUs are never touched.
    """
    import torch

    with _LOCK:
        before = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002 (timm's)
        dtype = torch.get_default_dtype()
        random.seed(seed)
        np.random.seed(random.getrandbits(32))  # noqa: NPY002
        torch.default_generator.manual_seed(random.getrandbits(32))
        torch.set_default_dtype(torch.float32)
        try:
            with torch.device("cpu"):
                yield
        finally:
            torch.set_default_dtype(dtype)
            random.setstate(before[0])
            np.random.set_state(before[1])  # noqa: NPY002
            torch.set_rng_state(before[2])
