"""A sweep's folder: the record from which it is resumed, its lock, its failed jobs."""

import json
import shlex
from collections.abc import Collection, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, read_write

from fashion_vgg import atomic
from fashion_vgg.checkpoints import run_folder, signals
from fashion_vgg.checkpoints.identity import FREE
from fashion_vgg.checkpoints.text_files import RecordError
from fashion_vgg.config.overrides import MULTIRUN, key_of, quoted, safe_overrides, value_of
from fashion_vgg.errors import UserError
from fashion_vgg.runs.run import Run, find_runs
from fashion_vgg.sweeps import command_line, record

UNRELATED = (*FREE, "name", "tags")
"""Keys without influence on a job's result."""
started: list[Path] = []
"""The sweeps of this process."""
searches: set[Path] = set()
"""Those of them that Optuna runs: it repeats no job that failed, and a diverged one has an objective."""


def resumed(argv: Sequence[str]) -> list[str]:
    """Replace ``sweep.resume=<folder>`` by the sweep's folder and its recorded overrides, which the others override."""
    named = value_of(argv, "sweep.resume")
    if named in (None, "null"):
        return list(argv)
    own = [word for word in argv if not word.startswith("sweep.resume=") and word not in MULTIRUN]
    folder = _newest_sweep() if named == "last" else Path(str(named)).expanduser().absolute()
    given = {key_of(word) for word in own}
    recorded = record.read(folder)
    _check_unchanged(folder, recorded, own, command_line.swept_keys(recorded))
    words = record.taken_over(folder, recorded, given)
    return ["-m", *words, *own, f"hydra.sweep.dir={quoted(str(folder))}"]


def _check_unchanged(folder: Path, before: Sequence[str], now: Sequence[str], swept: Collection[str]) -> None:
    """Raise UserError if an override changes a setting that all jobs share, and jobs are finished under the old one."""
    known = _shared(before, swept)
    changed = [word for word in _shared(now, swept) if word not in known and "=" in word]
    if changed and _has_finished(folder):
        raise UserError(
            f"{changed[0]}: {folder} has finished jobs of other settings; leave it out, or start a new sweep."
        )


def _check_repeated(config: DictConfig, folder: Path) -> None:
    """Raise UserError if a command repeats a sweep with other settings of all jobs, also if it leaves one out."""
    words = config.hydra.overrides.task
    try:
        recorded = record.read(folder) if (folder / record.RECORD).is_file() else words
    except RecordError:
        return  # the command says all that a damaged record did
    given = {key_of(word) for word in words}
    of_configs = {*config.sweep.space, *(config.hydra.sweeper.get("params") or ())} - given - {*map(key_of, recorded)}
    swept = {*command_line.swept_keys(recorded), *config.sweep["keys"], *of_configs}
    _check_unchanged(folder, recorded, words, swept)
    missing = [word for word in _shared(recorded, swept) if key_of(word) not in given]
    if missing and _has_finished(folder):
        raise UserError(f"{missing[0]}: the finished jobs of {folder} have it; add it, or start a new sweep.")


def _shared(words: Sequence[str], swept: Collection[str]) -> list[str]:
    return [word for word in safe_overrides([*words]) if key_of(word) not in (*swept, *UNRELATED)]


def _has_finished(folder: Path) -> bool:
    return any(run.status == "finished" for run in find_runs(folder))


def resume_command(folder: Path) -> str:
    """The command line that resumes a sweep."""
    return f"fashion-vgg train -m {shlex.quote(f'sweep.resume={folder}')}"


def failed_runs(folder: Path) -> list[Run]:
    """The jobs of a sweep that diverged or failed."""
    return [run for run in find_runs(folder) if run.status in ("diverged", "failed")]


def running_jobs(folder: Path) -> list[str]:
    """The names of the jobs of a sweep that a process trains."""
    return [run.folder.name for run in find_runs(folder) if run.status == "running"]


class NotStartedError(BaseException):
    """Carries an error out of Hydra, which would only warn of a callback's `Exception`, and start the jobs."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class RecordSweep(Callback):
    """Hydra's callback in the process that starts the jobs."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Lock the sweep's folder, record how to repeat the sweep, and forget failures whose jobs run again."""
        try:
            self._start(config, Path(config.hydra.sweep.dir).absolute())
        except Exception as error:
            raise NotStartedError(error) from error

    def _start(self, config: DictConfig, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        run_folder.lock(folder, "running a sweep")
        overrides = config.hydra.overrides
        _check_repeated(config, folder)
        of_hydra = [word for word in overrides.hydra if key_of(word) not in ("hydra.sweep.dir", "hydra.mode")]
        atomic.write(folder / record.RECORD, json.dumps([*overrides.task, *of_hydra]) + "\n")
        with read_write(config.hydra):  # absolute, since Ray's processes have another working directory
            config.hydra.sweep.dir = str(folder)
            overrides.hydra = [*of_hydra, "hydra.mode=MULTIRUN", f"hydra.sweep.dir={quoted(str(folder))}"]
        started.append(folder)
        if config.hydra.sweeper._target_.endswith(".OptunaSweeper"):
            searches.add(folder)
        if folder not in searches or config.sweep.fail_fast:  # which would skip all jobs after an earlier failure
            for run in failed_runs(folder):
                (run.folder / run_folder.OUTCOME).unlink()
        if "ray" in config.hydra.launcher:
            _start_ray(OmegaConf.to_container(config.hydra.launcher.ray.init, resolve=True))
        if config.hydra.launcher._target_.endswith(".SlurmLauncher") and find_spec("submitit"):
            from fashion_vgg.sweeps import slurm

            slurm.register()


def _start_ray(settings: Any) -> None:
    """Start Ray before the launcher does, to replace its signal handlers."""
    import ray

    # Ray rejects the other settings for a cluster that is already running.
    address = settings.get("address")
    ray.init(**({"address": address} if address else settings))
    signals.listen(KeyboardInterrupt)


def _newest_sweep() -> Path:
    sweeps = run_folder.outputs_folder() / "sweeps"
    folders = sorted((path.parent for path in sweeps.glob(f"*/*/{record.RECORD}")), key=run_folder.started)
    if not folders:
        raise UserError(f"sweep.resume=last: there is no sweep in {sweeps}.")
    return folders[-1].absolute()
