"""Calibration, mistakes and label errors against their definitions, on logits whose answers are known."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fashion_vgg.analysis import sections, values
from fashion_vgg.analysis.evaluation import BINS, Evaluation

CLASSES = ("a", "b", "c")


def drawn(count: int, sharpness: float = 1.0) -> Evaluation:
    """Labels drawn from the softmax of random logits, which is calibrated; then the logits times ``sharpness``."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(count, len(CLASSES), generator=generator)
    labels = torch.multinomial(logits.softmax(dim=1), 1, generator=generator).flatten()
    images = torch.zeros(count, 28, 28, dtype=torch.uint8)
    return Evaluation(images, labels, sharpness * logits, CLASSES)


def test_the_calibration_error_is_the_weighted_distance_over_the_bins() -> None:
    evaluation = drawn(2000, sharpness=2)
    confidence, predicted = evaluation.logits.softmax(dim=1).max(dim=1)
    expected = 0.0
    for bin_ in range(BINS):
        inside = (confidence > bin_ / BINS) & (confidence <= (bin_ + 1) / BINS)
        if inside.any():
            accuracy = (predicted[inside] == evaluation.labels[inside]).double().mean()
            expected += float(inside.double().mean() * (accuracy - confidence[inside].double().mean()).abs())
    assert evaluation.calibration_error() == pytest.approx(expected, abs=1e-5)
    count, mean_confidence, accuracy = evaluation.reliability()
    share = count / count.sum()
    assert float((share * (mean_confidence - accuracy).abs()).nansum()) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_what_made_the_logits_too_sharp(sharpness: float) -> None:
    # The standard error of the fitted temperature is about 1 % for this many images.
    assert drawn(20_000, sharpness).temperature() == pytest.approx(sharpness, rel=0.05)
    temperature, before, after = drawn(20_000, sharpness).calibrated
    assert len(before.labels) == len(after.labels) == 10_000
    assert after.calibration_error() < 0.02
    assert torch.equal(after.predictions, before.predictions)
    assert torch.equal(after.logits, before.logits / temperature)


def test_the_temperature_is_positive_for_a_network_worse_than_chance() -> None:
    evaluation = drawn(500)
    inverted = Evaluation(evaluation.images, evaluation.labels, -evaluation.logits, CLASSES)
    assert inverted.temperature() > 1


def test_a_network_without_mistakes_has_the_other_sections() -> None:
    labels = torch.arange(40) % 3
    logits = 9.0 * torch.nn.functional.one_hot(labels).float()
    evaluation = Evaluation(torch.zeros(40, 28, 28, dtype=torch.uint8), labels, logits, CLASSES)
    shown = sections.of_predictions(evaluation)
    assert [section.name for section in shown] == ["classes", "calibration", "coverage"]
    assert all(section.png().startswith(b"\x89PNG") for section in shown)
    assert values.to_dict(evaluation)["most_confident_mistakes"] == []


def test_mistakes_are_sorted_by_confidence_and_coverage_ends_at_the_accuracy() -> None:
    evaluation = drawn(500)
    mistakes = evaluation.mistakes()
    assert len(mistakes) == int((evaluation.predictions != evaluation.labels).sum())
    assert (evaluation.predictions[mistakes] != evaluation.labels[mistakes]).all()
    assert (evaluation.confidences[mistakes].diff() <= 0).all()
    shares, accuracies = evaluation.coverage()
    assert float(shares[-1]) == 1
    assert evaluation.accuracy_of(1) == float(accuracies[-1]) == pytest.approx(1 - len(mistakes) / 500)
    most_confident = evaluation.confidences.topk(50).indices
    assert evaluation.accuracy_of(0.1) == pytest.approx(float(evaluation.correct[most_confident].double().mean()))


def _precision(confusion: Tensor) -> Tensor:
    return confusion.diag() / confusion.sum(dim=0)


def _recall(confusion: Tensor) -> Tensor:
    return confusion.diag() / confusion.sum(dim=1)


@pytest.mark.parametrize(("name", "definition"), [("precision", _precision), ("recall", _recall)])
def test_class_metrics_follow_from_the_confusion_matrix(name: str, definition: Callable[[Tensor], Tensor]) -> None:
    evaluation = drawn(500)
    assert torch.allclose(evaluation.by_class()[name], definition(evaluation.confusion).float())
    precision, recall = (function(evaluation.confusion) for function in (_precision, _recall))
    harmonic = 2 * precision * recall / (precision + recall)
    assert torch.allclose(evaluation.by_class()["F1"], harmonic.float())


def test_labels_that_were_swapped_are_found() -> None:
    labels = torch.arange(300) % 3
    logits = 6.0 * torch.nn.functional.one_hot(labels).float()
    swapped = torch.tensor([10, 20, 200])
    wrong = labels.clone()
    wrong[swapped] = (labels[swapped] + 1) % 3
    images = torch.zeros(300, 28, 28, dtype=torch.uint8)
    issues = Evaluation(images, wrong, logits, CLASSES).label_issues
    assert sorted(issues.tolist()) == swapped.tolist()
