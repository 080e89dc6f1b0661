"""What an owner should do, as it follows from the findings of an audit."""

from collections.abc import Sequence

from etc_data.audit.attack import Finding
from etc_data.audit.storage import StorageSummary

_OUTLINES = {"as is", "feature reconstruction, advanced", "inverse transformation network"}


def recommend(
    findings: Sequence[Finding],
    storage: StorageSummary,
    *,
    duplicates: int,
    has_key: bool,
    quick: bool,
) -> tuple[str, ...]:
    """Returns sentences, the weightiest first; the last one always holds.

    Args:
        findings: of all attacks that were tried.
        storage: what lies open.
        duplicates: encrypted images that equal another one.
        has_key: whether the truth was at hand.
        quick: whether attacks were left out for their time.
    """
    won = [finding for finding in findings if finding.success]
    names = {finding.attack for finding in won}
    one_key = storage.key_scope == "dataset"
    advice = []
    laid_out = [finding for finding in won if finding.attack == "topology"]
    whole = [finding for finding in laid_out if finding.scores.get("pictures_alike", 1) > 0]
    spent = sorted(finding.cost["images"] for finding in whole or laid_out)
    by_many = [images for images in spent if one_key and images > 1]
    if by_many:
        advice.append(
            f"One key over {sum(storage.samples.values()):,} images: {by_many[0]:.0f} of them were "
            "enough to put the pictures together without any key; the layout is public. Encrypt with "
            "--key-scope image and small blocks (etc-8), train an order-free model (etc_blockset_…), "
            "and audit that; or keep these files from whoever may not see the pictures."
        )
    if "jigsaw" in names:
        advice.append(
            "Single images fall to a jigsaw solver, whether keys are fresh or not. Smaller blocks and "
            "coarser JPEG make it harder (etc-8, --quality 85): audit again."
        )
    if "brute force" in names:
        advice.append(
            "All keys of this scheme at this size can be tried: it hides nothing. Choose a scheme that "
            "scrambles many blocks: etc-8, and larger images."
        )
    if one_key and names & {"known plaintext", "chosen plaintext"}:
        advice.append(
            "Whoever knows a few photos of this set, or can have some encrypted, reads all others. "
            "A key per image (--key-scope image) keeps each photo's plan to itself."
        )
    if "base weights" in names:
        advice.append(
            "Whoever holds the encrypted model and the weights it was fine-tuned from reads every "
            "query. Do not publish those base weights, and do not start from published ones."
        )
    if "row matching" in names:
        advice.append(
            "The encrypted model gives its key away without any other weights: independent keys are "
            "as one common key to whoever serves it. Do not serve it where queries must stay unseen."
        )
    by_one = len(spent) > len(by_many)
    if by_one and not names & {*_OUTLINES, "jigsaw"}:
        advice.append(
            "Statistics of every image alone put it together, under any key. Choose a scheme that "
            "scrambles many blocks: etc-8, and larger images."
        )
    if names & _OUTLINES:
        advice.append(
            "Outlines show in every image alone, under any key. Choose a scheme that scrambles "
            "blocks, such as etc-8."
        )
    if "recognition" in names:
        label = ", and which label it carries" if storage.labels else ""
        advice.append(
            f"Someone who has a photo can tell that it is in the set{label}: the encryption keeps how "
            "often values occur. If that matters, do not let the set be read."
        )
    if duplicates:
        few = "1 encrypted image equals" if duplicates == 1 else f"{duplicates} encrypted images equal"
        remedy = ", or use --key-scope image" if one_key else ""
        advice.append(
            f"{few} an earlier one, which shows that their photos do. Remove duplicates{remedy}."
        )
    if storage.labels:
        what = "with the names of the classes" if storage.class_names else "as numbers"
        advice.append(f"The labels lie open, {what}; --labels none leaves them out.")
    more = [
        how for how, needed in (("with the key", not has_key), ("without --quick", quick)) if needed
    ]
    if more:
        advice.append(f"Audit {' and '.join(more)} before you rely on what held so far.")
    advice.append("What was not tried is not excluded: this is perceptual encryption, without proof.")
    return tuple(advice)
