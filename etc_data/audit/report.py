"""The report of an audit: every finding, what follows from them, and ``report.json``."""

import platform
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Literal

import etc_data
from etc_data.audit.attack import Finding
from etc_data.audit.key_space import KeySpace, key_space
from etc_data.audit.recommendations import recommend
from etc_data.audit.statistics import count_duplicates, mean_image_contrast
from etc_data.audit.storage import StorageSummary, look_at_storage
from etc_data.audit.subject import Subject
from etc_data.audit.trials import ATTACKERS, Exhibit, Omission, plan_trials
from etc_data.audit.weighing import weigh
from etc_data.errors import ModelError
from etc_data.keys import SecretKey
from etc_data.shards.data_set import Place
from etc_data.shards.manifest import Manifest
from etc_data.shards.storage import open_storage

if TYPE_CHECKING:
    from torch import nn

    from etc_data.audit.lpips import Lpips

REPORT_FORMAT = "etc-data-audit/1"

Verdict = Literal["broken", "leaks", "held", "not tried"]

_READER = "reader of the bucket"
_TRAINER = "training provider"
_SEE_THE_BUCKET_TOO = "one who knows a photo", "one who can submit photos"
_SEVERITY: tuple[Verdict, ...] = ("held", "not tried", "leaks", "broken")
_COUNTED = {"topology": "images", "known plaintext": "pairs", "chosen plaintext": "queries"}
_PACKAGES = ("numpy", "scipy", "pillow", "torch")


@dataclass(frozen=True)
class Standing:
    """How a data set stands against one attacker, as far as was tried.

    Attributes:
        attacker: who.
        holds: what they have.
        verdict: ``"broken"``: an attack restored pictures.  ``"leaks"``: one tells something of them,
            but restores none.
        ground: what the verdict rests on.
    """

    attacker: str
    holds: str
    verdict: Verdict
    ground: str


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
        settings: of the audit, as its user chose them.
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
    settings: dict[str, Any]
    seconds: float

    @property
    def broken(self) -> bool:
        """Whether any attack restored pictures."""
        return any(exhibit.breaks for exhibit in self.exhibits)

    @property
    def has_key(self) -> bool:
        """Whether the truth was at hand."""
        return bool(self.settings["with_key"])

    @property
    def standings(self) -> tuple[Standing, ...]:
        """How the data set stands against each attacker.

        Who sees the bucket and something more is at least as far as its reader.
        """
        reader = self._standing(_READER, ATTACKERS["reader of the bucket"])
        trainer = Standing(
            _TRAINER,
            "the same files, and the model made from them alone, which tells nothing that they do not",
            reader.verdict,
            f"as the {_READER}",
        )
        standings = [reader, trainer]
        for attacker, holds in ATTACKERS.items():
            if attacker == _READER:
                continue
            own = self._standing(attacker, holds)
            more = _SEVERITY.index(reader.verdict) > _SEVERITY.index(own.verdict)
            if more and attacker in _SEE_THE_BUCKET_TOO:
                own = replace(own, verdict=reader.verdict, ground=f"as the {_READER}")
            standings.append(own)
        return tuple(standings)

    def _standing(self, attacker: str, holds: str) -> Standing:
        """Returns how it stands by the attacks that are this attacker's own."""
        tried = [exhibit for exhibit in self.exhibits if exhibit.attacker == attacker]
        if not tried:
            reasons = [omission.reason for omission in self.omissions if omission.attacker == attacker]
            return Standing(attacker, holds, "not tried", reasons[0] if reasons else "")
        worst = max(tried, key=_weight)
        if worst.outcome == "held":
            names = dict.fromkeys(exhibit.finding.attack for exhibit in tried)
            return Standing(attacker, holds, "held", f"no success: {'; '.join(names)}")
        return Standing(attacker, holds, worst.outcome, _ground(worst.finding))

    @property
    def recommendations(self) -> tuple[str, ...]:
        """What the owner should do, as it follows from the findings."""
        findings = [exhibit.finding for exhibit in self.exhibits]
        return recommend(
            findings,
            self.storage,
            duplicates=self.duplicates,
            has_key=self.has_key,
            quick=self.settings["quick"],
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns the content of ``report.json``; it holds no picture and no key."""
        return {
            "format": REPORT_FORMAT,
            "broken": self.broken,
            "attackers": {
                s.attacker: {"holds": s.holds, "verdict": s.verdict, "ground": s.ground}
                for s in self.standings
            },
            "attacks": [{"attacker": e.attacker, **e.finding.to_dict()} for e in self.exhibits],
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
            "settings": {"images": self.images, **self.settings},
            "versions": versions(),
            "seconds": round(self.seconds, 1),
        }


def title(finding: Finding) -> str:
    """Returns the name of an attack with what it took, such as ``"topology, 5 images"``."""
    what = _COUNTED.get(finding.attack, "")
    return (
        f"{finding.attack}, {counted(finding.cost[what], what)}"
        if what in finding.cost
        else finding.attack
    )


def counted(count: float, what: str) -> str:
    """Returns a number of things, such as ``"1 query"`` of ``"queries"``."""
    one = {"queries": "query"}.get(what, what.removesuffix("s"))
    return f"{count:,.0f} {one if count == 1 else what}"


def _weight(exhibit: Exhibit) -> tuple[int, float]:
    return _SEVERITY.index(exhibit.outcome), exhibit.finding.scores.get("pictures_alike", 0)


def _ground(finding: Finding) -> str:
    """Returns what won, and how many pictures came back."""
    count = 0 if finding.restored is None else len(finding.restored)
    back = round(count * finding.scores.get("pictures_alike", 0))
    pictures = f" ({back} of {count} pictures came back)" if back else ""
    return title(finding) + pictures


def versions() -> dict[str, str]:
    """Returns the versions of what the figures depend on, as far as it is installed."""
    found = {"etc-data": etc_data.__version__, "python": platform.python_version()}
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def audit(
    place: Place,
    *,
    key: SecretKey | None = None,
    split: str | None = None,
    images: int = 1000,
    quick: bool = False,
    model: "nn.Module | None" = None,
    base: "nn.Module | None" = None,
    lpips: "Lpips | None" = None,
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
        lpips: compares restored pictures with the plain ones as well.
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
    say("to read the images")
    subject = Subject.read(place, key=key, most=images, split=split)
    subject = replace(subject, model=model, base=base, lpips=lpips)
    say("what lies open")
    storage = look_at_storage(place)
    exhibits, omissions = [], []
    for trial in plan_trials(subject, quick=quick):
        if isinstance(trial, Omission):
            omissions.append(trial)
        else:
            say(trial.name)
            exhibits.append(weigh(trial.run()))
    height, width = subject.height, subject.width
    return AuditReport(
        place=str(open_storage(place)),
        storage=storage,
        key_space=key_space(subject.manifest.scheme, height, width),
        codec=subject.codec,
        size=(height, width),
        images=len(subject.encrypted),
        duplicates=count_duplicates(subject.encrypted),
        mean_image=mean_image_contrast(subject.encrypted),
        exhibits=tuple(exhibits),
        omissions=tuple(omissions),
        settings={
            "with_key": key is not None,
            "quick": quick,
            "split": split,
            "most_images": images,
            "with_model": model is not None,
            "with_base": base is not None,
            "with_lpips": lpips is not None,
        },
        seconds=time.monotonic() - start,
    )
