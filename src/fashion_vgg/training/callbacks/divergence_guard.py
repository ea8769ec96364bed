"""Ends a training whose loss is NaN or infinite, and warns if the network does not learn."""

import logging
import math
from typing import Any

import lightning as L
import torch
from torch import Tensor

from fashion_vgg.errors import DivergedError

log = logging.getLogger(__name__)

STEPS_PER_CHECK_ON_GPU = 50
"""The losses of this many steps are checked together on a GPU, so that it does not wait after each step."""

MIN_STEPS = 100
"""Shorter epochs are trial runs, in which no network learns much."""


class DivergenceGuard(L.Callback):
    """Raises DivergedError at a loss that is NaN or infinite; warns if the loss of an epoch is that of guessing."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._losses: list[Tensor] = []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, *_: Any, **__: Any) -> None:
        on_cpu = pl_module.device.type == "cpu"
        if on_cpu and math.isfinite(outputs["loss"]):
            return
        self._losses.append(outputs["loss"].detach())
        if on_cpu or len(self._losses) >= STEPS_PER_CHECK_ON_GPU or trainer.is_last_batch:
            self._check(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        metrics: Any = pl_module.train_metrics
        loss = float(metrics.compute()["train/loss"])
        if trainer.num_training_batches < MIN_STEPS or not trainer.is_global_zero:
            return
        classes = len(trainer.datamodule.train_set.tensors[1].unique())  # type: ignore[attr-defined]
        guessing = math.log(classes)
        if loss > 0.98 * guessing:
            message = f"train/loss {loss:.3f} after epoch {trainer.current_epoch + 1} is no better than guessing"
            log.warning("%s (%.3f): the network does not learn; try another optimizer.lr.", message, guessing)

    def _check(self, trainer: L.Trainer) -> None:
        losses, self._losses = torch.stack(self._losses), []
        bad = (~torch.isfinite(losses)).nonzero()
        if len(bad):
            first = int(bad[0])
            step = trainer.fit_loop.total_batch_idx + 2 - len(losses) + first
            lr = trainer.optimizers[0].param_groups[0]["lr"]
            raise DivergedError(
                f"The loss is {losses[first]:.0f} at step {step:,} (learning rate {lr:g}): "
                "the training diverged; lower optimizer.lr."
            )
