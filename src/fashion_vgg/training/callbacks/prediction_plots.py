"""What the trained network takes for what: pictures for TensorBoard."""

from typing import Any

import lightning as L
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from fashion_vgg.data.fashion_mnist import CLASSES, NAMES
from fashion_vgg.training import tensorboard

ROWS, COLUMNS = 6, 8


class PredictionPlots(L.Callback):
    """Draws the confusion matrix on the test set, and test images that are taken for something else.

    They are of the last evaluation of the training; with a validation split, of the test after it.
    """

    def __init__(self) -> None:
        self._predictions: list[Tensor] = []
        self._labels: list[Tensor] = []

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._predictions, self._labels = [], []

    on_test_epoch_start = on_validation_epoch_start

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if trainer.testing or getattr(pl_module, "eval_stage", "val") == "test":
            self._predictions.append(outputs["logits"].argmax(dim=1))
            self._labels.append(batch[1])

    on_test_batch_end = on_validation_batch_end

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._draw(trainer)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._draw(trainer)

    def _draw(self, trainer: L.Trainer) -> None:
        if not self._predictions:  # resumed after its last step
            return
        predictions, labels = torch.cat(self._predictions), torch.cat(self._labels)
        self._predictions, self._labels = [], []
        matrix = trainer.strategy.reduce(multiclass_confusion_matrix(predictions, labels, CLASSES), reduce_op="sum")
        wrong = (predictions != labels).nonzero().flatten()[: ROWS * COLUMNS].cpu()
        # Each process has every so many-th image of the set; the pictures are the first one's.
        images = trainer.datamodule.test_set.tensors[0].cpu()[wrong * trainer.world_size]  # type: ignore[attr-defined]
        for writer in tensorboard.writers(trainer) if trainer.is_global_zero else ():
            pairs = list(zip(labels[wrong].tolist(), predictions[wrong].tolist(), strict=True))
            epochs = trainer.current_epoch
            writer.add_figure("test/confusion", confusion(matrix.cpu()), epochs)
            if pairs:
                writer.add_figure("test/mistakes", mosaic(images, pairs), epochs)


def confusion(matrix: Tensor) -> Figure:
    """Counts ``(classes, classes)``, a row for each true class: coloured by their share of the row."""
    figure = Figure(figsize=(6.5, 6), layout="constrained")
    axes = figure.add_subplot()
    share = matrix / matrix.sum(dim=1, keepdim=True).clamp(min=1)
    axes.imshow(share.numpy(), cmap="Blues", vmin=0, vmax=1)
    for row, column in matrix.nonzero().tolist():
        colour = "white" if share[row, column] > 0.5 else "black"
        axes.text(column, row, str(int(matrix[row, column])), ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(len(NAMES)), NAMES, rotation=45, ha="right")
    axes.set_yticks(range(len(NAMES)), NAMES)
    axes.set(xlabel="taken for", ylabel="true class")
    return figure


def mosaic(images: Tensor, pairs: list[tuple[int, int]]) -> Figure:
    """Images, uint8 ``(N, 28, 28)``, under their true class and the one they were taken for."""
    height, width, side = 40, 36, images.shape[-1]
    # Three pixels of the figure for each of the images', so that it compresses well.
    figure = Figure(figsize=(COLUMNS * width * 3 / 100, ROWS * height * 3 / 100), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    canvas = torch.full((ROWS * height, COLUMNS * width), 255, dtype=torch.uint8)
    for place, (image, (true, taken)) in enumerate(zip(images, pairs, strict=True)):
        top, left = place // COLUMNS * height + 10, place % COLUMNS * width + 4
        canvas[top : top + side, left : left + side] = 255 - image
        text = f"{NAMES[true]}\n→ {NAMES[taken]}"
        axes.text(left + side / 2, top - 0.5, text, ha="center", va="bottom", fontsize=7, linespacing=0.95)
    axes.imshow(canvas.numpy(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_axis_off()
    return figure
