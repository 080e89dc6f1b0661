"""What an owner should do, as it follows from the findings of an audit."""

from collections.abc import Sequence

from etc_data.audit.attack import Finding
from etc_data.audit.storage import StorageSummary


def recommend(
    findings: Sequence[Finding], storage: StorageSummary, *, duplicates: int
) -> tuple[str, ...]:
    """Returns sentences, the weightiest first; the last one always holds.

    Args:
        findings: of all attacks that were tried.
        storage: what lies open.
        duplicates: encrypted images that equal another one.
    """
    won = [finding for finding in findings if finding.success]
    by_name = {finding.attack: finding for finding in reversed(won)}
    advice = []
    topology = [f for f in won if f.attack == "topology"]
    if topology:
        fewest = int(min(f.cost["images"] for f in topology))
        advice.append(
            f"One key for all images: {fewest} of them were enough to put the pictures together, "
            "without any key. Encrypt with --key-scope image and small blocks (etc-8), train an "
            "order-free model (etc_blockset_…), and audit that; or keep these files from whoever may "
            "not see the pictures."
        )
    if "jigsaw" in by_name and storage.key_scope == "image":
        advice.append(
            "Single images fall to a jigsaw solver, which no key prevents. Smaller blocks and coarser "
            "JPEG make it harder: try --scheme etc-8 --quality 85, and audit again."
        )
    if "brute force" in by_name:
        advice.append(
            "All keys of this scheme at this size can be tried: it hides nothing. Choose a scheme "
            "with more blocks (etc-16 or etc-8), or larger images."
        )
    if storage.key_scope == "dataset" and by_name.keys() & {"known plaintext", "chosen plaintext"}:
        advice.append(
            "Whoever knows a few photos of this set, or can have some encrypted, reads all others. "
            "A key per image (--key-scope image) keeps each photo's plan to itself."
        )
    if "base weights" in by_name:
        advice.append(
            "Whoever holds the encrypted model and the weights it was fine-tuned from reads every "
            "query. Do not publish those weights, and do not start from published ones."
        )
    if "row matching" in by_name:
        advice.append(
            "The encrypted model gives its key away without any other weights: independent keys are "
            "as one common key to whoever serves it. Do not serve it where queries must stay unseen."
        )
    if by_name.keys() & {"feature reconstruction, advanced", "inverse transformation network"}:
        advice.append(
            "Outlines show in every image alone, under any key. Choose a scheme that scrambles "
            "blocks, such as etc-8."
        )
    if "recognition" in by_name:
        advice.append(
            "Someone who has a photo can tell that it is in the set, and which label it carries: the "
            "encryption keeps how often values occur. If that matters, do not let the set be read."
        )
    if duplicates:
        advice.append(
            f"{duplicates} encrypted images equal another one, which shows that their photos do. "
            "Remove duplicates, or use --key-scope image."
        )
    if storage.labels:
        what = "with the names of the classes" if storage.class_names else "as numbers"
        advice.append(f"The labels lie open, {what}; --labels none leaves them out.")
    advice.append("What was not tried is not excluded: this is perceptual encryption, without proof.")
    return tuple(advice)
