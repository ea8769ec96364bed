"""A Hydra multirun that resumes where it was interrupted, and reports failed jobs at once and at its end."""

import gc
import json
import logging
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from fashion_vgg import atomic
from fashion_vgg.checkpoints import records, run_folder, signals, text_files
from fashion_vgg.checkpoints.resume import FREE
from fashion_vgg.config import error_messages
from fashion_vgg.config.overrides import key_of, quoted, safe_overrides, value_of
from fashion_vgg.errors import DivergedError, PrunedError, Stopped, TrainingError, UserError, printable
from fashion_vgg.runs.run import Run, find_runs

log = logging.getLogger(__name__)

RECORD = "sweep.yaml"
"""In a sweep's folder: the overrides that it was started with, as a JSON list."""
_SAFE_OVERRIDE = re.compile(
    r"sweep\.keys=\[[\w.,/@]*\]|hydra/(launcher|sweeper)=\w+|hydra\.(launcher|sweeper)\.[a-z][a-z_]*=[\w.-]+"
)
"""Hydra's own keys can run code: only the names of options and plain numbers are read from a record."""
_STATUSES: dict[type[Exception], str] = {DivergedError: "diverged", PrunedError: "pruned"}
_UNRELATED = (*FREE, "name", "tags")
"""Keys without influence on a job's result."""
_started: list[Path] = []


def resumed(argv: Sequence[str]) -> list[str]:
    """Replace ``sweep.resume=<folder>`` by the sweep's folder and its recorded overrides, which the others override."""
    named = value_of(argv, "sweep.resume")
    if named in (None, "null"):
        return list(argv)
    own = [word for word in argv if not word.startswith("sweep.resume=") and word not in ("-m", "--multirun")]
    folder = _newest_sweep() if named == "last" else Path(str(named)).expanduser().absolute()
    given = {key_of(word) for word in own}
    recorded = _recorded_words(folder)
    _check_unchanged(folder, recorded, own)
    words = [word for word in recorded if key_of(word) not in given]
    return ["-m", *words, *own, f"hydra.sweep.dir={quoted(str(folder))}"]


def _check_unchanged(folder: Path, recorded: Sequence[str], own: Sequence[str]) -> None:
    """Raise UserError if an override changes a setting that all jobs share, and jobs are finished under the old one."""
    swept = (value_of(recorded, "sweep.keys") or "[]").strip("[]").split(",")
    shared = [word for word in safe_overrides([*own]) if key_of(word) not in (*swept, *_UNRELATED, "sweep")]
    changed = [word for word in shared if word not in recorded and "=" in word]
    if changed and any(run.status == "finished" for run in find_runs(folder)):
        raise UserError(
            f"{changed[0]}: {folder} has finished jobs of other settings; leave it out, or start a new sweep."
        )


def resume_command(folder: Path) -> str:
    """The command line that resumes a sweep."""
    return f"fashion-vgg train -m {shlex.quote(f'sweep.resume={folder}')}"


class RecordSweep(Callback):
    """Hydra's callback in the process that starts the jobs."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Record how to repeat the sweep, and forget earlier failures, whose jobs run again."""
        folder = Path(config.hydra.sweep.dir).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        overrides = config.hydra.overrides
        of_hydra = (word for word in overrides.hydra if key_of(word) not in ("hydra.sweep.dir", "hydra.mode"))
        atomic.write(folder / RECORD, json.dumps([*overrides.task, *of_hydra]) + "\n")
        for run in failed_runs(folder):
            (run.folder / run_folder.OUTCOME).unlink()
        _started.append(folder)
        if "ray" in config.hydra.launcher:
            _start_ray(OmegaConf.to_container(config.hydra.launcher.ray.init, resolve=True))


def run_job(cfg: DictConfig, train: Callable[[DictConfig], None]) -> float | None:
    """Run a job: skip it if it is finished, resume it if it was interrupted.

    An error ends only this job: its traceback goes to the job's log, a line of it to the terminal, and its status to
    ``outcome.json``.

    Returns:
        The objective for the sweeper; ``sweep.worst`` if the job diverged, None if it failed or has no such metric.
    """
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    if (folder / run_folder.SUMMARY).exists():
        check_same_run(folder, hydra.overrides.task)
        log.info("Finished before: %s", folder.name)
        return objective(cfg, folder)
    if cfg.sweep.fail_fast and failed_runs(Path(hydra.sweep.dir)):
        log.info("Skipped, since another job failed: %s", folder.name)
        return None
    if (folder / run_folder.CONFIG).exists():
        cfg.resume = str(folder)
    _assign_gpu(cfg, hydra)
    try:
        train(cfg)
    except Exception as error:
        _report_failure(folder, error)
    finally:
        _free_memory()
    return objective(cfg, folder)


def check_same_run(folder: Path, overrides: Sequence[str]) -> None:
    """Raise UserError if the finished run in a job's folder was trained under other overrides than the job's."""
    before, now = safe_overrides(Run(folder).summary.get("overrides")), safe_overrides([*overrides])
    changed = {word for word in {*before} ^ {*now} if key_of(word) not in _UNRELATED}
    if changed:
        run_folder.record_overrides(folder, before)  # Hydra has written the job's
        words = ", ".join(sorted(changed))
        raise UserError(f"{folder} was finished with other overrides ({words}): use a new hydra.sweep.dir.")


def objective(cfg: DictConfig, folder: Path) -> float | None:
    """A job's objective at its best epoch, or ``sweep.worst`` if it diverged."""
    run = Run(folder)
    if run.status == "diverged":
        return float(cfg.sweep.worst)
    value = run.summary.get("best", {}).get(cfg.sweep.objective)
    return None if value is None else float(value)


def failed_runs(folder: Path) -> list[Run]:
    """The jobs of a sweep that diverged or failed."""
    return [run for run in find_runs(folder) if run.status in ("diverged", "failed")]


@contextmanager
def report_failures() -> Iterator[None]:
    """Raise TrainingError with the failed jobs of a sweep; whatever ends it, add the command that resumes it."""
    try:
        yield
    except (Stopped, KeyboardInterrupt) as error:
        stopped = error if isinstance(error, Stopped) else Stopped(signals.received())
        if _started and not getattr(stopped, "__notes__", ()):
            stopped.add_note(f"Resume with: {resume_command(_started[-1])}")
        raise stopped from None
    except Exception as error:
        if not _started or error_messages.explain(error, "train"):
            raise
        reason = str(error).strip().partition("\n")[0]
        raise TrainingError(
            f"A job's process died: {type(error).__name__}: {reason}\nResume with: {resume_command(_started[-1])}"
        ) from error
    for folder in _started:
        lines = [printable(f"  {run.folder.name}: {run.status}. {run.outcome['error']}") for run in failed_runs(folder)]
        if lines:
            number = f"{len(lines)} job{'s' if len(lines) > 1 else ''} of the sweep failed:"
            raise TrainingError("\n".join([number, *lines, f"Run only these again with: {resume_command(folder)}"]))


def _start_ray(settings: Any) -> None:
    """Start Ray before the launcher does, to replace its signal handlers."""
    import ray

    # Ray rejects the other settings for a cluster that is already running.
    address = settings.get("address")
    ray.init(**({"address": address} if address else settings))
    signals.listen(KeyboardInterrupt)


def _newest_sweep() -> Path:
    sweeps = run_folder.outputs_folder() / "sweeps"
    folders = sorted((path.parent for path in sweeps.glob(f"*/*/{RECORD}")), key=run_folder.started)
    if not folders:
        raise UserError(f"sweep.resume=last: there is no sweep in {sweeps}.")
    return folders[-1].absolute()


def _recorded_words(folder: Path) -> list[str]:
    content = text_files.read_json(folder / RECORD)
    if content is None:
        raise UserError(f"sweep.resume={folder}: not a sweep's folder, since it has no {RECORD}.")
    words = records.recorded_words(folder / RECORD, content)
    return [*safe_overrides(words), *(word for word in words if _SAFE_OVERRIDE.fullmatch(word))]


def _assign_gpu(cfg: DictConfig, hydra: HydraConf) -> None:
    """Give each of several parallel jobs one GPU in turn. (joblib divides the cores of a CPU.)"""
    if hydra.launcher.get("n_jobs", 1) == 1 or cfg.trainer.devices != 1 or cfg.trainer.accelerator == "cpu":
        return
    import torch

    if count := torch.cuda.device_count():
        cfg.trainer.devices = [hydra.job.num % count]


def _report_failure(folder: Path, error: Exception) -> None:
    status = _STATUSES.get(type(error), "failed")
    message = error_messages.explain(error, "train") or f"{type(error).__name__}: {error}"
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
