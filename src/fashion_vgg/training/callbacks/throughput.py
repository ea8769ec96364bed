"""Training speed in images per second, including data loading and checkpoints within an epoch, excluding evaluation."""

import time
from typing import Any

import lightning as L
import torch


class Throughput(L.Callback):
    """Logs ``images_per_sec`` of every epoch, over all devices together."""

    def __init__(self) -> None:
        self._epoch_images = 0
        self._epoch_seconds = self._epoch_start = self._evaluation_start = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # An epoch that is resumed has no on_train_epoch_start.
        self._epoch_start = time.perf_counter() - self._epoch_seconds

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._epoch_images = 0
        self._epoch_start = time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, *_: Any, **__: Any
    ) -> None:
        self._epoch_images += len(batch[1]) * trainer.world_size
        if trainer.is_last_batch or trainer.should_stop:
            _wait_for(pl_module.device)
        self._epoch_seconds = time.perf_counter() - self._epoch_start  # the evaluation follows the last batch

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        _wait_for(pl_module.device)
        self._evaluation_start = time.perf_counter()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._epoch_start += time.perf_counter() - self._evaluation_start  # trainer.val_check_interval: in an epoch

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        speed = self._epoch_images / self._epoch_seconds
        pl_module.log("images_per_sec", speed, logger=False, sync_dist=True)
        for logger in trainer.loggers:
            logger.log_metrics({"images_per_sec": speed}, step=trainer.current_epoch + 1)

    def state_dict(self) -> dict[str, Any]:
        return {"images": self._epoch_images, "seconds": self._epoch_seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._epoch_images, self._epoch_seconds = int(state_dict["images"]), float(state_dict["seconds"])


def _wait_for(device: torch.device) -> None:
    """Wait for the steps so far: GPU kernels run asynchronously."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
