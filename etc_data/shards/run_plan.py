"""What a run is about to write, so that a later one can continue it, or say why it cannot."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import etc_data
from etc_data.codecs import available_engines
from etc_data.errors import OutputExistsError
from etc_data.shards.files import canonical_json
from etc_data.shards.ledger import PLAN_KIND
from etc_data.shards.samples import SampleEncoder
from etc_data.sources.item import Source

PLAN_FORMAT = f"{PLAN_KIND}/1"
_LONGEST_SHOWN = 60  # a listing's hash is longer, and tells nobody anything


def make_plan(
    encoder: SampleEncoder, source: Source, shards: Mapping[str, int], *, class_names: bool
) -> dict[str, Any]:
    """Returns all that decides the bytes of a data set, besides the content of the source's files.

    Args:
        encoder: key and options.
        source: of which every item's id and label counts, and the names of the classes.
        shards: split → number of shards.
        class_names: whether the manifest names the classes.
    """
    # Of the engines only Pillow decides: another one is used where it gives the same bytes.
    versions = {"etc-data": etc_data.__version__, "images": available_engines()["pillow"]}
    if encoder.augmentation is not None:
        versions |= encoder.augmentation.versions()
    return {
        "format": PLAN_FORMAT,
        "key": encoder.cipher.key_id,
        **{name.replace("_", " "): value for name, value in encoder.options().items()},
        "labels": "keep" if encoder.labels else "none",
        "class names": "keep" if class_names else "drop",
        "copies": encoder.copies,
        "shards": dict(shards),
        "source": {
            "classes": _digest(source.class_names),
            **{split: _listing(source, split) for split in source.splits},
        },
        "versions": versions,
    }


def check_same_plan(before: dict[str, Any], now: dict[str, Any], what: str) -> None:
    """Checks that a run can continue an earlier one.

    Args:
        before: the plan of the earlier run.
        now: the plan of this one.
        what: is continued, for the message.

    Raises:
        OutputExistsError: they differ; the message names in what.
    """
    before, now = _flat(before), _flat(now)
    differences = [
        _difference(name, before.get(name), now.get(name))
        for name in dict.fromkeys((*before, *now))
        if canonical_json(before.get(name)) != canonical_json(now.get(name))
    ]
    if differences:
        raise OutputExistsError(
            f"{what} cannot be resumed: {'; '.join(differences)}",
            "give the same source, key and options, or start anew with --force",
        )


def _listing(source: Source, split: str) -> dict[str, Any]:
    items = source.items(split)
    return {"items": len(items), "listing": _digest([item.id, item.label] for item in items)}


def _digest(rows: Iterable[object]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        digest.update(canonical_json(row))
    return digest.hexdigest()


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns a plan as names and values that a message can tell one by one."""
    flat: dict[str, Any] = {}
    for name, entry in value.items():
        if isinstance(entry, dict):
            flat |= _flat(entry, f"{prefix}{name} ")
        else:
            flat[f"{prefix}{name}"] = entry
    return flat


def _difference(name: str, before: Any, now: Any) -> str:
    shown = ["none" if value in (None, "") else str(value) for value in (before, now)]
    if max(map(len, shown)) > _LONGEST_SHOWN:
        return f"{name} has changed"
    return f"{name} was {shown[0]} and is {shown[1]}"
