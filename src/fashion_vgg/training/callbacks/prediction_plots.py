"""Plots of the network's predictions: the confusion matrix, and the mistakes that it is most confident of."""

from pathlib import Path
from typing import Any

import lightning as L
import torch
from matplotlib.figure import Figure
from torch import Tensor

from fashion_vgg.analysis import plots
from fashion_vgg.analysis.evaluation import Evaluation
from fashion_vgg.data.fashion_mnist import CLASS_NAMES
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
            self._outputs.append((outputs["logits"].clone(), batch[1]))  # CUDA graphs overwrite their outputs

    on_test_batch_end = on_validation_batch_end

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._plot(trainer)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._plot(trainer)

    def _plot(self, trainer: L.Trainer) -> None:
        if not self._outputs:  # with a validation split until the test, or resumed after the last step
            return
        logits, labels = (torch.cat(parts) for parts in zip(*self._outputs, strict=True))
        self._outputs = []
        # Of n processes, each has every n-th image of the set; the first one plots its own mistakes.
        images = trainer.datamodule.test_set.tensors[0][trainer.global_rank :: trainer.world_size]  # type: ignore[attr-defined]
        evaluation = Evaluation(images[: len(labels)].cpu(), labels.cpu(), logits.float().cpu(), CLASS_NAMES)
        matrix = trainer.strategy.reduce(evaluation.confusion.to(labels.device), reduce_op="sum")
        if trainer.is_global_zero:
            self._write(trainer, "confusion", plots.confusion(matrix.cpu(), CLASS_NAMES))
            if len(wrong := evaluation.mistakes()[: plots.MISTAKES]):
                indices, true, predicted = wrong * trainer.world_size, evaluation.labels, evaluation.predictions
                captions = plots.captions(indices, true[wrong], predicted[wrong], CLASS_NAMES)
                self._write(trainer, "mistakes", plots.image_grid(evaluation.images[wrong], captions))

    def _write(self, trainer: L.Trainer, name: str, figure: Figure) -> None:
        figures.write(trainer, name, figure, trainer.current_epoch, Path(self.folder) if self.folder else None)
