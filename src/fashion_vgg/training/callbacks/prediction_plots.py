"""Plots of the network's predictions for TensorBoard: the confusion matrix, and misclassified images."""

from typing import Any

import lightning as L
import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from fashion_vgg.analysis import plots
from fashion_vgg.data.fashion_mnist import CLASS_NAMES, NUM_CLASSES
from fashion_vgg.training import tensorboard


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
        wrong = (predictions != labels).nonzero().flatten()[: plots.MISTAKES].cpu()
        # Of n processes, each has every n-th image of the set; the first one plots its own.
        indices = wrong * trainer.world_size
        images = trainer.datamodule.test_set.tensors[0].cpu()[indices]  # type: ignore[attr-defined]
        for writer in tensorboard.writers(trainer) if trainer.is_global_zero else ():
            captions = plots.captions(indices, labels[wrong], predictions[wrong], CLASS_NAMES)
            epochs = trainer.current_epoch
            writer.add_figure("test/confusion", plots.confusion(matrix.cpu(), CLASS_NAMES), epochs)
            if captions:
                writer.add_figure("test/mistakes", plots.image_grid(images, captions), epochs)
