"""Plots of the network's predictions: the confusion matrix, and the mistakes that it is most confident of."""

from pathlib import Path
from typing import Any

import lightning as L
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from fashion_vgg.analysis import plots
from fashion_vgg.data.fashion_mnist import CLASS_NAMES, NUM_CLASSES
from fashion_vgg.training.callbacks import figures


class PredictionPlots(L.Callback):
    """Plots the confusion matrix on the test set, and the misclassified test images with the highest confidence.

    Without a validation split they show the last evaluation of the training, with one the test after the training.

    Args:
        folder: for ``confusion.png`` and ``mistakes.png``; None plots in TensorBoard alone.
    """

    def __init__(self, folder: str | None = None) -> None:
        self.folder = folder
        self._outputs: list[tuple[Tensor, Tensor]] = []

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._outputs = []

    on_test_epoch_start = on_validation_epoch_start

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, *_: Any, **__: Any
    ) -> None:
        if trainer.testing or getattr(pl_module, "eval_stage", "val") == "test":
            self._outputs.append((outputs["logits"], batch[1]))

    on_test_batch_end = on_validation_batch_end

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._plot(trainer)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._plot(trainer)

    def _plot(self, trainer: L.Trainer) -> None:
        if not self._outputs:  # resumed after the last step
            return
        logits, labels = (torch.cat(parts) for parts in zip(*self._outputs, strict=True))
        self._outputs = []
        matrix = multiclass_confusion_matrix(logits.argmax(dim=1), labels, NUM_CLASSES)
        matrix = trainer.strategy.reduce(matrix, reduce_op="sum")
        if trainer.is_global_zero:
            self._write(trainer, "confusion", plots.confusion(matrix.cpu(), CLASS_NAMES))
            if not torch.equal(logits.argmax(dim=1), labels):
                self._write(trainer, "mistakes", _mistakes(trainer, logits.float().cpu(), labels.cpu()))

    def _write(self, trainer: L.Trainer, name: str, figure: Figure) -> None:
        figures.write(trainer, name, figure, trainer.current_epoch, Path(self.folder) if self.folder else None)


def _mistakes(trainer: L.Trainer, logits: Tensor, labels: Tensor) -> Figure:
    """Misclassified images, the highest confidence first."""
    confidences, predictions = logits.softmax(dim=1).max(dim=1)
    order = confidences.argsort(descending=True, stable=True)
    wrong = order[predictions[order] != labels[order]][: plots.MISTAKES]
    # Of n processes, each has every n-th image of the set; the first one plots its own.
    indices = wrong * trainer.world_size
    images = trainer.datamodule.test_set.tensors[0].cpu()[indices]  # type: ignore[attr-defined]
    return plots.image_grid(images, plots.captions(indices, labels[wrong], predictions[wrong], CLASS_NAMES))
