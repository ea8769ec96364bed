"""The sections of an analysis: of the network's predictions, and of what happens inside it."""

from matplotlib.figure import Figure
from torch import Tensor, nn

from fashion_vgg.analysis import inside, plots
from fashion_vgg.analysis.evaluation import BINS, Evaluation
from fashion_vgg.analysis.page import Section

LABEL_ISSUES = 3 * plots.COLUMNS
"""At most, of the grid."""
ABOVE = "Images are shown dark on white. Above each: its index in the set, its label → the prediction."


def of_predictions(evaluation: Evaluation) -> list[Section]:
    """Errors by class, calibration, accuracy by coverage, the most confident mistakes."""
    makers = [_classes, _calibration, _coverage]
    if not evaluation.correct.all():
        makers = [_confusion, *makers, _mistakes]
    return [make(evaluation) for make in makers]


def label_issues(evaluation: Evaluation) -> Section | None:
    """Images whose label is probably wrong, if there are any; ModuleNotFoundError without cleanlab."""
    issues = evaluation.label_issues
    if not len(issues):
        return None
    text = (
        f"Confident learning (Northcutt et al., 2021) counts {len(issues):,} labels as probable errors, since the "
        f"network contradicts them: here are the {len(issues[:LABEL_ISSUES])} least plausible. {ABOVE} It takes its "
        "word: many are its own mistakes on images that are hard to tell apart, the more so the less accurate it is."
    )
    return Section("label_errors", "Likely label errors", text, _grid(evaluation, issues[:LABEL_ISSUES]))


def of_filters(net: nn.Module) -> Section:
    """The filters of the first layer; UserError if the network has no convolution."""
    filters = inside.first_filters(net)
    size = "x".join(map(str, filters.shape[-2:]))
    text = f"The {len(filters)} filters of {size} pixels: red adds to a response, blue subtracts from it."
    return Section("filters", "Filters of the first layer", text, plots.filters(filters))


def feature_maps(net: nn.Module, evaluation: Evaluation, index: int, inputs: Tensor) -> Section:
    """The feature maps of one image, whose network input is ``(1, C, H, W)``; UserError without ``net.blocks``."""
    maps = [block[0] for block in inside.feature_maps(net, inputs)]
    text = f"{_name(evaluation, index)}. For each block, the channels with the largest mean response to this image."
    return Section("feature_maps", "Feature maps", text, plots.feature_maps(evaluation.images[index], maps))


def grad_cam(net: nn.Module, evaluation: Evaluation, index: int, inputs: Tensor) -> Section:
    """Grad-CAM of one image for the predicted and for the true class; ModuleNotFoundError without captum."""
    targets = list(dict.fromkeys([int(evaluation.predictions[index]), int(evaluation.labels[index])]))
    maps = [inside.grad_cam(net, inputs, [target])[0] for target in targets]
    titles = [f"{evaluation.classes[t]} ({float(evaluation.probabilities[index, t]):.1%})" for t in targets]
    text = (
        f"{_name(evaluation, index)}. Which regions speak for a class, from blue to red (Selvaraju et al., 2017), and "
        "its probability."
    )
    return Section("grad_cam", "Grad-CAM", text, plots.grad_cam(evaluation.images[index], maps, titles))


def _name(evaluation: Evaluation, index: int) -> str:
    label, predicted = (evaluation.classes[int(t[index])] for t in (evaluation.labels, evaluation.predictions))
    return f"Image {index} ({label}), classified as {predicted}"


def _confusion(evaluation: Evaluation) -> Section:
    matrix = evaluation.confusion.clone().fill_diagonal_(0)
    true, predicted = divmod(int(matrix.argmax()), len(matrix))
    text = (
        f"Most frequent confusion: {int(matrix[true, predicted])} images of the class {evaluation.classes[true]} were "
        f"classified as {evaluation.classes[predicted]}. The colour is the share of the row."
    )
    return Section("confusion", "Confusion matrix", text, plots.confusion(evaluation.confusion, evaluation.classes))


def _classes(evaluation: Evaluation) -> Section:
    values = evaluation.by_class()
    header = ["class", *values, "images"]
    images = evaluation.labels.bincount(minlength=len(evaluation.classes)).tolist()
    rows = [
        [name, *(f"{float(column[row]):.3f}" for column in values.values()), f"{images[row]:,}"]
        for row, name in enumerate(evaluation.classes)
    ]
    text = (
        "Precision: the share of the images classified as this class that belong to it. Recall: the share of the "
        "class's images that were found. F1: their harmonic mean."
    )
    return Section("classes", "Precision, recall and F1", text, plots.class_metrics(evaluation), [header, *rows])


def _calibration(evaluation: Evaluation) -> Section:
    temperature, before, after = evaluation.calibrated
    errors = f"{before.calibration_error():.3f} before and {after.calibration_error():.3f} after"
    text = (
        f"The expected calibration error over {BINS} bins is the mean distance of confidence and accuracy. Dividing "
        f"the logits by a temperature of {temperature:.3f}, fitted on one half of the images, makes the network "
        f"{'less' if temperature > 1 else 'more'} confident. On the other half, shown here, the error is {errors}."
    )
    return Section("calibration", "Calibration", text, plots.reliability(before, after))


def _coverage(evaluation: Evaluation) -> Section:
    text = (
        "If the least confident tenth of the images is left to a human, the accuracy on the others is "
        f"{evaluation.accuracy_of(0.9):.4f}; on all images it is {evaluation.accuracy_of(1):.4f}."
    )
    return Section("coverage", "Accuracy without the least confident images", text, plots.coverage(evaluation))


def _mistakes(evaluation: Evaluation) -> Section:
    mistakes = evaluation.mistakes()
    shown = mistakes[: plots.MISTAKES]
    text = f"The {len(shown)} most confident of {len(mistakes):,} mistakes. {ABOVE}"
    return Section("mistakes", "Most confident mistakes", text, _grid(evaluation, shown))


def _grid(evaluation: Evaluation, indices: Tensor) -> Figure:
    captions = plots.captions(indices, evaluation.labels[indices], evaluation.predictions[indices], evaluation.classes)
    return plots.image_grid(evaluation.images[indices], captions)
