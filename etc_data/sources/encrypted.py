"""Recognizes what etc-data encrypted itself, so that nothing is encrypted twice by mistake."""

import json
import os

from etc_data.errors import SourceError
from etc_data.sources.folder import printable
from etc_data.sources.regular_files import open_regular

_MANIFEST_NAME = "manifest.json"
_MANIFEST_FORMAT = "etc-data-shards/"
_SAMPLE_FIELDS = {"key_id", "key_scope", "nonce", "scheme"}


def refuse_encrypted_folder(folder: str) -> None:
    """Refuses a folder of EtC shards, which its manifest tells.

    Raises:
        SourceError: the folder is one.
    """
    try:
        with open_regular(os.path.join(folder, _MANIFEST_NAME)) as file:
            manifest = json.load(file)
    except (OSError, ValueError, RecursionError):
        return
    if isinstance(manifest, dict) and str(manifest.get("format")).startswith(_MANIFEST_FORMAT):
        raise already_encrypted(folder)


def is_encrypted_sample(info: object) -> bool:
    """Tells whether the content of a sample's JSON member is that of an EtC shard."""
    return isinstance(info, dict) and info.keys() >= _SAMPLE_FIELDS


def already_encrypted(path: str) -> SourceError:
    """Returns the error to raise where EtC images are met instead of plain ones."""
    return SourceError(
        f"{printable(path)!r} is already encrypted by etc-data",
        "start from the plain images, or decrypt it first",
    )
