"""Curves by step, to look inside an epoch."""

from pathlib import Path
from typing import Any

import lightning as L
from torch.utils.tensorboard import SummaryWriter

from fashion_vgg.training import event_files
from fashion_vgg.training.tensorboard import tag


class StepCurves(L.Callback):
    """Writes the training loss and the learning rate of every n-th step to TensorBoard.

    They go to a TensorBoard run of their own in the subfolder ``steps``, since the run's other curves are by epoch.

    Args:
        folder: of the run.
        every: number of steps between two points.
    """

    def __init__(self, folder: str, every: int = 10) -> None:
        self.folder = Path(folder, "steps")
        self.every = every

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._step = trainer.global_step
        if trainer.is_global_zero:
            # A resumed training repeats what was written after its checkpoint.
            event_files.keep_before(self.folder, trainer.global_step + 1)
            self._writer = SummaryWriter(self.folder, purge_step=trainer.global_step + 1)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, *_: Any, **__: Any) -> None:
        step = trainer.global_step
        if trainer.is_global_zero and step != self._step and step % self.every == 0:
            loss = outputs["loss"] * trainer.accumulate_grad_batches  # of the step's last batch; Lightning divides it
            self._writer.add_scalar(tag("train/loss"), loss.item(), step)
            self._writer.add_scalar(tag("lr"), trainer.optimizers[0].param_groups[0]["lr"], step)
        self._step = step

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            self._writer.close()
