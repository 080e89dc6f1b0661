import numpy as np
import pytest
import torch
from torch import nn

from etc_data.recipes.scores import score


class Rows:
    """Batches of given logits, which stand where images would."""

    def __init__(self, logits: np.ndarray, labels: np.ndarray) -> None:
        self.logits, self.labels = torch.from_numpy(logits), torch.from_numpy(labels)

    def epoch(self, epoch: int, state=None):
        yield from zip(self.logits.split(7), self.labels.split(7), strict=True)


class Same(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, logits):
        return logits * self.weight


@pytest.mark.parametrize("classes", [2, 5, 12])
def test_scores_are_those_that_numpy_counts(classes):
    random = np.random.default_rng(classes)
    logits = random.normal(size=(101, classes)).astype(np.float32)
    labels = random.integers(0, classes - 1, 101)  # the last class has no sample
    scores = score(Same(), Rows(logits, labels), nn.Identity(), classes)
    confusion = np.zeros((classes, classes), int)
    for row, label in zip(logits, labels, strict=True):
        confusion[label, row.argmax()] += 1
    order = np.argsort(-logits, axis=1)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert scores.samples == 101
    assert np.array_equal(scores.confusion, confusion)
    assert scores.accuracy == (order[:, 0] == labels).mean()
    assert scores.loss == pytest.approx(-np.log(shares[np.arange(101), labels]).mean(), rel=1e-5)
    assert list(scores.right) == ([1, 5] if classes >= 5 else [1])
    if classes >= 5:
        assert scores.top(5) == (order[:, :5] == labels[:, None]).any(1).mean()
    counts = np.bincount(labels, minlength=classes)[:-1]
    assert np.allclose(scores.by_class[:-1], np.diagonal(confusion)[:-1] / counts)
    assert np.isnan(scores.by_class[-1])
