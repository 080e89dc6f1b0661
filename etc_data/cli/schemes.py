"""`etc-data schemes`: what there is, what it costs, which models accept it, and what breaks it."""

import json
from dataclasses import dataclass
from typing import Any

import click

from etc_data.cli.options import SizeType, say
from etc_data.cli.paragraphs import paragraph
from etc_data.errors import GeometryError
from etc_data.presets import PRESET_NAMES, family_of
from etc_data.schemes import Scheme

_COLUMN = 19  # where the texts begin; the longest name of a preset has 17 characters
_DETAILS = {
    "steps": "summary",
    "models": "models",
    "one key for all": "one_key",
    "a key per image": "key_per_image",
}

_TOPOLOGY = "measured: statistics over 20 to 100 images put all blocks in their places, in seconds"
_VALUE_TOPOLOGY = "measured: statistics over 20 to 100 images of 64 px lay all values out, in seconds"
_ONE_IMAGE = "measured: no attack tried read single images; blocks of one color may show"
_OUTLINES_FR = "measured: outlines show (FR attack); no other attack tried read single images"
_KNOWN = "one known plain image"
_JIGSAW = (
    "measured: a jigsaw solver restores 93 % of the joins of single exact images and 72 % at JPEG 95 "
    "(blocks of 16), 35 % and 12 % (blocks of 8)"
)


@dataclass(frozen=True)
class SchemeFacts:
    """What the table says of a family of presets, by its example's name.

    Attributes:
        models: which plain models can be encrypted to accept it, or how models learn from it.
        one_key: the cheapest attack that breaks it when all images share a key.
        key_per_image: what remains when every image has its own draws.
    """

    models: str
    one_key: str
    key_per_image: str


_OUTLINES = "measured: blocks stay in place, so outlines show at 224 px with no attack at all"
_COM = "measured: all 96 keys are tried; outlines show at 224 px with no attack at all"
_COM_SUB_BLOCKS = (
    "measured: the blocks of one image vote for their key in a second; outlines show at 224 px with no "
    "attack at all"
)
_JIGSAW_IND = (
    "measured: a jigsaw solver restores 81 % of the joins of single exact images, 44 % at JPEG 95; "
    "pictures are readable down to JPEG 85"
)

# docs/threat-model.md gives the measurements and sources behind the last two.
FACTS: dict[str, SchemeFacts] = {
    "etc-16": SchemeFacts(
        "ViT encrypted; ConvMixer, ViT trained on it; order-free models",
        _TOPOLOGY + "; with an encrypted model one query gives most, five all",
        _JIGSAW,
    ),
    "com-16": SchemeFacts("ConvMixer, ViT encrypted", _COM, _COM),
    "com-16/8": SchemeFacts("ConvMixer, ViT encrypted", _COM_SUB_BLOCKS, _COM_SUB_BLOCKS),
    "ind-16": SchemeFacts(
        "ConvMixer, ViT encrypted",
        _TOPOLOGY,
        "measured: a jigsaw solver restores 98 % of the joins of single images in a second",
    ),
    "ind-16/8": SchemeFacts("ConvMixer, ViT encrypted", _TOPOLOGY, _JIGSAW_IND),
    "shuffle-com-16": SchemeFacts(
        "ConvMixer, ViT encrypted",
        _VALUE_TOPOLOGY,
        _OUTLINES,
    ),
    "shuffle-ind-16": SchemeFacts(
        "ConvMixer, ViT encrypted",
        "measured: statistics over 1,000 images of 64 px lay all values out, in 20 s; over 200 most",
        _OUTLINES,
    ),
    "flip-4": SchemeFacts("ConvMixer, ViT encrypted", _VALUE_TOPOLOGY, _OUTLINES_FR),
    "adaptive-16": SchemeFacts(
        "ViT encrypted; ConvMixer with adaptive permutation matrix trained on it",
        _VALUE_TOPOLOGY,
        _ONE_IMAGE,
    ),
    "vit-16/8": SchemeFacts("ViT encrypted or fine-tuned on it", _VALUE_TOPOLOGY, _ONE_IMAGE),
    "le-4": SchemeFacts("adaptation network trained on it", _VALUE_TOPOLOGY, _OUTLINES_FR),
    "ele-4": SchemeFacts(
        "adaptation network trained on it",
        "measured: statistics over 1,000 images of 64 px lay the high halves out, over 100 most",
        _ONE_IMAGE + "; literature: GAN attack (arXiv 2407.06570)",
    ),
    "pe": SchemeFacts(
        "ResNet trained on it; models encrypted under one key",
        "measured: FR attack on every single image; 5 images give the polarities; " + _KNOWN,
        "measured: FR attack on every single image, and networks that learned to invert it",
    ),
}


def facts_of(scheme: Scheme) -> SchemeFacts | None:
    """Returns what is known of a preset's family, or None for schemes of one's own."""
    family = family_of(scheme.name)
    name = None if family is None else family.example.replace("adaptive-pixel", "adaptive")
    return None if name is None else FACTS[name]


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option(
    "--size", type=SizeType(), default="224", show_default=True, help="For the key space, in pixels."
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def schemes(names: tuple[str, ...], size: tuple[int, int], as_json: bool) -> None:
    """List the encryption schemes: steps, key space, JPEG or not, models, and what breaks them.

    Presets take other block sizes in their names: etc-8, ind-8/4, flip-8.

    \b
    Examples:
      etc-data schemes
      etc-data schemes etc-8 ind-8/4 --size 32
    """
    chosen = [Scheme.preset(name) for name in names or PRESET_NAMES]
    records = [_record(scheme, size) for scheme in chosen]
    if as_json:
        click.echo(json.dumps(records, indent=1))
        return
    height, width = size
    click.echo(f"Schemes, with the key space of one image of {height} × {width} pixels\n")
    click.echo(_row("scheme", "key space", "coding", "source"))
    for record in records:
        _show(record)
    click.echo()
    say(
        "A large key space is no protection by itself: one key for all images gives the layout away.\n"
        "docs/threat-model.md tells what was measured."
    )


def _show(record: dict[str, Any]) -> None:
    bits = record["key_space_bits"]
    space = "does not fit" if bits is None else f"2^{bits:,.1f}"
    coding = "JPEG" if record["jpeg_friendly"] else "PNG"
    click.echo()
    click.echo(click.style(_row(record["name"], space, coding, record["source"]), bold=True))
    for label, field in _DETAILS.items():
        click.echo(paragraph(f"  {label}", record[field], _COLUMN))


def _row(name: str, space: str, coding: str, source: str) -> str:
    return f"{name:<{_COLUMN - 1}} {space:<15} {coding:<7} {source}"


def _record(scheme: Scheme, size: tuple[int, int]) -> dict[str, Any]:
    family, facts = family_of(scheme.name), facts_of(scheme)
    assert family is not None
    assert facts is not None
    try:
        bits = round(scheme.key_space_bits(*size), 1)
    except GeometryError:
        bits = None
    return {
        "name": scheme.name,
        "source": family.source,
        "summary": family.summary,
        "steps": scheme.describe()["steps"],
        "block_size": scheme.block_size,
        "default_key_scope": scheme.default_key_scope,
        "key_space_bits": bits,
        "jpeg_friendly": scheme.jpeg_friendly,
        "models": facts.models,
        "one_key": facts.one_key,
        "key_per_image": facts.key_per_image,
    }
