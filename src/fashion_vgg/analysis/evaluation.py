"""What follows from the logits of a labelled set: errors by class, calibration, confident mistakes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional import classification as metrics

BINS = 15
"""Of the confidence, as in Guo et al. (2017)."""


@dataclass(frozen=True)
class Evaluation:
    """A network's logits on a labelled set.

    Attributes:
        images: uint8 ``(N, 28, 28)``.
        labels: int64 ``(N,)``.
        logits: float ``(N, classes)``.
        classes: the class names.
    """

    images: Tensor
    labels: Tensor
    logits: Tensor
    classes: Sequence[str]

    @cached_property
    def probabilities(self) -> Tensor:
        """Float ``(N, classes)``."""
        return self.logits.softmax(dim=1)

    @cached_property
    def predictions(self) -> Tensor:
        """The most probable class of each image, int64 ``(N,)``."""
        return self.logits.argmax(dim=1)

    @cached_property
    def confidences(self) -> Tensor:
        """The probability of the predicted class, float ``(N,)``."""
        return self.probabilities.amax(dim=1)

    @cached_property
    def correct(self) -> Tensor:
        """Bool ``(N,)``."""
        return self.predictions == self.labels

    @cached_property
    def confusion(self) -> Tensor:
        """Counts, int64 ``(classes, classes)``, a row per true class."""
        return metrics.multiclass_confusion_matrix(self.predictions, self.labels, len(self.classes))

    def by_class(self) -> dict[str, Tensor]:
        """Precision, recall and F1 of each class, float ``(classes,)``."""
        functions = {
            "precision": metrics.multiclass_precision,
            "recall": metrics.multiclass_recall,
            "F1": metrics.multiclass_f1_score,
        }
        arguments: Any = {"num_classes": len(self.classes), "average": "none"}
        return {name: function(self.predictions, self.labels, **arguments) for name, function in functions.items()}

    def mistakes(self) -> Tensor:
        """The indices of misclassified images, the most confident mistake first."""
        wrong = (~self.correct).nonzero().flatten()
        return wrong[self.confidences[wrong].argsort(descending=True, stable=True)]

    def coverage(self) -> tuple[Tensor, Tensor]:
        """The accuracy if only the most confident images are classified: shares of the images, and accuracies."""
        order = self.confidences.argsort(descending=True, stable=True)
        counts = torch.arange(1, len(order) + 1)
        return counts / len(order), self.correct[order].cumsum(0) / counts

    def accuracy_of(self, share: float) -> float:
        """The accuracy on the most confident share of the images."""
        shares, accuracies = self.coverage()
        return float(accuracies[(shares >= share).nonzero()[0, 0]])

    def half(self, odd: bool) -> "Evaluation":
        """Every second image."""
        part = slice(int(odd), None, 2)
        return Evaluation(self.images[part], self.labels[part], self.logits[part], self.classes)

    def at_temperature(self, temperature: float) -> "Evaluation":
        """The same set with the logits divided by a temperature."""
        return Evaluation(self.images, self.labels, self.logits / temperature, self.classes)

    def calibration_error(self) -> float:
        """The expected calibration error: the mean distance of confidence and accuracy over `BINS` bins."""
        return float(
            metrics.multiclass_calibration_error(self.probabilities, self.labels, len(self.classes), n_bins=BINS)
        )

    def reliability(self) -> tuple[Tensor, Tensor, Tensor]:
        """Images, mean confidence and accuracy of each of `BINS` bins of the confidence; NaN for an empty bin."""
        bins = (self.confidences * BINS).ceil().long().clamp(1, BINS) - 1
        count = torch.zeros(BINS).index_add_(0, bins, torch.ones(len(bins)))
        confidence = torch.zeros(BINS).index_add_(0, bins, self.confidences.float())
        accuracy = torch.zeros(BINS).index_add_(0, bins, self.correct.float())
        return count, confidence / count, accuracy / count

    def temperature(self) -> float:
        """The temperature that minimizes the cross-entropy (Guo et al., 2017, section 4.2)."""
        logarithm = torch.zeros(1, requires_grad=True)  # so that the temperature is positive
        optimizer = torch.optim.LBFGS([logarithm], max_iter=50, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimizer.zero_grad()
            value = F.cross_entropy(self.logits.float() / logarithm.exp(), self.labels)
            torch.autograd.backward(value)
            return value

        optimizer.step(loss)  # type: ignore[no-untyped-call]
        return float(logarithm.detach().exp())

    @cached_property
    def calibrated(self) -> tuple[float, "Evaluation", "Evaluation"]:
        """A temperature fitted on one half of the images, and the other half without and with it."""
        temperature, held_out = self.half(odd=False).temperature(), self.half(odd=True)
        return temperature, held_out, held_out.at_temperature(temperature)

    @cached_property
    def label_issues(self) -> Tensor:
        """The indices of images whose label is probably wrong, least probable label first.

        By confident learning (Northcutt et al., 2021), with cleanlab. It takes the network's opinion for evidence, so
        images that are hard to tell apart are among them.

        Raises:
            ModuleNotFoundError: cleanlab is not installed.
        """
        from cleanlab.filter import find_label_issues

        labels, probabilities = self.labels.numpy(), self.probabilities.double().numpy()
        ranking = {"return_indices_ranked_by": "self_confidence", "n_jobs": 1}
        return torch.from_numpy(find_label_issues(labels, probabilities, **ranking))
