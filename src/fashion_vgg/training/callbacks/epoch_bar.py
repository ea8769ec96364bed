"""The progress bar on a terminal."""

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm


class EpochBar(TQDMProgressBar):
    """A bar for the current epoch, numbered from 1, with the mean loss so far.

    It is cleared at the end of the epoch, where `History` prints a line, and leaves nothing behind.
    """

    def init_train_tqdm(self) -> Tqdm:
        return _without_trace(super().init_train_tqdm())

    def init_validation_tqdm(self) -> Tqdm:
        return _without_trace(super().init_validation_tqdm())

    def init_test_tqdm(self) -> Tqdm:
        return _without_trace(super().init_test_tqdm())

    def on_train_start(self, trainer: L.Trainer, *args: Any) -> None:
        super().on_train_start(trainer, *args)
        self.on_train_epoch_start(trainer)  # Lightning skips it in an epoch that is resumed

    def on_train_epoch_start(self, trainer: L.Trainer, *args: Any) -> None:
        super().on_train_epoch_start(trainer, *args)
        self.train_progress_bar.set_description(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}")

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        self.train_progress_bar.clear()

    def get_metrics(self, trainer: L.Trainer, pl_module: Any) -> dict[str, int | str | float | dict[str, float]]:
        # Of this process alone: the other processes show no bar, and would not take part in a reduction.
        metrics = pl_module.train_metrics
        return {"loss": f"{metrics.loss / metrics.images:.3f}"} if metrics.images else {}


def _without_trace(bar: Tqdm) -> Tqdm:
    bar.leave = False
    return bar
