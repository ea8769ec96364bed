"""Reports before the first step how long a training on a CPU will take, if that is long."""

import copy
import logging
import time
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn

log = logging.getLogger(__name__)

PROBE_IMAGES = 32
PROBE_STEPS = 3  # the fastest counts: the first ones allocate memory


class SlowRunNotice(L.Callback):
    """On a CPU, times a few steps on a copy of the network and estimates the duration of the training.

    The copy and the restored random state leave the training unchanged.

    Args:
        longer_than_minutes: the shortest duration that is reported.
        quick_command: a command that the notice suggests instead.
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
                "No GPU is used: this training will take about %s on the CPU.\nFor a result within minutes: %s",
                f"{minutes / 60:.1f} hours" if minutes > 90 else f"{minutes:.0f} minutes",
                self.quick_command,
            )


def estimated_seconds(trainer: Any, module: L.LightningModule) -> float:
    """Estimate the duration of the remaining steps, with their evaluations, from steps of a few images."""
    datamodule = trainer.datamodule
    with torch.random.fork_rng(devices=[]), trainer.precision_plugin.forward_context():
        # Sliced from the data set: persistent loader workers would lose a batch to another iterator.
        images, labels = datamodule.on_after_batch_transfer(datamodule.train_set[:PROBE_IMAGES], 0)
        net: Any = copy.deepcopy(module.net)
        images = images.to(module.dtype)
        seconds_per_image = min(_step_seconds(net, images, labels) for _ in range(PROBE_STEPS)) / len(labels)
    steps = trainer.estimated_stepping_batches - trainer.global_step  # up to trainer.max_steps
    batches = steps * trainer.accumulate_grad_batches
    evaluations = batches / trainer.val_check_batch / trainer.check_val_every_n_epoch
    evaluation = evaluations * sum(trainer.num_val_batches) / 3  # a forward pass is a third of a step's work
    return float(seconds_per_image * (batches + evaluation) * datamodule.local_batch_size(trainer.world_size))


def _step_seconds(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    start = time.perf_counter()
    torch.autograd.backward(F.cross_entropy(net(images), labels))
    return time.perf_counter() - start
