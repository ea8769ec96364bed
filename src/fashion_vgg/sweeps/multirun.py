"""A Hydra multirun that resumes where it was interrupted, and reports failed jobs at once and at its end."""

import gc
import logging
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from omegaconf import DictConfig

from fashion_vgg.checkpoints import run_folder, signals
from fashion_vgg.config import error_messages, launch
from fashion_vgg.config.overrides import key_of, safe_overrides
from fashion_vgg.errors import DivergedError, PrunedError, Stopped, TrainingError, UserError, printable
from fashion_vgg.runs.run import Run
from fashion_vgg.sweeps import job_process
from fashion_vgg.sweeps.sweep_folder import (
    UNRELATED,
    NotStartedError,
    failed_runs,
    resume_command,
    running_jobs,
    searches,
    started,
)

log = logging.getLogger(__name__)

_STATUSES: dict[type[Exception], str] = {DivergedError: "diverged", PrunedError: "pruned"}


def run_job(cfg: DictConfig, train: Callable[[DictConfig], None]) -> float | None:
    """Run a job: skip it if it is finished, resume it if it was interrupted.

    An error ends only this job: its traceback goes to the job's log, a line of it to the terminal, and its status to
    ``outcome.json``.

    Returns:
        The objective for the sweeper; ``sweep.worst`` if the job diverged, None if it failed or has no such metric.
    """
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    if not hydra.job.chdir:
        os.chdir(hydra.runtime.cwd)  # the command's, to which paths are relative; Ray's processes have another one
    if (folder / run_folder.SUMMARY).exists():
        check_same_run(folder, hydra.overrides.task)
        log.info("Finished before: %s", folder.name)
        return objective(cfg, folder)
    if cfg.sweep.fail_fast and failed_runs(Path(hydra.sweep.dir)):
        log.info("Skipped, since another job failed: %s", folder.name)
        return None
    if (folder / run_folder.CONFIG).exists():
        cfg.resume = str(folder)
    try:
        _train(cfg, hydra, train)
    except Exception as error:
        if launch.is_nonzero_rank():
            raise
        if run_folder.is_locked(folder):
            log.warning("Another process is training %s.", folder.name)
        else:
            _report_failure(folder, error)
    finally:
        _free_memory()
    return objective(cfg, folder)


def check_same_run(folder: Path, overrides: Sequence[str]) -> None:
    """Raise UserError if the finished run in a job's folder was trained under other overrides than the job's."""
    before, now = safe_overrides(Run(folder).summary.get("overrides")), safe_overrides([*overrides])
    changed = {word for word in {*before} ^ {*now} if key_of(word) not in UNRELATED}
    if changed:
        run_folder.record_overrides(folder, before)  # Hydra has written the job's
        words = ", ".join(sorted(changed))
        raise UserError(f"{folder} was finished with other overrides ({words}): use a new hydra.sweep.dir.")


def objective(cfg: DictConfig, folder: Path) -> float | None:
    """A job's objective at its best epoch; if it diverged, ``sweep.worst``."""
    run = Run(folder)
    if run.status == "diverged":
        worst = math.inf if HydraConfig.get().sweeper.get("direction") == "minimize" else 0.0
        return worst if cfg.sweep.worst is None else float(cfg.sweep.worst)
    value = run.summary.get("best", {}).get(cfg.sweep.objective)
    return None if value is None else float(value)


@contextmanager
def report_failures() -> Iterator[None]:
    """Raise TrainingError with the failed jobs of a sweep; whatever ends it, add the command that resumes it."""
    try:
        yield
    except (Stopped, KeyboardInterrupt) as error:
        stopped = error if isinstance(error, Stopped) else Stopped(signals.received())
        if started and not getattr(stopped, "__notes__", ()):
            stopped.add_note(f"Resume with: {resume_command(started[-1])}")
        raise stopped from None
    except NotStartedError as wrapper:
        raise wrapper.error from None
    except Exception as error:
        if not started or error_messages.explain(error, "train"):
            raise
        reason = str(error).strip().partition("\n")[0]
        raise TrainingError(
            f"A job's process died: {type(error).__name__}: {reason}\nResume with: {resume_command(started[-1])}"
        ) from error
    for folder in started:
        _check_ended(folder)


def _check_ended(folder: Path) -> None:
    """Raise TrainingError if a job of a sweep failed, or still runs in another process."""
    running = running_jobs(folder)
    lines = [printable(f"  {run.folder.name}: {run.status}. {run.outcome['error']}") for run in failed_runs(folder)]
    again = resume_command(folder)
    if lines:
        number = f"{len(lines)} job{'s' if len(lines) > 1 else ''} of the sweep failed:"
        repeat = [] if folder in searches else [f"Run only these again with: {again}"]
        raise TrainingError("\n".join([number, *lines, *repeat]))
    if running:
        raise TrainingError(f"Another process is still training {', '.join(running)}. When it has ended: {again}")


def _train(cfg: DictConfig, hydra: HydraConf, train: Callable[[DictConfig], None]) -> None:
    """Train the job, if it needs several processes in one of its own, on GPUs of its own."""
    gpus = own_gpus(cfg, hydra)
    if job_process.is_needed(cfg):
        job_process.run(cfg, hydra, gpus)
        return
    if gpus:
        cfg.trainer.devices = gpus
    train(cfg)


def own_gpus(cfg: DictConfig, hydra: HydraConf) -> list[int]:
    """The GPUs of one of several parallel jobs, which take them in turn. (joblib divides the cores of a CPU.)"""
    number = cfg.trainer.devices
    if job_process.is_current():  # it has its own already
        return []
    if hydra.launcher.get("n_jobs", 1) == 1 or not isinstance(number, int) or cfg.trainer.accelerator == "cpu":
        return []
    import torch

    count = torch.cuda.device_count()
    return [(hydra.job.num * number + index) % count for index in range(number if count else 0)]


def _report_failure(folder: Path, error: Exception) -> None:
    status = _STATUSES.get(type(error), "failed")
    shown = (error.__cause__ or error) if isinstance(error, InstantiationException) else error
    message = error_messages.explain(error, "train") or f"{type(shown).__name__}: {shown}"
    first_line = message.splitlines()[0] if message else type(error).__name__
    run_folder.write_outcome(folder, status, first_line)
    log.debug("The job's error:", exc_info=error)  # for the job's log only
    log.log(logging.INFO if status == "pruned" else logging.ERROR, "%s: %s. %s", folder.name, status, first_line)


def _free_memory() -> None:
    if wandb := sys.modules.get("wandb"):
        wandb.finish()  # or the next job's logger writes into this job's run
    gc.collect()
    if torch := sys.modules.get("torch"):
        torch.cuda.empty_cache()
