"""Ends a trial of a search that Optuna prunes."""

from typing import Any

import lightning as L

from fashion_vgg.errors import PrunedError


class Pruner(L.Callback):
    """Reports the objective after each evaluation, and ends the training before the next epoch if Optuna prunes it.

    Args:
        trial: an Optuna trial.
        objective: the name of a logged metric.

    Raises:
        PrunedError: the trial is pruned.
    """

    def __init__(self, trial: Any, objective: str) -> None:
        self.trial = trial
        self.objective = objective
        self._values: dict[int, float] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # An interrupted trial is resumed as a new trial, which knows none of its values.
        for epoch, value in self._values.items():
            self.trial.report(value, epoch)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.objective in trainer.callback_metrics:
            epoch, value = trainer.current_epoch + 1, float(trainer.callback_metrics[self.objective])
            self._values[epoch] = value
            self.trial.report(value, epoch)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._values and self.trial.should_prune():
            epoch = trainer.current_epoch
            raise PrunedError(f"Pruned after epoch {epoch}: other trials were better by then.")

    def state_dict(self) -> dict[str, Any]:
        return {"values": self._values}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._values = dict(state_dict["values"])
