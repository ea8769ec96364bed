"""Says before the first step how long a training on a CPU will take, where that is long."""

import copy
import logging
import time
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn

log = logging.getLogger(__name__)

PROBE_IMAGES = 16


class SlowRunNotice(L.Callback):
    """On a CPU, times one step on a copy of the module, and says so if the whole would take long.

    The copy and a saved random state leave the training as it would have been.

    Args:
        longer_than_minutes: no notice below this.
        quick_command: what the notice names for the impatient.
    """

    def __init__(self, longer_than_minutes: float, quick_command: str) -> None:
        self.longer_than_minutes = longer_than_minutes
        self.quick_command = quick_command

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if pl_module.device.type != "cpu" or not trainer.is_global_zero:
            return
        minutes = estimated_seconds(trainer, pl_module) / 60
        if minutes > self.longer_than_minutes:
            log.warning(
                "No GPU is in use: this training will take about %s on the CPU.\nFor a result within minutes: %s",
                f"{minutes / 60:.1f} hours" if minutes > 90 else f"{minutes:.0f} minutes",
                self.quick_command,
            )


def estimated_seconds(trainer: L.Trainer, module: L.LightningModule) -> float:
    """Seconds that the epochs left will take, evaluation included, from one timed step of a few images."""
    datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
    with torch.random.fork_rng(devices=[]), trainer.precision_plugin.forward_context():
        # From the data set: an iterator of its own would take a batch from a loader with lasting workers.
        images, labels = datamodule.train_set[:PROBE_IMAGES]
        images, labels = datamodule.on_after_batch_transfer((images, labels), 0)
        net: Any = copy.deepcopy(module.net)
        images = images.to(module.dtype)
        _step_seconds(net, images, labels)  # the first step allocates memory
        seconds_an_image = _step_seconds(net, images, labels) / len(labels)
    epochs = (trainer.max_epochs or 1) - trainer.current_epoch
    # A forward pass is a third of a step's work.
    batches = trainer.num_training_batches + sum(trainer.num_val_batches) / 3
    return float(seconds_an_image * batches * datamodule.share_of_batch(trainer.world_size) * epochs)


def _step_seconds(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    start = time.perf_counter()
    torch.autograd.backward(F.cross_entropy(net(images), labels))
    return time.perf_counter() - start
