"""What training does to the weights, in TensorBoard: histograms, and the filters of the first layer."""

from typing import Any

import lightning as L
from torch import nn

from fashion_vgg.analysis import plots
from fashion_vgg.training import tensorboard
from fashion_vgg.training.callbacks import figures


class WeightHistograms(L.Callback):
    """Writes histograms of every parameter and of its gradient in the last step of an epoch.

    Args:
        every: epochs between two histograms; 0 writes none.
    """

    def __init__(self, every: int) -> None:
        self.every = every

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: Any, optimizer: Any) -> None:
        if not (trainer.is_last_batch and trainer.is_global_zero and _is_due(trainer, self.every)):
            return
        for writer in tensorboard.writers(trainer):
            for name, parameter in pl_module.net.named_parameters():
                for kind, values in (("weights", parameter.detach()), ("gradients", parameter.grad)):
                    if values is not None and values.isfinite().all():
                        writer.add_histogram(f"{kind}/{name}", values.float(), trainer.current_epoch + 1)


class FirstLayerFilters(L.Callback):
    """Plots the filters of the first convolution after an epoch.

    Args:
        every: epochs between two plots; 0 plots none.
    """

    def __init__(self, every: int) -> None:
        self.every = every

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        if not (trainer.is_global_zero and _is_due(trainer, self.every)):
            return
        first = next((layer for layer in pl_module.net.modules() if isinstance(layer, nn.Conv2d)), None)
        if first is None:
            return
        figure = plots.filters(first.weight.detach().float().cpu())
        figures.write(trainer, "filters of the first layer", figure, trainer.current_epoch + 1)


def _is_due(trainer: L.Trainer, every: int) -> bool:
    return every > 0 and (trainer.current_epoch + 1) % every == 0
