"""What runs note of how their images are encrypted, and whether a model and images belong together."""

from collections.abc import Mapping
from typing import Any

from etc_data.cipher import Cipher
from etc_data.errors import ManifestError, SchemeError, SettingsError, WrongKeyError
from etc_data.models import ModelInfo
from etc_data.schemes import Scheme
from etc_data.shards.manifest import Manifest

Encryption = dict[str, Any]
"""Scheme, its steps, key id, key scope, context, and codec of coded images, as JSON can hold them."""


def encryption_of_cipher(cipher: Cipher, codec: Mapping[str, Any] | None = None) -> Encryption:
    """Returns the facts of images that a cipher encrypts and a codec codes."""
    facts = _facts(cipher.scheme, cipher.key_id, cipher.key_scope, cipher.context)
    return {**facts, "codec": None if codec is None else dict(codec)}


def encryption_of_shards(manifest: Manifest) -> Encryption:
    """Returns the facts of a data set's images."""
    facts = _facts(manifest.scheme, manifest.key_id, manifest.key_scope, manifest.context)
    return {**facts, "codec": manifest.codec}


def encryption_of_model(info: ModelInfo) -> Encryption:
    """Returns the facts of the images that an encrypted model is for."""
    return _facts(info.scheme, info.key_id, "dataset", info.context)


def check_images(expected: Encryption | None, met: Encryption | None) -> None:
    """Checks that images are encrypted as those are that a model is for.

    Args:
        expected: the encryption that a model is for; None if it is for plain images.
        met: the encryption of the images.

    Raises:
        WrongKeyError: they have another key.
        SettingsError: they differ otherwise.
        ManifestError: the model's file tells of no encryption that there is.
    """
    if expected is None or met is None:
        if expected is not met:
            kinds = [
                "plain" if encryption is None else f"encrypted ({encryption['scheme']})"
                for encryption in (expected, met)
            ]
            raise SettingsError(
                f"the model is for {kinds[0]} images, but these are {kinds[1]}",
                "--encrypt-model encrypts a model for plain ones; --any tests it as it is",
            )
        return
    schemes = [_scheme(encryption) for encryption in (expected, met)]
    if schemes[0].canonical != schemes[1].canonical:
        names = [scheme.name for scheme in schemes]
        if names[0] == names[1]:  # a name promises nothing; the steps count
            names = [f"{scheme.name} ({scheme.canonical})" for scheme in schemes]
        raise SettingsError(
            f"the model is for images of scheme {names[0]}, but these have {names[1]}",
            "--any tests it all the same",
        )
    for name in ("key_scope", "context"):
        if expected[name] != met[name]:
            raise SettingsError(
                f"the model is for images of {name.replace('_', ' ')} {expected[name]!r}, "
                f"but these have {met[name]!r}",
                "--any tests it all the same",
            )
    if expected["key_scope"] == "dataset" and expected["key_id"] != met["key_id"]:
        raise WrongKeyError(
            f"the model is for images of key {expected['key_id']}, but these have key {met['key_id']}",
            "--any tests it all the same",
        )


def _facts(scheme: Scheme, key_id: str, key_scope: str, context: str) -> Encryption:
    return {
        "scheme": scheme.name,
        "steps": scheme.describe()["steps"],
        "key_id": key_id,
        "key_scope": key_scope,
        "context": context,
    }


def _scheme(encryption: Encryption) -> Scheme:
    try:
        return Scheme.from_description({"name": encryption["scheme"], "steps": encryption["steps"]})
    except (KeyError, SchemeError) as error:
        raise ManifestError(f"the model's file tells of no encryption that there is: {error}") from None
