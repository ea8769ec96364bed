"""Ends a trial of a search that Optuna prunes."""

import sys
from typing import Any

import lightning as L
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from fashion_vgg.errors import PrunedError


class Pruner(L.Callback):
    """Reports the objective, a logged metric, to an Optuna trial, and raises PrunedError if Optuna prunes it.

    It reports after each evaluation, and ends the training before the next epoch.
    """

    def __init__(self, trial: Any, objective: str) -> None:
        self.trial = trial
        self.objective = objective
        self._values: dict[int, float] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # An interrupted trial is resumed as a new trial, which knows none of its values.
        for epoch, value in self._values.items() if trainer.is_global_zero else ():
            self.trial.report(value, epoch)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.objective in trainer.callback_metrics:
            epoch, value = trainer.current_epoch + 1, float(trainer.callback_metrics[self.objective])
            self._values[epoch] = value
            if trainer.is_global_zero:
                self.trial.report(value, epoch)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        decided = trainer.is_global_zero and self._values and self.trial.should_prune()
        if trainer.strategy.reduce_boolean_decision(bool(decided), all=False):
            if not trainer.is_global_zero:
                sys.exit()
            raise PrunedError(f"Pruned after epoch {trainer.current_epoch}: other trials were better by then.")

    def state_dict(self) -> dict[str, Any]:
        return {"values": self._values}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._values = dict(state_dict["values"])


def pruners(cfg: DictConfig) -> list[L.Callback]:
    """The `Pruner` of a search's trial; none in other trainings."""
    if cfg.sweep.trial is None:
        return []
    import optuna

    sweeper = HydraConfig.get().sweeper
    options: Any = OmegaConf.to_container(sweeper.pruner_options) if sweeper.pruner != "NopPruner" else {}
    optuna_pruner = getattr(optuna.pruners, sweeper.pruner)(**options)
    study = optuna.load_study(study_name=sweeper.study_name, storage=sweeper.storage, pruner=optuna_pruner)
    [trial] = [trial for trial in study.get_trials(deepcopy=False) if trial.number == cfg.sweep.trial]
    return [Pruner(optuna.Trial(study, trial._trial_id), cfg.sweep.objective)]
