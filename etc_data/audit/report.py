"""The report of an audit: every finding, what follows from them, and ``report.json``."""

import json
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

import etc_data
from etc_data.audit.key_space import KeySpace, key_space
from etc_data.audit.recommendations import recommend
from etc_data.audit.statistics import count_duplicates, mean_image_contrast
from etc_data.audit.storage import StorageSummary, look_at_storage
from etc_data.audit.subject import Subject
from etc_data.audit.trials import ATTACKERS, Attacker, Exhibit, Omission, plan_trials
from etc_data.errors import ModelError
from etc_data.keys import SecretKey
from etc_data.shards.data_set import Place
from etc_data.shards.manifest import Manifest

if TYPE_CHECKING:
    from torch import nn

REPORT_FORMAT = "etc-data-audit/1"

Verdict = Literal["broken", "leaks", "held", "not tried"]


@dataclass(frozen=True)
class AuditReport:
    """What an audit found.

    Attributes:
        place: of the data set.
        storage: what lies open in it.
        key_space: of the scheme at the images' size.
        codec: of the images.
        size: height and width of the images attacked, in pixels.
        images: how many were looked at.
        duplicates: how many of them equal an earlier one.
        mean_image: contrast of their mean image, about 1 where nothing shows.
        exhibits: the findings.
        omissions: what was not tried.
        has_key: whether the truth was at hand.
        seconds: wall time.
    """

    place: str
    storage: StorageSummary
    key_space: KeySpace
    codec: str
    size: tuple[int, int]
    images: int
    duplicates: int
    mean_image: float
    exhibits: tuple[Exhibit, ...] = field(repr=False)
    omissions: tuple[Omission, ...]
    has_key: bool
    seconds: float

    @property
    def broken(self) -> bool:
        """Whether any attack restored pictures."""
        return any(exhibit.breaks for exhibit in self.exhibits)

    def verdict(self, attacker: Attacker) -> Verdict:
        """Returns how the data set stands against an attacker, as far as was tried.

        ``"leaks"``: an attack succeeded that tells something of the pictures, but restores none.
        """
        tried = [exhibit for exhibit in self.exhibits if exhibit.attacker == attacker]
        if not tried:
            return "not tried"
        if any(exhibit.breaks for exhibit in tried):
            return "broken"
        return "leaks" if any(exhibit.finding.success for exhibit in tried) else "held"

    @property
    def recommendations(self) -> tuple[str, ...]:
        """What the owner should do, as it follows from the findings."""
        findings = [exhibit.finding for exhibit in self.exhibits]
        return recommend(findings, self.storage, duplicates=self.duplicates)

    def to_dict(self) -> dict[str, Any]:
        """Returns the content of ``report.json``; it holds no picture and no key."""
        return {
            "format": REPORT_FORMAT,
            "broken": self.broken,
            "attackers": {
                name: {"holds": holds, "verdict": self.verdict(name)}
                for name, holds in ATTACKERS.items()
            },
            "attacks": [
                {"attacker": exhibit.attacker, **exhibit.finding.to_dict()} for exhibit in self.exhibits
            ],
            "not_tried": [
                {"attack": o.attack, "attacker": o.attacker, "reason": o.reason} for o in self.omissions
            ],
            "recommendations": list(self.recommendations),
            "data_set": {
                **self.storage.to_dict(),
                "codec": self.codec,
                "size": list(self.size),
                "duplicates": self.duplicates,
                "mean_image_contrast": round(self.mean_image, 3),
            },
            "key_space_bits": round(self.key_space.bits, 1),
            "settings": {"images": self.images, "with_key": self.has_key},
            "versions": {
                "etc-data": etc_data.__version__,
                "numpy": np.__version__,
                "python": platform.python_version(),
            },
            "seconds": round(self.seconds, 1),
        }


def audit(
    place: Place,
    *,
    key: SecretKey | None = None,
    split: str | None = None,
    images: int = 1000,
    quick: bool = False,
    model: "nn.Module | None" = None,
    base: "nn.Module | None" = None,
    say: Callable[[str], None] = lambda _: None,
) -> AuditReport:
    """Attacks a data set of one's own and reports what came of it.

    Args:
        place: a folder or a URL.
        key: the owner's.  With it attacks are judged against the truth, and those are tried that
            take plain images; without it only what an attacker himself would see decides.
        split: look at this one only.
        images: how many to look at, at the most; they are held in memory.
        quick: leave out what takes minutes.
        model: encrypted for this data set, to be attacked as well.
        base: the plain weights that `model` was fine-tuned from.
        say: told the name of each attack before it is tried.

    Raises:
        ManifestError: there is no such data set, or no such split.
        WrongKeyError: the key is another.
        DamagedShardError: a shard is missing, cut short or altered.
        ImageError: the data set holds no image.
        ModelError: `model` is not encrypted, or was not encrypted for this data set.
        EtcError: a package that attacks need is not installed.
    """
    start = time.monotonic()
    if model is not None:
        from etc_data.models.public_facts import check_same_key, model_info

        check_same_key(Manifest.read(place), model_info(model))
    elif base is not None:
        raise ModelError("base weights help against an encrypted model, and none was given")
    say("what lies open")
    storage = look_at_storage(place)
    subject = Subject.read(place, key=key, most=images, split=split)
    subject = replace(subject, model=model, base=base)
    exhibits, omissions = [], []
    for trial in plan_trials(subject, quick=quick):
        if isinstance(trial, Omission):
            omissions.append(trial)
        else:
            say(trial.name)
            exhibits.append(trial.run())
    height, width = subject.height, subject.width
    return AuditReport(
        place=str(place),
        storage=storage,
        key_space=key_space(subject.manifest.scheme, height, width),
        codec=subject.codec,
        size=(height, width),
        images=len(subject.encrypted),
        duplicates=count_duplicates(subject.encrypted),
        mean_image=mean_image_contrast(subject.encrypted),
        exhibits=tuple(exhibits),
        omissions=tuple(omissions),
        has_key=key is not None,
        seconds=time.monotonic() - start,
    )


def write_report(report: AuditReport, folder: Path) -> tuple[Path, Path]:
    """Writes ``report.json`` and ``report.html`` into a folder that only the owner may read.

    Returns:
        The paths of both.

    Raises:
        OutputExistsError: the folder holds something.
        EtcError: it cannot be written.
    """
    from etc_data.audit.report_page import render
    from etc_data.errors import OutputExistsError
    from etc_data.shards.files import published, writing

    with writing(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise OutputExistsError(f"{folder} is not empty", "choose another folder")
        folder.chmod(0o700)
        contents = {
            "report.json": (json.dumps(report.to_dict(), indent=1) + "\n").encode(),
            "report.html": render(report).encode(),
        }
        for name, data in contents.items():
            with published(folder / name) as file:
                file.write(data)
    return folder / "report.json", folder / "report.html"
