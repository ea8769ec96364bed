"""Hydra's multirun as a sweep that goes on where it was cut off, and says at once, and at its end, what failed."""

import gc
import json
import logging
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from fashion_vgg import atomic
from fashion_vgg.checkpoints import run_folder, signals
from fashion_vgg.config import app
from fashion_vgg.config.overrides import key_of, quoted, safe_overrides, value_of
from fashion_vgg.errors import DivergedError, PrunedError, Stopped, TrainingError, UserError
from fashion_vgg.runs.run import Run, find_runs

if TYPE_CHECKING:
    import lightning as L

log = logging.getLogger(__name__)

RECORD = "sweep.yaml"
"""In a sweep's folder: the overrides that it was started with, as a JSON list."""

_ENDED_EARLY: dict[type[Exception], str] = {DivergedError: "diverged", PrunedError: "pruned"}
_begun: list[Path] = []


def arguments(argv: Sequence[str]) -> list[str]:
    """A command line with ``sweep.resume=<folder>`` made into that sweep's own overrides and its folder.

    Overrides that are given again come out on top. ``last`` stands for the newest sweep.

    Raises:
        UserError: there is no such sweep.
    """
    named = value_of(argv, "sweep.resume")
    if named in (None, "null"):
        return list(argv)
    own = [word for word in argv if not word.startswith("sweep.resume=") and word not in ("-m", "--multirun")]
    folder = _newest() if named == "last" else Path(str(named)).expanduser().absolute()
    recorded = _recorded(folder)
    given = {key_of(word) for word in own}
    words = [word for word in recorded if key_of(word) not in given]
    return ["-m", *words, *own, f"hydra.sweep.dir={quoted(str(folder))}"]


def command(folder: Path) -> str:
    """What to type to go on with a sweep."""
    return f"fashion-vgg train -m {shlex.quote(f'sweep.resume={folder}')}"


class RecordSweep(Callback):
    """Hydra's callback in the process that starts the jobs."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Write down how to repeat the sweep, and forget what failed before: it is run again."""
        folder = Path(config.hydra.sweep.dir).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        atomic.write(folder / RECORD, json.dumps(_to_record(config)) + "\n")
        for run in failures(folder):
            (run.folder / run_folder.OUTCOME).unlink()
        _begun.append(folder)
        if "ray" in config.hydra.launcher:
            _start_ray(OmegaConf.to_container(config.hydra.launcher.ray.init, resolve=True))


def run_job(cfg: DictConfig, task: Callable[[DictConfig], Any]) -> float | None:
    """Run one job: not at all if it is finished, from its last checkpoint if it was cut off.

    An error ends the job alone. Its traceback goes to the job's log, a line of it to the terminal, and what became of
    it to ``outcome.json``.

    Returns:
        The objective; `sweep.worst` of a job that diverged, None of one that failed or has no such figure.
    """
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    if (folder / run_folder.SUMMARY).exists():
        log.info("Finished before: %s", folder.name)
        return objective(cfg, folder)
    if cfg.sweep.fail_fast and failures(Path(hydra.sweep.dir)):
        log.info("Not begun, since another job failed: %s", folder.name)
        return None
    if (folder / run_folder.CONFIG).exists():
        cfg.resume = str(folder)
    _take_share_of_gpus(cfg, hydra)
    try:
        task(cfg)
    except Exception as error:
        _tell(folder, error)
    finally:
        _free_memory()
    return objective(cfg, folder)


def pruners(cfg: DictConfig) -> "list[L.Callback]":
    """The callback that a trial of a search needs; nothing in any other training."""
    if OmegaConf.select(cfg, "sweep.trial") is None:  # an old run's stored configuration has no such key
        return []
    import optuna

    from fashion_vgg.sweeps.pruner import Pruner

    sweeper = HydraConfig.get().sweeper
    options: Any = OmegaConf.to_container(sweeper.pruner_options)
    study = optuna.load_study(
        study_name=sweeper.study_name,
        storage=sweeper.storage,
        pruner=getattr(optuna.pruners, sweeper.pruner)(**(options if sweeper.pruner != "NopPruner" else {})),
    )
    [trial] = [trial for trial in study.get_trials(deepcopy=False) if trial.number == cfg.sweep.trial]
    return [Pruner(optuna.Trial(study, trial._trial_id), cfg.sweep.objective)]


def objective(cfg: DictConfig, folder: Path) -> float | None:
    """What a sweeper gets of a job: its figure at the best epoch, or `sweep.worst` if it diverged."""
    run = Run(folder)
    if run.status == "diverged":
        return float(cfg.sweep.worst)
    value = run.summary.get("best", {}).get(cfg.sweep.objective)
    return None if value is None else float(value)


def failures(folder: Path) -> list[Run]:
    """A sweep's jobs that diverged or failed."""
    return [run for run in find_runs(folder) if run.status in ("diverged", "failed")]


@contextmanager
def told() -> Iterator[None]:
    """Whatever ends a sweep, it is told how to go on with it.

    Raises:
        TrainingError: a job failed, or its process died.
    """
    try:
        yield
    except (Stopped, KeyboardInterrupt) as error:
        stopped = error if isinstance(error, Stopped) else Stopped(signals.received())
        if _begun and not getattr(stopped, "__notes__", ()):
            stopped.add_note(f"Go on with: {command(_begun[-1])}")
        raise stopped from None
    except Exception as error:
        if not _begun or app.explain(error, "train"):
            raise
        reason = str(error).strip().partition("\n")[0]
        raise TrainingError(
            f"A job's process died: {type(error).__name__}: {reason}\nGo on with: {command(_begun[-1])}"
        ) from error
    for folder in _begun:
        lines = [f"  {run.folder.name}: {run.status}. {run.outcome['error']}" for run in failures(folder)]
        if lines:
            number = f"{len(lines)} job{'s' if len(lines) > 1 else ''} of the sweep failed:"
            raise TrainingError("\n".join([number, *lines, f"Run those alone again with: {command(folder)}"]))


def _start_ray(settings: Any) -> None:
    """Before the launcher does, which leaves Ray's own way with signals in place."""
    import ray

    # Of a cluster that is there, the address is enough: Ray refuses what says how to start one.
    address = settings.get("address")
    ray.init(**({"address": address} if address else settings))
    signals.listen_beside_ray()


def _newest() -> Path:
    folders = sorted(path.parent for path in (run_folder.outputs_folder() / "sweeps").glob(f"*/*/{RECORD}"))
    if not folders:
        raise UserError(f"sweep.resume=last: there is no sweep in {run_folder.outputs_folder() / 'sweeps'}.")
    return folders[-1].absolute()


def _recorded(folder: Path) -> list[str]:
    try:
        content = json.loads((folder / RECORD).read_text())
    except (OSError, ValueError):
        raise UserError(f"sweep.resume={folder}: this is no sweep's folder: it has no {RECORD}.") from None
    # Hydra's keys can run code: of those, a record adds the names of configs and plain numbers.
    of_hydra = re.compile(r"hydra/(launcher|sweeper)=\w+|hydra\.(launcher|sweeper)\.[a-z][a-z_]*=[\w.-]+")
    words = content if isinstance(content, list) else []
    return [*safe_overrides(words), *(word for word in words if of_hydra.fullmatch(str(word)))]


def _to_record(config: DictConfig) -> list[str]:
    overrides = config.hydra.overrides
    ours = (word for word in overrides.hydra if key_of(word) not in ("hydra.sweep.dir", "hydra.mode"))
    return [*overrides.task, *ours]


def _take_share_of_gpus(cfg: DictConfig, hydra: HydraConf) -> None:
    """Of jobs that run at once, each its own GPU in turn. (The share of a processor's cores is set by joblib.)"""
    if hydra.launcher.get("n_jobs", 1) == 1 or cfg.trainer.devices != 1 or cfg.trainer.accelerator == "cpu":
        return
    import torch

    if number := torch.cuda.device_count():
        cfg.trainer.devices = [hydra.job.num % number]


def _tell(folder: Path, error: Exception) -> None:
    status = _ENDED_EARLY.get(type(error), "failed")
    message = app.explain(error, "train") or f"{type(error).__name__}: {error}"
    first_line = message.splitlines()[0] if message else type(error).__name__
    run_folder.write_outcome(folder, status, first_line)
    log.debug("What ended the job:", exc_info=error)  # for the job's log, and not for the terminal
    log.log(logging.INFO if status == "pruned" else logging.ERROR, "%s: %s. %s", folder.name, status, first_line)


def _free_memory() -> None:
    gc.collect()
    if "torch" in sys.modules:
        import torch

        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.empty_cache()
