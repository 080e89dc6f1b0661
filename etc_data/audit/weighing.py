"""Weighing: whether single pictures came back, where criteria are of means over all of them."""

import math
from dataclasses import replace

import numpy as np

from etc_data.audit.contours import contour_agreement
from etc_data.audit.trials import Exhibit

_COMES_BACK = 0.6  # agreement of outlines; of 2,800 pairs of strangers none reached 0.5


def weigh(exhibit: Exhibit) -> Exhibit:
    """Returns an exhibit, the best restored pictures first; a single one that came back is a success.

    Criteria are of means, and one patient's picture is one too many.  A picture came back where its
    outlines agree with those of the plain one, in whichever colors and polarity, and the attack brought
    at least half of what neither showed in the encrypted picture already nor is the same in another
    picture of the set, as where all show the same organ.  ``pictures_alike`` is the share of them,
    where the key is at hand.  Scores that have no value are left out.
    """
    finding, plain = exhibit.finding, exhibit.plain
    known = {name: score for name, score in finding.scores.items() if math.isfinite(score)}
    finding = replace(finding, scores=known)
    if finding.restored is None or plain is None:
        return replace(exhibit, finding=finding)
    count = min(len(finding.restored), len(plain))
    agreement = contour_agreement(finding.restored[:count], plain[:count])
    before = contour_agreement(exhibit.encrypted[:count], plain[:count])
    if count > 1:
        of_another = np.roll(plain[:count], 1, axis=0)
        before = np.maximum(before, contour_agreement(finding.restored[:count], of_another))
    best_first = np.argsort(-agreement, kind="stable")
    came_back = agreement >= np.maximum(_COMES_BACK, (1 + before) / 2)
    share = float(came_back.mean())
    finding = replace(
        finding,
        success=finding.success or share > 0,
        scores={**known, "pictures_alike": share},
        restored=finding.restored[best_first],
    )
    return replace(
        exhibit, finding=finding, encrypted=exhibit.encrypted[best_first], plain=plain[best_first]
    )
