"""Augmentation of plain images before they are encrypted: who trains cannot crop or flip blocks.

Recipes name steps joined by ``+``, such as ``crop:0.35+flip+randaugment``.  The steps themselves are
torchvision's and timm's; here they only get their random numbers from a seed, so that shards stay
reproducible.
"""

import contextlib
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from PIL import Image

# A CPU-only torch needs this before torchvision is imported.
import etc_data.torchvision_cpu  # noqa: F401
from etc_data.errors import AugmentationError

Step = Callable[[Image.Image], Image.Image]

_LONGEST_RECIPE = 200
# Name → (default, least, most) of its number; None where it takes none.
_NUMBERS: dict[str, tuple[float, float, float] | None] = {
    "crop": (0.08, 0.01, 1.0),
    "shift": (4, 1, 10_000),
    "flip": None,
    "color": (0.4, 0.0, 1.0),
    "randaugment": (9, 0, 30),
    "trivialaugment": None,
}
_KEEP_GRID = ("flip", "color")
_TIMM = re.compile(r"rand-[a-z0-9.-]+")


@dataclass(frozen=True)
class Augmentation:
    """A recipe: what is done at random to each copy of a plain image.

    ``crop:0.08``
        a random part of the image, of at least this share of its area, brought to size; comes first,
        in place of the center crop (torchvision's `RandomResizedCrop`).
    ``shift:4``
        moved by up to so many pixels over black borders (`RandomCrop` with padding).
    ``flip``
        left and right exchanged half of the time.
    ``color:0.4``
        brightness, contrast and saturation changed by up to this share (`ColorJitter`).
    ``randaugment:9``
        two operations of this magnitude, 0 … 30 (`RandAugment`).
    ``trivialaugment``
        one operation of random strength (`TrivialAugmentWide`).
    ``rand-m9-mstd0.5``
        timm's RandAugment, by its configuration string.

    The numbers are the defaults, which stand in for a step's name alone.

    Args:
        recipe: the steps, joined by ``+``, in the order in which they are done.

    Raises:
        AugmentationError: a step is unknown, its number is out of range, or the order is wrong.
    """

    recipe: str

    def __post_init__(self) -> None:
        """Checks the recipe."""
        names = [name for name, _ in self._steps]
        if "crop" in names[1:]:
            raise AugmentationError(
                f"crop comes first, once, in an augmentation, not as in {self.recipe!r}",
                "it takes the place of the resizing that all other steps follow",
            )

    @cached_property
    def _steps(self) -> tuple[tuple[str, float | None], ...]:
        if len(self.recipe) > _LONGEST_RECIPE:
            raise AugmentationError(f"augmentation {self.recipe[:40]!r}… is too long to be a recipe")
        return tuple(map(_parse, self.recipe.split("+")))

    @property
    def crops(self) -> bool:
        """Whether it takes part of the image to bring it to size."""
        return self._steps[0][0] == "crop"

    @property
    def keeps_grid(self) -> bool:
        """Whether copies of an image show the same part of it, aligned to the same grid of blocks."""
        return all(name in _KEEP_GRID for name, _ in self._steps)

    def __call__(
        self, image: Image.Image, prepare: Step, size: tuple[int, int] | None, seed: int
    ) -> Image.Image:
        """Returns a randomly changed image.

        Args:
            image: of mode RGB, upright.
            prepare: brings an image to the size that is encrypted.
            size: (height, width) for ``crop``; None only without it.
            seed: from 0 to 2⁶³ − 1; the same seed gives the same image.
        """
        with _seeded(seed):
            for name, number in self._steps:
                if name == "crop":
                    assert size is not None and number is not None
                    image = _crop(size, number)(image)
                    break
            image = prepare(image)
            for name, number in self._steps[self.crops :]:
                image = _step(name, number, image.size)(image)
        return image

    def check(self) -> None:
        """Checks that timm understands its own steps, before work starts.

        Raises:
            AugmentationError: it does not.
        """
        for name, number in self._steps[self.crops :]:
            try:
                _step(name, number, (64, 64))
            except Exception as error:  # timm asserts, and looks names up
                raise AugmentationError(
                    f"timm does not understand the augmentation {name!r}: {error}"
                ) from None

    def versions(self) -> dict[str, str]:
        """Returns the versions of the libraries that decide what the steps do."""
        import timm
        import torch
        import torchvision

        return {
            "torch": torch.__version__.partition("+")[0],
            "torchvision": torchvision.__version__.partition("+")[0],
            "timm": timm.__version__,
        }

    def __str__(self) -> str:
        return self.recipe


def _parse(text: str) -> tuple[str, float | None]:
    if _TIMM.fullmatch(text):
        return text, None
    name, colon, written = text.partition(":")
    if name not in _NUMBERS:
        known = ", ".join((*_NUMBERS, "rand-… of timm"))
        raise AugmentationError(f"augmentation {text[:40]!r} is unknown; known are {known}")
    limits = _NUMBERS[name]
    if limits is None:
        if colon:
            raise AugmentationError(f"augmentation {name} takes no number, but {text[:40]!r} gives one")
        return name, None
    default, least, most = limits
    if not colon:
        return name, default
    try:
        number = float(written) if re.fullmatch(r"[0-9]+(\.[0-9]+)?", written) else float("nan")
        if not least <= number <= most or (isinstance(default, int) and number != int(number)):
            raise ValueError
    except ValueError:
        kind = "a whole number" if isinstance(default, int) else "a number"
        raise AugmentationError(
            f"augmentation {text[:40]!r} needs {kind} from {least:g} to {most:g} behind the colon"
        ) from None
    return name, number


@lru_cache(maxsize=64)
def _crop(size: tuple[int, int], least: float) -> Step:
    from torchvision.transforms import v2

    crop: Step = v2.RandomResizedCrop(
        size, scale=(least, 1.0), interpolation=v2.InterpolationMode.BICUBIC, antialias=True
    )
    return crop


@lru_cache(maxsize=64)
def _step(name: str, number: float | None, size: tuple[int, int]) -> Step:
    """Returns a step for images of a size, (width, height)."""
    from torchvision.transforms import v2

    if _TIMM.fullmatch(name):
        from timm.data.auto_augment import rand_augment_transform

        timm_step: Step = rand_augment_transform(name, {"translate_const": int(min(size) * 0.45)})
        return timm_step
    makers: dict[str, Callable[[], Any]] = {
        "shift": lambda: v2.RandomCrop((size[1], size[0]), padding=int(number or 0)),
        "flip": v2.RandomHorizontalFlip,
        "color": lambda: v2.ColorJitter(brightness=number, contrast=number, saturation=number),
        "randaugment": lambda: v2.RandAugment(magnitude=int(number or 0)),
        "trivialaugment": v2.TrivialAugmentWide,
    }
    step: Step = makers[name]()
    return step


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Sets the random numbers of Python, NumPy and torch for a while, and puts them back."""
    import torch

    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 (timm's)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
