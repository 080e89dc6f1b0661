"""``report.html``: one page that needs no network, for people who would rather look than read."""

import base64
import io
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from etc_data.audit.attack import Finding
from etc_data.audit.evidence import Bytes
from etc_data.audit.report import counted, title, versions
from etc_data.audit.trials import Exhibit
from etc_data.errors import EtcError

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup

    from etc_data.audit.report import AuditReport

_LARGEST_PICTURE = 224  # pixels per side; larger ones are halved until they fit
_MOST_PICTURES = 4  # of each attack
_SMALLEST_PICTURE = 96  # smaller ones are shown enlarged

_METHODS = {
    "topology": "Statistics over all images tell which borders of blocks, or which values, lay side by "
    "side: under one key they do so in every image.",
    "as is": "Nothing is done: the encrypted images are looked at, from afar.",
    "feature reconstruction, advanced": "Each pixel takes the one of its possible colors that is "
    "nearest to its neighbor's, so that outlines appear.",
    "jigsaw": "Each image is put together by itself, by how well the borders of its blocks fit.",
    "brute force": "All keys are tried, and the smoothest picture is kept.",
    "inverse transformation network": "A network learns to undo the encryption from other pictures, "
    "encrypted with other keys.",
    "recognition": "Encryption keeps how often values occur in an image; by that, the encrypted form "
    "of a photo is found.",
    "known plaintext": "Some photos and their encrypted form tell how all others were encrypted.",
    "chosen plaintext": "Photos are made for the purpose and submitted; their encrypted form tells how "
    "all others were encrypted.",
    "row matching": "The weights of the encrypted model's patches are compared with each other, which "
    "leaves the key of one patch to be found.",
    "base weights": "The encrypted model's weights are compared with those it was fine-tuned from, "
    "which tells the key.",
}
"""How attacks work, in a sentence."""

_SCORES = {
    "pictures_alike": "share of restored pictures whose outlines are those of the plain ones",
    "values": "share of all color values that are back in their place, up to one state of the whole",
    "joins": "share of neighbors across block borders that are neighbors again",
    "visible_joins": "share of what is to be seen around joins that goes on as in the plain picture",
    "dc": "direct comparison: share of blocks back in their place",
    "nc": "neighbor comparison: share of neighboring blocks that are neighbors again",
    "lc": "largest component: share of the blocks in the largest part put together rightly",
    "best_buddies": "share of joins that are the likeliest seen from either side; needs no key",
    "smoothness": "how smoothly tiles meet, 0 for random ones, 0.7 and more for photos; needs no key",
    "block_smoothness": "the same from block to block, of encrypted images as they are",
    "contours": "how well outlines agree with the plain picture's: 1 the same, 0 unrelated",
    "ssim": "structural similarity to the plain picture: 1 the same",
    "lpips": "learned perceptual distance to the plain picture: 0 the same",
    "psnr": "peak signal-to-noise ratio to the plain picture in dB; 99 stands for equal",
    "gain": "SSIM above that of the mean picture",
    "recognized": "share of photos whose encrypted form was found",
    "likeness": "how alike the model's weights and the base weights are: 1 the same",
    "times_chance": "how many times more alike than shuffled weights",
    "position_likeness": "the same of position embeddings: 1 the same",
    "key_space_bits": "binary logarithm of the number of keys of one image",
    "key_space_bits_left": "the same, once all patches are under one key",
}
"""What scores mean."""


def render(report: "AuditReport") -> str:
    """Returns the page as HTML.

    Raises:
        EtcError: Jinja2 is not installed.
    """
    shown, curve = _curve(report.exhibits)
    known = {name for exhibit in shown for name in exhibit.finding.scores}
    return page_template().render(
        report=report,
        cases=[_case(exhibit) for exhibit in shown],
        curve=curve,
        meanings={name: text for name, text in _SCORES.items() if name in known},
        facts=_facts(report),
        settings=_settings(report),
        versions=versions(),
    )


@cache
def page_template() -> "Template":
    """Returns the template of the page.

    Raises:
        EtcError: Jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError:
        raise EtcError("the page of the report needs Jinja2", "pip install 'etc-data[audit]'") from None
    text = Path(__file__).with_name("report_page.html").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["sentence"] = _sentence
    return environment.from_string(text)


def _sentence(text: str) -> "Markup":
    """Returns a text with a capital at its start, and options of the command line marked as code."""
    from markupsafe import Markup, escape

    safe = str(escape(text[:1].upper() + text[1:]))
    return Markup(re.sub(r"--[a-z-]+", r"<code>\g<0></code>", safe))


def _curve(exhibits: Sequence[Exhibit]) -> tuple[list[Exhibit], list[Finding]]:
    """Returns the exhibits to show in full, and the topology attack's findings by number of images.

    Of the topology attack the one is shown that restored pictures, from the most images.
    """
    topology = [exhibit for exhibit in exhibits if exhibit.finding.attack == "topology"]
    rest = [exhibit for exhibit in exhibits if exhibit.finding.attack != "topology"]
    topology.sort(key=lambda exhibit: exhibit.finding.cost["images"])
    best = sorted(topology, key=lambda exhibit: exhibit.breaks)[-1:]
    return best + rest, [exhibit.finding for exhibit in topology]


def _case(exhibit: Exhibit) -> dict[str, Any]:
    finding = exhibit.finding
    return {
        "finding": finding,
        "title": title(finding),
        "method": _METHODS.get(finding.attack, ""),
        "attacker": exhibit.attacker,
        "outcome": exhibit.outcome,
        "spent": _spent(finding),
        "pictures": _pictures(exhibit),
        "compared": 0 if finding.restored is None else len(finding.restored),
    }


def _spent(finding: Finding) -> str:
    amounts = [(name.replace("_", " "), amount) for name, amount in finding.cost.items()]
    spent = [
        counted(amount, name) if float(amount).is_integer() else f"{amount:.2f} {name}"
        for name, amount in amounts
    ]
    return ", ".join([*spent, f"{finding.seconds:.2f} s"])


def _pictures(exhibit: Exhibit) -> list[dict[str, str]]:
    """Returns rows of plain, encrypted and restored pictures; without the key restored ones alone."""
    rows = []
    restored = exhibit.finding.restored
    for number, picture in enumerate(() if restored is None else restored[:_MOST_PICTURES]):
        row = {"restored": picture}
        if exhibit.plain is not None:
            row = {"plain": exhibit.plain[number], "encrypted": exhibit.encrypted[number], **row}
        rows.append({name: data_url(image) for name, image in row.items()})
    return rows


def data_url(image: Bytes) -> str:
    """Returns a picture, uint8 [H, W, 3], as a JPEG that stands in the page itself."""
    picture = Image.fromarray(np.ascontiguousarray(image))
    while max(picture.size) > _LARGEST_PICTURE:
        picture = picture.reduce(2)
    if max(picture.size) < _SMALLEST_PICTURE:
        factor = -(-_SMALLEST_PICTURE // max(picture.size))
        size = (picture.width * factor, picture.height * factor)
        picture = picture.resize(size, Image.Resampling.NEAREST)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=90, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _facts(report: "AuditReport") -> dict[str, str]:
    storage = report.storage
    labels = "none"
    if storage.labels:
        counts = list(storage.labels.values())
        labels = f"{len(counts)} classes, {min(counts)} to {max(counts)} images each"
    least, median, most = storage.image_bytes
    years = report.key_space.search_years(1e12)
    return {
        "scheme": storage.scheme,
        "key scope": f"{storage.key_scope}: one key for "
        + ("all images" if storage.key_scope == "dataset" else "each image"),
        "key id": storage.key_id,
        "context": storage.context or "(none)",
        "images": ", ".join(f"{split} {count:,}" for split, count in storage.samples.items()),
        "labels": labels,
        "class names": ", ".join(storage.class_names) or "not published",
        "copies of each image": str(storage.copies),
        "codec": report.codec,
        "file sizes": f"{least:,} to {most:,} bytes, median {median:,}: how busy each picture is",
        "equal ciphertexts": f"{report.duplicates} of {report.images}",
        "mean image": f"{report.mean_image:.2f} times the contrast of chance; where nothing shows, 1",
        "key space of one image": f"2^{report.key_space.bits:,.1f}"
        + ("" if years > 1 else ": searched within a year at 10¹² keys per second"),
    }


def _settings(report: "AuditReport") -> dict[str, str]:
    settings = report.settings
    words = {True: "yes", False: "no", None: "all"}
    return {
        "images looked at": f"{report.images:,}: of the first {settings['most_images']:,}, those of "
        "the most frequent size",
        "size (height × width)": f"{report.size[0]} × {report.size[1]} pixels",
        "split": settings["split"] or words[None],
        "key at hand": words[settings["with_key"]],
        "quick": words[settings["quick"]],
        "encrypted model attacked": words[settings["with_model"]],
        "base weights at hand": words[settings["with_base"]],
        "LPIPS weights at hand": words[settings["with_lpips"]],
        "time": f"{report.seconds:.0f} s",
    }
