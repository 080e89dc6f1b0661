"""What stays the same under encryption: statistics that need neither key nor search.

A signed permutation keeps how often each pair {v, 255 − v} occurs in an image.  So whoever has a photo
can tell its ciphertext from others, in either key scope; and equal photos under one key are equal.
"""

from collections import Counter

import numpy as np
import numpy.typing as npt

from etc_data.audit.evidence import Bytes
from etc_data.keystream import IntArray


def folded_histograms(images: Bytes, *, halves: bool = False) -> npt.NDArray[np.float64]:
    """Returns how often each pair of a level and its negative occurs, float [n, 128], sums 1.

    Args:
        images: uint8 [n, H, W, 3].
        halves: count 4-bit halves instead, float [n, 8], which is what LE and ELE keep.
    """
    flat = images.reshape(len(images), -1)
    if halves:
        flat = np.concatenate([flat & 15, flat >> 4], axis=1)
    peak = 15 if halves else 255
    folded = np.minimum(flat, peak - flat)
    counts = [np.bincount(image, minlength=(peak + 1) // 2) for image in folded]
    return np.stack(counts) / flat.shape[1]


def recognize(photos: Bytes, encrypted: Bytes, *, halves: bool = False) -> IntArray:
    """Returns for each photo the encrypted image with the nearest folded histogram, intp [photos].

    Args:
        photos: plain images as they were encrypted, uint8 [p, H, W, 3].
        encrypted: uint8 [n, H, W, 3].
        halves: whether the scheme works on 4-bit halves.
    """
    ours, theirs = (folded_histograms(x, halves=halves) for x in (photos, encrypted))
    return np.array([np.abs(theirs - photo).sum(axis=1).argmin() for photo in ours])


def count_duplicates(encrypted: Bytes) -> int:
    """Returns how many encrypted images are equal to an earlier one."""
    seen = Counter(image.tobytes() for image in encrypted)
    return sum(count - 1 for count in seen.values())


def mean_image_contrast(encrypted: Bytes) -> float:
    """Returns how far the mean image departs from gray beyond chance; about 1 where nothing shows.

    The variance of the mean image over its values, relative to that of n independent images: the mean
    variance over the images, divided by n.  Under one key what photos have in common (bright
    skies, dark borders) stays in the mean image; with a key per image it averages out.
    """
    mean = encrypted.mean(axis=0, dtype=np.float64)
    by_image = [float(np.var(image)) for image in encrypted]
    expected = float(np.mean(by_image)) / len(encrypted)
    return float(mean.var()) / expected if expected else 0.0
