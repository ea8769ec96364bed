"""Ends a trial of a search that Optuna gives up."""

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint

from fashion_vgg.errors import PrunedError
from fashion_vgg.training.callbacks.history import History


class Pruner(Checkpoint):
    """Reports the objective of each epoch to the trial, and ends the training where the study's pruner says so.

    It saves nothing: Lightning calls a `Checkpoint` last, when the `History` has the epoch's row.

    Args:
        trial: an Optuna trial.
        objective: the name of a figure.

    Raises:
        PrunedError: the trial is given up.
    """

    def __init__(self, trial: Any, objective: str) -> None:
        self.trial = trial
        self.objective = objective
        self._reported = 0

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        rows = next(callback.rows for callback in trainer.callbacks if isinstance(callback, History))  # type: ignore[attr-defined]
        # Not the last row alone: a trial that was cut off and is taken up again is another one to Optuna.
        for row in rows[self._reported :]:
            if self.objective in row:
                self.trial.report(row[self.objective], int(row["epoch"]))
        self._reported = len(rows)
        if trainer.current_epoch + 1 != trainer.max_epochs and self.trial.should_prune():
            raise PrunedError(f"Given up after epoch {trainer.current_epoch + 1}: others were better by then.")
