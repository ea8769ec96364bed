"""The values of an evaluation as JSON."""

from typing import Any

from fashion_vgg.analysis.evaluation import BINS, Evaluation
from fashion_vgg.analysis.plots import MISTAKES

PERCENTS = (50, 80, 90, 95, 100)


def to_dict(evaluation: Evaluation) -> dict[str, Any]:
    """The values that the page shows."""
    temperature, before, after = evaluation.calibrated
    return {
        "images": len(evaluation.labels),
        "accuracy": evaluation.accuracy_of(1),
        "classes": list(evaluation.classes),
        "confusion": evaluation.confusion.tolist(),
        "by_class": {name: values.tolist() for name, values in evaluation.by_class().items()},
        "calibration": {
            "bins": BINS,
            "error": evaluation.calibration_error(),
            "temperature": temperature,
            "error_on_other_half": before.calibration_error(),
            "error_on_other_half_with_temperature": after.calibration_error(),
        },
        "accuracy_by_coverage": {f"{percent}%": evaluation.accuracy_of(percent / 100) for percent in PERCENTS},
        "most_confident_mistakes": [_mistake(evaluation, index) for index in evaluation.mistakes()[:MISTAKES].tolist()],
    }


def _mistake(evaluation: Evaluation, index: int) -> dict[str, Any]:
    return {
        "index": index,
        "label": evaluation.classes[int(evaluation.labels[index])],
        "predicted": evaluation.classes[int(evaluation.predictions[index])],
        "confidence": float(evaluation.confidences[index]),
    }
