"""Every error that etc-data raises on purpose.

EtcError
├── KeyFileError          a key file that cannot be read, written or unlocked
├── WrongKeyError         the key is not the one the data was encrypted with
├── SchemeError           a scheme name or its JSON that cannot be understood
├── GeometryError         an image size that does not fit the scheme's grid
├── ImageError            an image of a type, mode, dtype or range that cannot be encrypted
│   └── UnreadableImageError   a source file that is no picture we can convert exactly
├── NonceError            a nonce is missing, unwanted or malformed
├── PlainLeakError        a sample holds something plain that would pass through unencrypted
├── PlanError             two plans that cannot be joined, or a plan that has no such form
├── ModelError            a model that a scheme cannot encrypt, or that was encrypted otherwise
├── AugmentationError     a recipe that is malformed, or would give the plain images away
├── CodecError            a codec that is unsuitable or not installed
├── SourceError           a source of plain images that cannot be listed
├── OutputExistsError     an output that would overwrite something
├── ManifestError         a manifest that is missing, malformed, newer or forged
├── DamagedShardError     a shard that is missing, cut short or altered
├── StorageError          a place that cannot be reached, read or written
└── SettingsError         settings of a training run that are unknown, contradictory or out of range
"""


class EtcError(Exception):
    """Base class of all errors of etc-data; the message is one line, the optional hint another."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint

    def __reduce__(self) -> tuple[type["EtcError"], tuple[str, str | None]]:
        # Errors cross process borders (DataLoader and writer workers); keep the hint on the way.
        return type(self), (str(self), self.hint)


class KeyFileError(EtcError):
    """A key file that cannot be read, written or unlocked."""


class WrongKeyError(EtcError):
    """The key is not the one the data was encrypted with."""


class SchemeError(EtcError, ValueError):
    """A scheme name, a step or a scheme's JSON that cannot be understood."""


class GeometryError(EtcError, ValueError):
    """An image size that does not fit the scheme's grid of blocks."""


class ImageError(EtcError, ValueError):
    """An image whose type, mode, dtype or value range cannot be encrypted."""


class UnreadableImageError(ImageError):
    """A source file that is not a picture, is damaged, or cannot be converted to RGB exactly."""


class NonceError(EtcError, ValueError):
    """A nonce is missing, was given where none is used, or has the wrong form."""


class PlainLeakError(EtcError):
    """A sample holds something plain that would pass through unencrypted."""


class PlanError(EtcError, ValueError):
    """Plans that cannot be joined, or a plan that does not have the form asked for."""


class ModelError(EtcError, ValueError):
    """A model that a scheme cannot encrypt, or that was encrypted in another way."""


class AugmentationError(EtcError, ValueError):
    """A recipe for augmentation that cannot be understood, or would give the plain images away."""


class CodecError(EtcError):
    """An image codec that is unsuitable for the scheme, misconfigured or not installed."""


class SourceError(EtcError):
    """A source of plain images that does not exist or cannot be listed."""


class OutputExistsError(EtcError):
    """An output that exists already and would be overwritten."""


class ManifestError(EtcError):
    """A manifest that is missing, malformed, of a newer format, or forged."""


class DamagedShardError(EtcError):
    """A shard that is missing, cut short or altered."""


class StorageError(EtcError):
    """A place where data sets lie that cannot be reached, read or written."""


class SettingsError(EtcError, ValueError):
    """Settings of a training run that are unknown, contradict each other or are out of range."""
