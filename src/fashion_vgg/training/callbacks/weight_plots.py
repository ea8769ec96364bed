"""What training does to the weights, in TensorBoard: histograms, and the filters of the first layer."""

from typing import Any

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.loggers.logger import DummyLogger

from fashion_vgg.analysis import inside, plots
from fashion_vgg.errors import UserError
from fashion_vgg.training import tensorboard
from fashion_vgg.training.callbacks import figures


class _WeightPlots(L.Callback):
    """Raises UserError at the start of a training that has no TensorBoard logger."""

    def __init__(self, every: int) -> None:
        self.every = every

    def on_fit_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        # fast_dev_run replaces the loggers by a DummyLogger.
        if self.every and not any(isinstance(each, (TensorBoardLogger, DummyLogger)) for each in trainer.loggers):
            raise UserError(f"{type(self).__name__} writes to TensorBoard: add logger=tensorboard, or set its every=0.")

    def is_due(self, trainer: L.Trainer) -> bool:
        return trainer.is_global_zero and self.every > 0 and (trainer.current_epoch + 1) % self.every == 0


class WeightHistograms(_WeightPlots):
    """Writes histograms of every parameter and of its gradient in the last step of an epoch.

    Args:
        every: epochs between two histograms; 0 writes none.
    """

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: Any, optimizer: Any) -> None:
        if not (trainer.is_last_batch and self.is_due(trainer)):
            return
        for writer in tensorboard.writers(trainer):
            for name, parameter in pl_module.net.named_parameters():
                for kind, values in (("weights", parameter.detach()), ("gradients", parameter.grad)):
                    if values is not None and values.isfinite().all():
                        writer.add_histogram(f"{kind}/{name}", values.float(), trainer.current_epoch + 1)


class FirstLayerFilters(_WeightPlots):
    """Plots the filters of the first convolution after an epoch; UserError if the network has none.

    Args:
        every: epochs between two plots; 0 plots none.
    """

    def on_fit_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        super().on_fit_start(trainer, pl_module)
        if self.every:
            inside.first_filters(pl_module.net)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        if self.is_due(trainer):
            figure = plots.filters(inside.first_filters(pl_module.net))
            figures.write(trainer, "filters of the first layer", figure, trainer.current_epoch + 1)
