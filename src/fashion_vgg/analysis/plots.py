"""Plots of an evaluation, for the analysis page and for TensorBoard."""

import math
from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from torch import Tensor

from fashion_vgg.analysis.evaluation import BINS, Evaluation

COLUMNS = 8
MISTAKES = 6 * COLUMNS
"""Of a grid of images; at most, of the grid of mistakes."""
GREY, BLUE, RED = "#8c8c8c", "#2b6cb0", "#c53030"


def confusion(matrix: Tensor, classes: Sequence[str]) -> Figure:
    """Plot counts ``(classes, classes)``, a row per true class, coloured by their share of the row."""
    figure = Figure(figsize=(4.4, 4.2), layout="constrained")  # readable at the size of TensorBoard's images
    axes = figure.add_subplot()
    share = matrix / matrix.sum(dim=1, keepdim=True).clamp(min=1)
    axes.imshow(share.numpy(), cmap="Blues", vmin=0, vmax=1)
    for row, column in matrix.nonzero().tolist():
        colour = "white" if share[row, column] > 0.5 else "black"
        axes.text(column, row, str(int(matrix[row, column])), ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right", rotation_mode="anchor", fontsize=8.5)
    axes.set_yticks(range(len(classes)), classes, fontsize=8.5)
    axes.set(xlabel="predicted class", ylabel="true class")
    return figure


def captions(indices: Tensor, labels: Tensor, predictions: Tensor, classes: Sequence[str]) -> list[str]:
    """Two lines for each image: its index and label, and the prediction."""
    rows = zip(indices.tolist(), labels.tolist(), predictions.tolist(), strict=True)
    return [f"{index}: {classes[label]}\n→ {classes[prediction]}" for index, label, prediction in rows]


def image_grid(images: Tensor, captions: Sequence[str]) -> Figure:
    """Plot images, uint8 ``(N, 28, 28)``, black on white, each below a caption of two lines."""
    height, width, side = 44, 38, images.shape[-1]
    rows = math.ceil(len(images) / COLUMNS)
    # Three pixels of the figure per pixel of an image, so that the PNG is small.
    figure = Figure(figsize=(COLUMNS * width * 3 / 100, rows * height * 3 / 100), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    canvas = torch.full((rows * height, COLUMNS * width), 255, dtype=torch.uint8)
    for place, (image, caption) in enumerate(zip(images, captions, strict=True)):
        top, left = place // COLUMNS * height + 14, place % COLUMNS * width + 5
        canvas[top : top + side, left : left + side] = 255 - image
        axes.text(left + side / 2, top - 1.5, caption, ha="center", va="bottom", fontsize=7, linespacing=0.95)
    axes.imshow(canvas.numpy(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_axis_off()
    return figure


def class_metrics(evaluation: Evaluation) -> Figure:
    """Plot precision, recall and F1 of each class, the lowest F1 first."""
    values = evaluation.by_class()
    order = values["F1"].argsort(descending=True).tolist()
    figure = Figure(figsize=(6.5, 5), layout="constrained")
    axes = figure.add_subplot()
    for (name, value), marker, colour in zip(values.items(), "<>o", (BLUE, RED, "black"), strict=True):
        axes.plot(value[order].numpy(), range(len(order)), marker, color=colour, label=name, markersize=6)
    axes.set_yticks(range(len(order)), [evaluation.classes[label] for label in order])
    axes.set(xlabel="share", xlim=(min(float(v.min()) for v in values.values()) - 0.03, 1.01))
    axes.grid(alpha=0.4)
    axes.legend(loc="lower left")
    return figure


def reliability(before: Evaluation, after: Evaluation) -> Figure:
    """Plot accuracy against confidence, as trained and after temperature scaling, and how many images each bin has."""
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    figure.get_layout_engine().set(wspace=0.06)  # type: ignore[union-attr, call-arg]
    upper, lower = figure.subplots(2, 2, sharex=True, sharey="row", height_ratios=[3, 1])
    for title, evaluation, axes, counts in zip(
        ("as trained", "after temperature scaling"), (before, after), upper, lower, strict=True
    ):
        count, confidence, accuracy = evaluation.reliability()
        axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", label="perfectly calibrated")
        axes.plot(confidence.numpy(), accuracy.numpy(), marker="o", color=BLUE, label="network")
        axes.set_title(f"{title}: calibration error {evaluation.calibration_error():.3f}", fontsize=10)
        axes.grid(alpha=0.4)
        counts.bar([(bin_ + 0.5) / BINS for bin_ in range(BINS)], count.numpy(), width=0.9 / BINS, color=GREY)
        counts.set(xlabel="confidence", xlim=(0, 1))
    upper[0].set(ylabel="accuracy", ylim=(0, 1.02))
    upper[0].legend(loc="upper left")
    lower[0].set(ylabel="images")
    return figure


def coverage(evaluation: Evaluation) -> Figure:
    """Plot the accuracy on the most confident images against their share."""
    shares, accuracies = evaluation.coverage()
    figure = Figure(figsize=(6.5, 4), layout="constrained")
    axes = figure.add_subplot()
    start = max(1, len(shares) // 100)  # of fewer images the accuracy is noise
    axes.plot(shares[start:].numpy(), accuracies[start:].numpy(), color=BLUE)
    axes.set(xlabel="share of the images that are classified, the most confident first", ylabel="accuracy", xlim=(0, 1))
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(alpha=0.4)
    return figure


def filters(weights: Tensor) -> Figure:
    """Plot filters ``(out, in, k, k)``, averaged over their input channels: blue is negative, red is positive."""
    figure = Figure(figsize=(8, 0.95 * math.ceil(len(weights) / COLUMNS)), layout="constrained")
    tiles = figure.subplots(math.ceil(len(weights) / COLUMNS), COLUMNS, squeeze=False)
    for axes, kernel in zip(tiles.flat, weights.mean(dim=1), strict=False):
        largest = float(kernel.abs().max())
        axes.imshow(kernel.numpy(), cmap="RdBu_r", vmin=-largest, vmax=largest)
    for axes in tiles.flat:
        axes.set_axis_off()
    return figure


def feature_maps(image: Tensor, maps: Sequence[Tensor]) -> Figure:
    """Plot an image, uint8 ``(28, 28)``, and below it a row of maps for each block, ``(channels, H, W)`` each.

    Of each block, the `COLUMNS` channels with the largest mean are shown, bright where the channel responds.
    """
    figure = Figure(figsize=(9, 1.25 * (len(maps) + 1)), layout="constrained")
    tiles = figure.subplots(len(maps) + 1, COLUMNS, squeeze=False)
    tiles[0, 0].imshow(255 - image.numpy(), cmap="gray", vmin=0, vmax=255)
    for row, block in enumerate(maps, start=1):
        strongest = block.mean(dim=(1, 2)).argsort(descending=True)[:COLUMNS]
        for axes, channel in zip(tiles[row], strongest.tolist(), strict=False):
            axes.imshow(block[channel].numpy(), cmap="magma")
            axes.set_title(f"channel {channel}", fontsize=7, pad=2)
        side = block.shape[-1]
        tiles[row, 0].text(-0.15, 0.5, f"block {row}\n{side}x{side} px", transform=tiles[row, 0].transAxes, ha="right")
    for axes in tiles.flat:
        axes.set_axis_off()
    return figure


def grad_cam(image: Tensor, maps: Sequence[Tensor], titles: Sequence[str]) -> Figure:
    """Plot an image, uint8 ``(28, 28)``, and next to it maps in [0, 1], ``(H, W)`` each, on top of the image."""
    figure = Figure(figsize=(3 * (len(maps) + 1), 3.2), layout="constrained")
    tiles = figure.subplots(1, len(maps) + 1)
    for axes, title in zip(tiles, ("image", *titles), strict=True):
        axes.imshow(255 - image.numpy(), cmap="gray", vmin=0, vmax=255, extent=(0, 1, 0, 1))
        axes.set_title(title, fontsize=10)
        axes.set_axis_off()
    for axes, cam in zip(tiles[1:], maps, strict=True):
        axes.imshow(cam.numpy(), cmap="jet", alpha=0.45, vmin=0, vmax=1, extent=(0, 1, 0, 1))
    return figure
