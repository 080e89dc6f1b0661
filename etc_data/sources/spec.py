"""`open_source`: from what a user writes on a command line to a source of plain images."""

import glob
import os
import re
from typing import Any
from urllib.parse import unquote

from etc_data.errors import SourceError
from etc_data.sources.encrypted import refuse_encrypted_folder
from etc_data.sources.folder import ImageFolder, printable
from etc_data.sources.huggingface import HuggingFaceDataset
from etc_data.sources.item import Source
from etc_data.sources.tars import TarShards, holds_tars, is_tar
from etc_data.sources.torchvision_datasets import TorchvisionDataset

_FORMS = "give a folder, a tar or a pattern of tars, hf:NAME_OR_PATH, or torchvision:NAME?root=FOLDER"
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_PATTERN = re.compile(r"[*?\[{]")
_HF_OPTIONS = ("config", "image_column", "label_column")
_TABLES = ("*.parquet", "*.arrow", "*/*.parquet", "*/*.arrow")


def open_source(spec: str | os.PathLike[str]) -> Source:
    """Returns the source that a text names.

    * a folder: `TarShards` if it holds tars and no images beside them, else `ImageFolder`
    * ``photos.tar``, ``train-{000..009}.tar``, ``train-*.tar``: `TarShards`
    * ``hf:NAME_OR_PATH[:SPLIT][?OPTION=VALUE&…]``: `HuggingFaceDataset`, with the options config,
      image_column and label_column
    * ``torchvision:NAME?root=FOLDER[&split=SPLIT][&OPTION=VALUE…]``: `TorchvisionDataset`

    In the value of an option, ``%26`` stands for ``&`` and ``%25`` for ``%``.

    Args:
        spec: the text; a path object is always taken as a path.

    Raises:
        SourceError: the text is none of these, or the source cannot be opened.
    """
    if isinstance(spec, str):
        kind, _, rest = spec.partition(":")
        if kind == "hf":
            return _open_hugging_face(rest)
        if kind == "torchvision":
            return _open_torchvision(rest)
        if _URL.match(spec):
            # Without the rest, in which a password or a signature may stand.
            where = f"{printable(spec.partition(':')[0])}://…"
            raise SourceError(f"{where} is not on this machine; fetch it first", _FORMS)
    path = os.fspath(spec)
    if os.path.isdir(path):
        return _open_folder(path)
    if os.path.exists(path):
        if is_tar(path):
            return TarShards(path)
        tables = path.lower().endswith((".parquet", ".arrow"))
        hint = f"Parquet and Arrow are read as hf:{printable(path)}" if tables else _FORMS
        raise SourceError(f"{printable(path)!r} is a file, not a source of images", hint)
    if _PATTERN.search(path):
        return TarShards(path)
    raise SourceError(f"{printable(path)!r} does not exist", _FORMS)


def _open_folder(path: str) -> Source:
    refuse_encrypted_folder(path)
    if holds_tars(path):
        return TarShards(path)
    try:
        return ImageFolder(path)
    except SourceError as error:
        if any(glob.glob(table, root_dir=path) for table in _TABLES):
            hint = f"Parquet and Arrow are read as hf:{printable(path)}"
            raise SourceError(str(error), hint) from error
        raise


def _open_hugging_face(text: str) -> HuggingFaceDataset:
    name, query = (text, "") if _exists(text) else text.partition("?")[::2]
    # A path may hold colons, and a split asked for wrongly, as in train[:100], may too.
    colons = [match.start() for match in re.finditer(":", name)]
    ends = [end for end in reversed(colons) if _exists(name[:end])] or colons[:1]
    split = None
    if ends and not _exists(name):
        name, split = name[: ends[0]], name[ends[0] + 1 :]
    if not name:
        raise SourceError("hf: names no data set", "such as hf:uoft-cs/cifar10 or hf:photos.parquet")
    options = _options(query)
    for option in options:
        if option not in _HF_OPTIONS:
            known = ", ".join(_HF_OPTIONS)
            raise SourceError(f"hf: has no option {printable(option)!r}; it has {known}")
    return HuggingFaceDataset(name, split, **options)


def _open_torchvision(text: str) -> TorchvisionDataset:
    name, _, query = text.partition("?")
    options = _options(query)
    if not name or "root" not in options:
        raise SourceError(
            "torchvision: needs a data set and its root", "torchvision:CIFAR10?root=FOLDER"
        )
    return TorchvisionDataset(name, **options)


def _options(query: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for part in filter(None, query.split("&")):
        name, equals, value = part.partition("=")
        if not equals or not value or name in options:
            raise SourceError(
                f"option {printable(part)!r} is not of the form name=value, or given twice"
            )
        options[name] = unquote(value)
    return options


def _exists(path: str) -> bool:
    return bool(path) and os.path.exists(os.path.expanduser(path))
