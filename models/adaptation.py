"""A classifier behind an adaptation network, which makes encrypted blocks look more like an image."""

from torch import Tensor, nn


class AdaptedClassifier(nn.Module):
    """Classifies what the adaptation network makes of an encrypted image.

    Args:
        adaptation: images [B, 3, H, W] → adapted images [B, 16, H, W].
        classifier: adapted images → logits; a model of timm's kind.
    """

    def __init__(self, adaptation: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.adaptation = adaptation
        self.classifier = classifier

    @property
    def num_classes(self) -> int:
        """The number of logits."""
        return self.classifier.num_classes  # type: ignore[return-value]

    def get_classifier(self) -> nn.Module:
        """Returns the last layer."""
        return self.classifier.get_classifier()  # type: ignore[no-any-return, operator]

    def reset_classifier(self, num_classes: int) -> None:
        """Puts a fresh last layer for `num_classes` in place."""
        self.classifier.reset_classifier(num_classes)  # type: ignore[operator]

    def forward(self, image: Tensor) -> Tensor:
        """Returns logits [B, num_classes] of encrypted images [B, 3, H, W]."""
        logits: Tensor = self.classifier(self.adaptation(image))
        return logits
