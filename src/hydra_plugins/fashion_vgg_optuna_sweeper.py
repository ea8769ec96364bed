"""A Hydra sweeper that searches with Optuna.

The released plugin, hydra-optuna-sweeper 1.3, requires an Optuna older than version 3, does not continue a study, and
passes no trial to its jobs, so that none can be pruned. Here Optuna stores the study, Hydra's launchers run the jobs,
and a job's status is read from its folder.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, Transformer
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

log = logging.getLogger(__name__)

# Hydra imports every plugin at every start, so Optuna is imported only when a search starts.


@dataclass
class OptunaSweeper(Sweeper):
    """Searches ``sweep.space`` and the ranges of the command line with a study that is stored on disk."""

    n_trials: int  # finished and pruned trials over all calls; failed ones do not count, and are not repeated
    n_jobs: int  # trials that are sampled, and passed to the launcher, at once
    direction: Literal["maximize", "minimize"]
    study_name: str
    storage: str  # a database's URL
    seed: int  # of the sampler
    sampler: str  # a class of optuna.samplers
    pruner: str  # a class of optuna.pruners, read by the jobs (see `fashion_vgg.sweeps.pruner`)
    pruner_options: DictConfig  # its arguments

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Instantiate the launcher; called by Hydra."""
        self._config = config
        self._config_loader = hydra_context.config_loader
        self._launcher: Any = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Run the missing trials, ``n_jobs`` at once."""
        from fashion_vgg.errors import UserError

        self._check_settings()
        self._check_classes()
        fixed, space = self._parse([*self._configured_space(), *arguments])
        if not space:
            raise UserError("There is nothing to search: choose sweep=search, or give a range, key=interval(0.1,1).")
        if not self._config.data.val_size:
            raise UserError("A search needs a validation split for its objective: add data.val_size=5000.")
        folder = Path(self._config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        _check_ended(folder)
        study = self._study()
        _check_space(study, space)
        self._enqueue_interrupted(study)
        number = len(study.trials)
        for _ in range(0, self._missing(study), self.n_jobs):
            trials = [study.ask(space) for _ in range(min(self.n_jobs, self._missing(study)))]
            jobs = [[*fixed, *_overrides(trial), f"sweep.trial={trial.number}"] for trial in trials]
            returns = self._launcher.launch(jobs, initial_job_idx=number)
            for trial, job in zip(trials, returns, strict=True):
                _finish(study, trial, job)
            number += len(trials)
        self._log_best(study)

    def _check_settings(self) -> None:
        """Raise UserError if no trials would run at once, or if the search would look for the worst one."""
        from fashion_vgg.config.monitors import METRICS
        from fashion_vgg.errors import UserError
        from fashion_vgg.runs.comparison import lower_is_better

        if self.n_jobs < 1:
            raise UserError(f"A search with n_jobs={self.n_jobs}: use an integer of at least 1.")
        objective = self._config.sweep.objective
        wanted = "minimize" if lower_is_better(objective) else "maximize"
        if objective in METRICS and self.direction != wanted:
            raise UserError(f"sweep.objective={objective} needs hydra.sweeper.direction={wanted}.")

    def _check_classes(self) -> None:
        """Raise UserError if Optuna has no such sampler or pruner, or if it rejects its arguments."""
        import optuna

        from fashion_vgg.errors import UserError

        options: Any = {} if self.pruner == "NopPruner" else self.pruner_options
        for key, module, arguments in (
            ("sampler", optuna.samplers, {"seed": self.seed}),
            ("pruner", optuna.pruners, options),
        ):
            name = getattr(self, key)
            try:
                getattr(module, name)(**arguments)
            except (AttributeError, TypeError, ValueError) as error:
                raise UserError(f"hydra.sweeper.{key}={name} does not fit: {error}") from error

    def _configured_space(self) -> list[str]:
        space: Any = OmegaConf.to_container(self._config.sweep.space, resolve=True)
        return [f"{key}={values}" for key, values in space.items()]

    def _parse(self, words: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
        """Split into overrides that all jobs share and Optuna's distributions; a later word replaces an earlier one."""
        parser = OverridesParser.create(config_loader=self._config_loader)
        parsed = {override.get_key_element(): override for override in parser.parse_overrides(list(words))}
        searched = {key: override for key, override in parsed.items() if override.is_sweep_override()}
        fixed = [str(override.input_line) for key, override in parsed.items() if key not in searched]
        return fixed, {key: _distribution(override) for key, override in searched.items()}

    def _study(self) -> Any:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(
            study_name=self.study_name, storage=self.storage, direction=self.direction, load_if_exists=True
        )
        seed = self.seed + len(study.trials)  # a continued study does not sample its first trials again
        study.sampler = getattr(optuna.samplers, self.sampler)(seed=seed)
        return study

    def _enqueue_interrupted(self, study: Any) -> None:
        """Enqueue the trials that a kill interrupted: their jobs resume from the checkpoints in their folders."""
        from optuna.trial import TrialState

        for trial in study.get_trials(states=(TrialState.RUNNING,)):
            study.tell(trial.number, state=TrialState.FAIL)
            study.enqueue_trial(trial.params)

    def _missing(self, study: Any) -> int:
        from optuna.trial import TrialState

        return max(0, self.n_trials - len(study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))))

    def _log_best(self, study: Any) -> None:
        from optuna.trial import TrialState

        if finished := study.get_trials(states=(TrialState.COMPLETE,)):
            best = study.best_trial
            words = " ".join(f"{key}={value}" for key, value in best.params.items())
            objective = self._config.sweep.objective
            log.info("Best of %d trials: %s %.4f with %s", len(finished), objective, best.value, words)


def _check_ended(folder: Path) -> None:
    """Raise UserError if another process, such as a SLURM job of an earlier call, trains one of the trials."""
    from fashion_vgg.errors import UserError
    from fashion_vgg.sweeps.sweep_folder import running_jobs

    if running := running_jobs(folder):
        raise UserError(
            f"Another process is still training {', '.join(running)}: continue the search when it has ended."
        )


def _check_space(study: Any, space: dict[str, Any]) -> None:
    """Raise UserError if earlier trials of the study had another kind of range, or other choices."""
    from optuna.distributions import check_distribution_compatibility

    from fashion_vgg.errors import UserError

    for key, earlier in {key: x for trial in study.trials for key, x in trial.distributions.items()}.items():
        try:
            check_distribution_compatibility(earlier, space.get(key, earlier))
        except ValueError as error:
            raise UserError(f"{key}: the study has another space, {earlier}; start a new search.") from error


def _distribution(override: Override) -> Any:
    """An interval is searched as floats, ``int(interval(1,4))`` as integers; anything else as choices."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    from fashion_vgg.errors import UserError

    values: Any = override.value()
    if isinstance(values, IntervalSweep):
        start, end = values.start, values.end
        kind: Any = IntDistribution if isinstance(start, int) and isinstance(end, int) else FloatDistribution
        try:
            return kind(start, end, log="log" in values.tags)
        except ValueError as error:
            raise UserError(f"{override.input_line} does not fit: {error}") from error
    choices: Any = list(override.sweep_iterator(Transformer.encode))  # as they are written on the command line
    return CategoricalDistribution(choices)


def _overrides(trial: Any) -> Iterator[str]:
    return (f"{key}={value}" for key, value in trial.params.items())


def _finish(study: Any, trial: Any, job: JobReturn) -> None:
    """Pass a job's objective, or its failure, to the study."""
    from optuna.trial import TrialState

    from fashion_vgg.runs.run import Run

    hydra = job.hydra_cfg.hydra if job.hydra_cfg is not None else None
    run = Run(Path(hydra.runtime.output_dir)) if hydra else None
    if run and run.status == "pruned":
        study.tell(trial, state=TrialState.PRUNED)
    elif job.return_value is None:
        study.tell(trial, state=TrialState.FAIL)
    else:
        study.tell(trial, job.return_value)
