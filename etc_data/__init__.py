"""etc-data: train and serve image classifiers on machines that must never see the images.

    >>> from etc_data import Cipher, SecretKey
    >>> cipher = Cipher("etc-16", SecretKey.generate())

The idea: every step of every scheme is a signed permutation of an image's values, so that a scheme,
a key and an image size make one `Plan`, which encrypts images and, later, rewrites models.
"""

from etc_data.cipher import Cipher
from etc_data.errors import EtcError
from etc_data.keys import SecretKey
from etc_data.plans import Plan
from etc_data.schemes import Scheme

__all__ = ["Cipher", "EtcError", "Plan", "Scheme", "SecretKey", "__version__"]

__version__ = "0.1.0"
