"""``report.html``: one page that needs no network, for people who would rather look than read."""

import base64
import io
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from etc_data.audit.attack import Finding
from etc_data.audit.evidence import Bytes
from etc_data.audit.trials import ATTACKERS, Exhibit
from etc_data.errors import EtcError

if TYPE_CHECKING:
    from jinja2 import Template

    from etc_data.audit.report import AuditReport

_LARGEST_PICTURE = 224  # pixels per side; larger ones are halved until they fit
_MOST_PICTURES = 4  # of each attack
_SMALLEST_PICTURE = 96  # smaller ones are shown enlarged


def render(report: "AuditReport") -> str:
    """Returns the page as HTML.

    Raises:
        EtcError: Jinja2 is not installed.
    """
    main, curve = _curve(report.exhibits)
    return _template().render(
        report=report,
        verdicts=[(name, holds, report.verdict(name)) for name, holds in ATTACKERS.items()],
        cases=[_case(exhibit) for exhibit in main],
        curve=curve,
        facts=_facts(report),
    )


@cache
def _template() -> "Template":
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError:
        raise EtcError("the page of the report needs Jinja2", "pip install 'etc-data[audit]'") from None
    text = Path(__file__).with_name("report_page.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.from_string(text)


def _curve(exhibits: tuple[Exhibit, ...]) -> tuple[list[Exhibit], list[Finding]]:
    """Returns the exhibits to show in full, and the same attack's findings by number of images."""
    topology = [exhibit for exhibit in exhibits if exhibit.finding.attack == "topology"]
    rest = [exhibit for exhibit in exhibits if exhibit.finding.attack != "topology"]
    topology.sort(key=lambda exhibit: exhibit.finding.cost["images"])
    return topology[-1:] + rest, [exhibit.finding for exhibit in topology]


def _case(exhibit: Exhibit) -> dict[str, Any]:
    finding = exhibit.finding
    pictures = []
    if finding.restored is not None:
        for number, restored in enumerate(finding.restored[:_MOST_PICTURES]):
            row = {"encrypted": exhibit.encrypted[number], "restored": restored}
            if exhibit.plain is not None:
                row = {"plain": exhibit.plain[number], **row}
            pictures.append({name: data_url(image) for name, image in row.items()})
    return {
        "finding": finding,
        "attacker": exhibit.attacker,
        "outcome": exhibit.outcome,
        "pictures": pictures,
    }


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
        "key scope": storage.key_scope,
        "key id": storage.key_id,
        "context": storage.context or "(none)",
        "samples": ", ".join(f"{split} {count}" for split, count in storage.samples.items()),
        "labels": labels,
        "class names": ", ".join(storage.class_names) or "not published",
        "copies of each image": str(storage.copies),
        "size": f"{report.size[0]} × {report.size[1]}",
        "codec": report.codec,
        "file sizes": f"{least} to {most} bytes, median {median}: how busy each picture is",
        "equal ciphertexts": str(report.duplicates),
        "mean image": f"{report.mean_image:.2f} × the contrast of chance",
        "key space": f"2^{report.key_space.bits:.1f}"
        + ("" if years > 1 else ": searched within a year at 10¹² keys per second"),
    }
