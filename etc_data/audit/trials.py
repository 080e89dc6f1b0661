"""The trials of an audit: which attacks are tried on a data set, for which attacker, at which cost."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np

from etc_data.audit.as_is import AsIs
from etc_data.audit.attack import Attack, Criterion, Evidence, Finding, timed
from etc_data.audit.brute_force import BruteForce, search_unit
from etc_data.audit.chosen_plaintext import ChosenPlaintextAttack
from etc_data.audit.ejps import JigsawAttack, check_edges
from etc_data.audit.evidence import Bytes, Ciphertexts, EncryptedModel
from etc_data.audit.fr import FeatureReconstruction
from etc_data.audit.itn import InverseTransformationNetwork
from etc_data.audit.judgment import judge
from etc_data.audit.known_plaintext import KnownPlaintextAttack
from etc_data.audit.model_alone import RowMatchingAttack
from etc_data.audit.model_base import BaseWeightsAttack
from etc_data.audit.statistics import recognize
from etc_data.audit.structure import Structure, structure_of
from etc_data.audit.subject import Subject
from etc_data.audit.topology import TopologyAttack
from etc_data.audit.value_layout import FEW
from etc_data.errors import SchemeError
from etc_data.states import COLORS

Attacker = Literal[
    "reader of the bucket",
    "inference provider",
    "one who knows a photo",
    "one who can submit photos",
]
ATTACKERS: dict[Attacker, str] = {
    "reader of the bucket": "all that is stored: encrypted images, labels, the manifest",
    "inference provider": "an encrypted model and encrypted queries under its key",
    "one who knows a photo": "the bucket, and some photos, with their encrypted form or without",
    "one who can submit photos": "the bucket, and the encrypted form of photos of their choice",
}
"""Who could attack a data set, and what they hold."""

_SHOWN = 4
_PAIRS = 4
_JIGSAWS, _QUICK_JIGSAWS = (24, 120.0), (12, 20.0)  # images and seconds, see `JigsawAttack`
_MOST_PHOTOS = 100
_RECONSTRUCTED = 24
_QUERIES = 40
_LITTLE_WORK, _QUICK_WORK = 6_000_000, 12_000_000  # see _work_of_layouts; 30 and 60 s of one core
_STARTS_OF_FEW = 10  # what refining all starts of few values costs, see `value_layout`
_LARGEST_TO_TRAIN = 64  # pixels per side
_LEAST_TO_TRAIN = 500
_RECOGNIZED = Criterion(
    "recognized", 0.5, "every second photo is found among the encrypted images, whatever the key scope"
)


@dataclass(frozen=True)
class Exhibit:
    """A finding with the pictures beside it.

    Attributes:
        finding: of the attack.
        attacker: whose attack it is.
        encrypted: of the pictures that `finding` restored, uint8 [k, H, W, 3].
        plain: the same as they were; None without the key.
    """

    finding: Finding
    attacker: Attacker
    encrypted: Bytes = field(repr=False)
    plain: Bytes | None = field(repr=False)

    @property
    def breaks(self) -> bool:
        """Whether the attack restored pictures."""
        return self.finding.success and self.finding.restored is not None

    @property
    def outcome(self) -> Literal["broken", "leaks", "held"]:
        """The mark of the attack."""
        return "broken" if self.breaks else "leaks" if self.finding.success else "held"


@dataclass(frozen=True)
class Trial:
    """One attack that is to be tried.

    Attributes:
        name: for the progress.
        run: does it.
    """

    name: str
    run: Callable[[], Exhibit] = field(repr=False)


@dataclass(frozen=True)
class Omission:
    """An attack that is not tried, and why."""

    attack: str
    attacker: Attacker
    reason: str


def plan_trials(subject: Subject, *, quick: bool) -> Iterator[Trial | Omission]:
    """Yields the attacks that are to be tried, and those that are not.

    Args:
        subject: the data set.
        quick: leave out what takes minutes.
    """
    yield from _on_ciphertexts(subject, quick)
    yield from _with_own_images(subject, quick)
    yield from _on_model(subject)
    yield from _on_known_photos(subject)


def _on_ciphertexts(subject: Subject, quick: bool) -> Iterator[Trial | Omission]:
    total = len(subject.encrypted)
    scheme = subject.manifest.scheme
    structure = structure_of(scheme)
    work = _work_of_layouts(subject, structure)
    if quick and work > _QUICK_WORK:
        reason = "laying out the values of so many blocks takes minutes; leave out --quick"
        yield Omission("topology", "reader of the bucket", reason)
    else:
        counts = {1, 5, 20, 100, total} if work <= _LITTLE_WORK else {total}
        for count in sorted(counts & set(range(1, total + 1))):
            attack = TopologyAttack(count, _SHOWN)
            shown = slice(0, min(count, _SHOWN))
            name = f"topology, {count} image{'s' if count > 1 else ''}"
            yield _trial(subject, name, attack, count, shown)
    as_is = AsIs(min(total, _RECONSTRUCTED))
    yield _trial(subject, as_is.name, as_is, as_is.images, slice(0, as_is.images))
    fr = FeatureReconstruction("advanced", min(total, _RECONSTRUCTED))
    yield _trial(subject, fr.name, fr, fr.images, slice(0, fr.images))
    try:
        check_edges(scheme)
        if max(subject.height, subject.width) == structure.tile:
            raise SchemeError("one block fills the image, which leaves no puzzle")
    except SchemeError as error:
        yield Omission("jigsaw", "reader of the bucket", str(error))
    else:
        most, seconds = _QUICK_JIGSAWS if quick else _JIGSAWS
        images = min(total, most)
        yield _trial(subject, "jigsaw", JigsawAttack(images, seconds), images, slice(0, images))
    if subject.manifest.copies > 1:
        reason = "it takes copies of one photo together; here they lie among all others"
        yield Omission("shifted copies", "reader of the bucket", reason)
    try:
        search_unit(scheme, subject.height, subject.width)
    except SchemeError as error:
        yield Omission("brute force", "reader of the bucket", str(error))
    else:
        yield _trial(subject, "brute force", BruteForce(), 1, slice(0, 1))


def _work_of_layouts(subject: Subject, structure: Structure) -> int:
    """Returns how many pairs of values the topology attack compares to lay them out in their blocks."""
    if structure.shuffled is None:
        return 0
    units = structure.tile**2 * (1 if structure.shuffled == "pixel" else COLORS)
    blocks = subject.height * subject.width // structure.tile**2
    starts = _STARTS_OF_FEW if units <= FEW else 1
    return starts * units**2 * (1 if structure.assignment == "common" else blocks)


def _with_own_images(subject: Subject, quick: bool) -> Iterator[Trial | Omission]:
    """Yields the attack that trains a network; images of the set stand in for the attacker's own."""
    total, shown = len(subject.encrypted), min(_RECONSTRUCTED, len(subject.encrypted) // 2)
    attacker: Attacker = "reader of the bucket"
    name = InverseTransformationNetwork.name
    if quick:
        yield Omission(name, attacker, "training takes minutes; leave out --quick")
    elif subject.cipher is None:
        yield Omission(name, attacker, "the pictures to train on are taken from the set, by the key")
    elif subject.height * subject.width > _LARGEST_TO_TRAIN**2 or total < _LEAST_TO_TRAIN:
        reason = (
            f"training is tried up to {_LARGEST_TO_TRAIN} × {_LARGEST_TO_TRAIN} pixels, with "
            f"{_LEAST_TO_TRAIN} images or more"
        )
        yield Omission(name, attacker, reason)
    else:
        attack = InverseTransformationNetwork(shown=shown)
        evidence = subject.with_own_images(slice(shown, total))
        yield Trial(name, lambda: _exhibit(subject, attacker, attack, evidence, slice(0, shown)))


def _on_model(subject: Subject) -> Iterator[Trial | Omission]:
    attacker: Attacker = "inference provider"
    attacks: dict[bool, Attack[EncryptedModel]] = {
        False: RowMatchingAttack(_SHOWN),
        True: BaseWeightsAttack(_SHOWN),
    }
    for base, attack in attacks.items():
        missing = subject.base if base else subject.model
        if missing is None:
            given = "--base FILE gives weights to match" if base else "--model FILE gives a model"
            yield Omission(attack.name, attacker, f"nothing to attack was given: {given}")
        else:
            evidence = subject.encrypted_model(_QUERIES, base=base)
            yield Trial(attack.name, partial(_attack_model, subject, attack, evidence))


def _attack_model(
    subject: Subject, attack: Attack[EncryptedModel], evidence: EncryptedModel
) -> Exhibit:
    return _exhibit(subject, "inference provider", attack, evidence, slice(0, _SHOWN))


def _trial(
    subject: Subject, name: str, attack: Attack[Ciphertexts], images: int, shown: slice
) -> Trial:
    """Returns the trial of an attack on ciphertexts alone."""
    evidence = subject.ciphertexts(images)
    return Trial(name, lambda: _exhibit(subject, "reader of the bucket", attack, evidence, shown))


def _exhibit(
    subject: Subject,
    attacker: Attacker,
    attack: Attack[Evidence],
    evidence: Evidence,
    shown: slice,
) -> Exhibit:
    owner = subject.owner(shown)
    manifest = subject.manifest
    finding = judge(attack, attack.run(evidence), manifest.scheme, manifest.key_scope, owner)
    return Exhibit(finding, attacker, subject.encrypted[shown], None if owner is None else owner.plain)


def _on_known_photos(subject: Subject) -> Iterator[Trial | Omission]:
    total = len(subject.encrypted)
    if subject.cipher is None:
        reason = "it takes plain images, and so the key"
        yield Omission("recognition", "one who knows a photo", reason)
        yield Omission("known plaintext", "one who knows a photo", reason)
        yield Omission("chosen plaintext", "one who can submit photos", reason)
        return
    if total > 1:
        yield Trial("recognition", partial(_recognition, subject))
    else:
        reason = "there is one image only, and it takes others beside it"
        yield Omission("recognition", "one who knows a photo", reason)
    for pairs in (1, _PAIRS):
        if total > pairs:
            name = f"known plaintext, {pairs} {'pair' if pairs == 1 else 'pairs'}"
            yield Trial(name, partial(_known_plaintext, subject, pairs))
    yield Trial("chosen plaintext", partial(_chosen_plaintext, subject))


def _recognition(subject: Subject) -> Exhibit:
    """Looks for photos among their own ciphertexts and others, by what no key changes."""
    count = min(len(subject.encrypted), _MOST_PHOTOS)
    photos = subject.plain(slice(0, count))
    manifest = subject.manifest
    halves = structure_of(manifest.scheme).shuffled == "half"
    found, seconds = timed(lambda: recognize(photos, subject.encrypted, halves=halves))
    share = float(np.mean(found == np.arange(count)))
    finding = Finding(
        attack="recognition",
        scheme=manifest.scheme.name,
        key_scope=manifest.key_scope,
        attacker_holds="photos, and all encrypted images without knowing which is which",
        success=share >= _RECOGNIZED.at_least,
        criterion=_RECOGNIZED,
        scores={"recognized": share},
        cost={"photos": float(count), "images": float(len(subject.encrypted))},
        seconds=seconds,
        restored=None,
    )
    nothing = slice(0, 0)
    return Exhibit(finding, "one who knows a photo", subject.encrypted[nothing], None)


def _known_plaintext(subject: Subject, pairs: int) -> Exhibit:
    shown = slice(pairs, pairs + _SHOWN)
    evidence = subject.known_pairs(pairs, _SHOWN)
    return _exhibit(subject, "one who knows a photo", KnownPlaintextAttack(), evidence, shown)


def _chosen_plaintext(subject: Subject) -> Exhibit:
    evidence = subject.service(_SHOWN)
    return _exhibit(
        subject, "one who can submit photos", ChosenPlaintextAttack(), evidence, slice(0, _SHOWN)
    )
