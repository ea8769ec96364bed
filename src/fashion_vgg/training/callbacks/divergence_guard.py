"""Ends a training whose loss is no number any more, and tells of one that learns nothing."""

import logging
import math
from typing import Any

import lightning as L
import torch
from torch import Tensor

from fashion_vgg.data.fashion_mnist import CLASSES
from fashion_vgg.errors import DivergedError

log = logging.getLogger(__name__)

STEPS_ON_A_GPU = 50
"""So many steps' losses are looked at together on a GPU, which is not made to wait for each."""

STEPS_TO_JUDGE = 100
"""An epoch of fewer is a trial, in which no network learns much."""


class DivergenceGuard(L.Callback):
    """Ends the training at a loss that is NaN or infinite; warns of one near that of guessing after an epoch.

    Raises:
        DivergedError: names the step, its loss, the learning rate.
    """

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._losses: list[Tensor] = []

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        on_cpu = pl_module.device.type == "cpu"
        if on_cpu and math.isfinite(outputs["loss"]):
            return
        self._losses.append(outputs["loss"].detach())
        if on_cpu or len(self._losses) >= STEPS_ON_A_GPU or trainer.is_last_batch:
            self._look(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        figures: Any = pl_module.train_metrics
        loss, guessing = float(figures.compute()["train/loss"]), math.log(CLASSES)
        if loss > 0.98 * guessing and trainer.num_training_batches >= STEPS_TO_JUDGE and trainer.is_global_zero:
            log.warning(
                "train/loss %.3f after epoch %d is no better than guessing, %.3f: "
                "the network does not learn; try another optimizer.lr.",
                loss,
                trainer.current_epoch + 1,
                guessing,
            )

    def _look(self, trainer: L.Trainer) -> None:
        losses, self._losses = torch.stack(self._losses), []
        wrong = (~torch.isfinite(losses)).nonzero()
        if len(wrong):
            first = int(wrong[0])
            step = trainer.fit_loop.total_batch_idx + 2 - len(losses) + first
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            raise DivergedError(
                f"The loss is {losses[first]:.0f} at step {step:,} (learning rate {rate:g}): "
                "the training diverged; lower optimizer.lr."
            )
