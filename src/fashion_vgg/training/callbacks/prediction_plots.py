"""Plots of the network's predictions for TensorBoard: the confusion matrix, and misclassified images."""

from typing import Any

import lightning as L
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from fashion_vgg.data.fashion_mnist import CLASS_NAMES, NUM_CLASSES
from fashion_vgg.training import tensorboard

ROWS, COLUMNS = 6, 8
"""Of the grid of misclassified images."""


class PredictionPlots(L.Callback):
    """Plots the confusion matrix on the test set, and misclassified test images.

    Without a validation split they show the last evaluation of the training, with one the test after the training.
    """

    def __init__(self) -> None:
        self._predictions: list[Tensor] = []
        self._labels: list[Tensor] = []

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._predictions, self._labels = [], []

    on_test_epoch_start = on_validation_epoch_start

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, *_: Any, **__: Any
    ) -> None:
        if trainer.testing or getattr(pl_module, "eval_stage", "val") == "test":
            self._predictions.append(outputs["logits"].argmax(dim=1))
            self._labels.append(batch[1])

    on_test_batch_end = on_validation_batch_end

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._plot(trainer)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._plot(trainer)

    def _plot(self, trainer: L.Trainer) -> None:
        if not self._predictions:  # resumed after the last step
            return
        predictions, labels = torch.cat(self._predictions), torch.cat(self._labels)
        self._predictions, self._labels = [], []
        matrix = trainer.strategy.reduce(multiclass_confusion_matrix(predictions, labels, NUM_CLASSES), reduce_op="sum")
        wrong = (predictions != labels).nonzero().flatten()[: ROWS * COLUMNS].cpu()
        # Of n processes, each has every n-th image of the set; the first one plots its own.
        images = trainer.datamodule.test_set.tensors[0].cpu()[wrong * trainer.world_size]  # type: ignore[attr-defined]
        for writer in tensorboard.writers(trainer) if trainer.is_global_zero else ():
            pairs = list(zip(labels[wrong].tolist(), predictions[wrong].tolist(), strict=True))
            epochs = trainer.current_epoch
            writer.add_figure("test/confusion", plot_confusion(matrix.cpu()), epochs)
            if pairs:
                writer.add_figure("test/mistakes", plot_misclassified(images, pairs), epochs)


def plot_confusion(matrix: Tensor) -> Figure:
    """Plot counts ``(classes, classes)``, a row per true class, coloured by their share of the row."""
    figure = Figure(figsize=(6.5, 6), layout="constrained")
    axes = figure.add_subplot()
    share = matrix / matrix.sum(dim=1, keepdim=True).clamp(min=1)
    axes.imshow(share.numpy(), cmap="Blues", vmin=0, vmax=1)
    for row, column in matrix.nonzero().tolist():
        colour = "white" if share[row, column] > 0.5 else "black"
        axes.text(column, row, str(int(matrix[row, column])), ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(len(CLASS_NAMES)), CLASS_NAMES, rotation=45, ha="right")
    axes.set_yticks(range(len(CLASS_NAMES)), CLASS_NAMES)
    axes.set(xlabel="predicted class", ylabel="true class")
    return figure


def plot_misclassified(images: Tensor, pairs: list[tuple[int, int]]) -> Figure:
    """Plot images, uint8 ``(N, 28, 28)``, with their true and their predicted class above them."""
    height, width, side = 40, 36, images.shape[-1]
    # Three pixels of the figure per pixel of an image, so that the PNG is small.
    figure = Figure(figsize=(COLUMNS * width * 3 / 100, ROWS * height * 3 / 100), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    canvas = torch.full((ROWS * height, COLUMNS * width), 255, dtype=torch.uint8)
    for place, (image, (label, prediction)) in enumerate(zip(images, pairs, strict=True)):
        top, left = place // COLUMNS * height + 10, place % COLUMNS * width + 4
        canvas[top : top + side, left : left + side] = 255 - image
        text = f"{CLASS_NAMES[label]}\n→ {CLASS_NAMES[prediction]}"
        axes.text(left + side / 2, top - 0.5, text, ha="center", va="bottom", fontsize=7, linespacing=0.95)
    axes.imshow(canvas.numpy(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_axis_off()
    return figure
