"""How well a model does on a split: loss, top-k accuracy, and which class is taken for which."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from etc_data.recipes.batches import Batches


@dataclass(frozen=True)
class Scores:
    """Scores of a model on all samples of a split, each seen once.

    Attributes:
        samples: how many.
        loss: mean cross entropy.
        right: how many samples have their class among the k highest logits, by k.
        confusion: int64 [classes, classes]: how often a class (row) was taken for one (column).
    """

    samples: int
    loss: float
    right: dict[int, int]
    confusion: "np.ndarray[Any, np.dtype[np.int64]]"

    @property
    def accuracy(self) -> float:
        """Share of samples whose class has the highest logit, 0 … 1."""
        return self.right[1] / self.samples

    def top(self, k: int) -> float:
        """Returns the share of samples whose class is among the k highest logits."""
        return self.right[k] / self.samples

    @property
    def by_class(self) -> "np.ndarray[Any, np.dtype[np.float64]]":
        """Accuracy of each class, float64 [classes]; NaN where it has no sample."""
        counts = self.confusion.sum(axis=1)
        right = np.diagonal(self.confusion)
        shares = np.full(len(counts), np.nan)
        np.divide(right, counts, out=shares, where=counts > 0)
        return shares


@torch.inference_mode()
def score(
    model: nn.Module,
    batches: Batches,
    normalize: nn.Module,
    classes: int,
    accelerator: Any = None,
) -> Scores:
    """Returns the scores of a model; with several processes, of all their batches together.

    Args:
        model: from normalized images to logits [N, classes]; left in evaluation mode.
        batches: of the split.
        normalize: from uint8 images to what the model sees.
        classes: number of logits.
        accelerator: of the run; None for one process alone.
    """
    model.eval()
    ranks = [k for k in (1, 5) if k <= classes]
    device = next(model.parameters()).device
    confusion = torch.zeros(classes, classes, dtype=torch.int64, device=device)
    totals = torch.zeros(2 + len(ranks), dtype=torch.float64, device=device)
    for images, labels in batches.epoch(0):
        logits = model(normalize(images)).float()
        best = logits.topk(ranks[-1], dim=1).indices
        hits = best == labels[:, None]
        totals[0] += len(labels)
        totals[1] += nn.functional.cross_entropy(logits, labels, reduction="sum")
        for place, k in enumerate(ranks, 2):
            totals[place] += hits[:, :k].sum()
        confusion += torch.bincount(labels * classes + best[:, 0], minlength=classes * classes).view(
            classes, classes
        )
    if accelerator is not None:
        totals, confusion = accelerator.reduce((totals, confusion), "sum")
    samples, loss, *right = totals.tolist()
    return Scores(
        samples=round(samples),
        loss=loss / max(samples, 1),
        right={k: round(count) for k, count in zip(ranks, right, strict=True)},
        confusion=confusion.cpu().numpy(),
    )
