"""Hydra's submitit launcher, with the signals, the waiting and the messages of the other ways to start a job."""

import contextlib
import getpass
import io
import logging
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import submitit
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus
from hydra_plugins.hydra_submitit_launcher import submitit_launcher
from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
from submitit.core.utils import FailedJobError

from fashion_vgg.checkpoints import run_folder, signals
from fashion_vgg.config import launch
from fashion_vgg.errors import UserError
from fashion_vgg.runs.run import Run

log = logging.getLogger(__name__)

SECONDS, SECONDS_OF_QUEUE = 1, 15
"""How often the results of jobs, and their state in SLURM, are looked up."""
_ENDED = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED"),
    *("REVOKED", "TIMEOUT"),
}
_KEYS = {
    "gres|generic resource": "gpus_per_node",
    "account": "account",
    "partition": "partition",
    "time limit": "timeout_min",
    "memory": "mem_gb",
    "cpu": "cpus_per_task",
    "qos": "qos",
    "feature": "constraint",
    "node count|node configuration": "nodes",
}
"""What `sbatch` complains of, and the key of ``hydra.launcher`` that sets it."""


class SlurmLauncher(submitit_launcher.SlurmLauncher):  # type: ignore[misc]
    """Submits the jobs of a sweep as an array, and waits for all of them."""

    def __call__(self, sweep_overrides: list[str], *arguments: Any) -> JobReturn:
        """Run a job, in each of its tasks.

        SIGUSR2, which SLURM sends before the time limit, stops the training like other signals, after the checkpoint of
        the step under way; then submitit's handler requeues the job. It would do so within the step.
        """
        requeue: Any = signal.getsignal(signal.SIGUSR2)
        signals.listen()
        try:
            result: JobReturn = super().__call__([*sweep_overrides, *launch.nonzero_rank_overrides()], *arguments)
            return result
        except SystemExit:
            if signals.received() == signal.SIGUSR2:
                if launch.is_nonzero_rank():
                    time.sleep(60)  # requeueing ends it
                requeue(signal.SIGUSR2, None)
            raise

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Submit the jobs; record the failure of those that died, which the sweep reports at its end."""
        jobs = self._submit(job_overrides, initial_job_idx)
        folders = [self._folder(overrides) for overrides in job_overrides]
        ended = {job.job_id: f"SLURM ended it ({state})" for job, state in _wait_for(jobs)}
        returned = []
        for job, folder, overrides in zip(jobs, folders, job_overrides, strict=True):
            result, reason = (None, ended[job.job_id]) if job.job_id in ended else _result(job)
            if reason and not Run(folder).summary and not run_folder.is_locked(folder):
                run_folder.write_outcome(folder, "failed", f"{reason}: see {job.paths.stdout}")
            returned.append(result or JobReturn(overrides, status=JobStatus.COMPLETED))
        return returned

    def _submit(self, job_overrides: Sequence[Sequence[str]], first: int) -> list[submitit.Job[Any]]:
        if not shutil.which("sbatch"):
            raise UserError(
                "hydra/launcher=submitit_slurm needs SLURM, whose sbatch is not here: use joblib or submitit_local."
            )
        settings = {**self.params}
        executor = submitit.AutoExecutor(
            settings.pop("submitit_folder"), cluster="slurm", slurm_max_num_timeout=settings.pop("max_num_timeout")
        )
        common = BaseQueueConf.__dataclass_fields__
        executor.update_parameters(**{key if key in common else f"slurm_{key}": v for key, v in settings.items()})
        state = Singleton.get_state()
        arguments = [
            (list(overrides), "hydra.sweep.dir", number, f"job_id_for_{number}", state)
            for number, overrides in enumerate(job_overrides, start=first)
        ]
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # submitit prints what it raises
                jobs = executor.map_array(self, *zip(*arguments, strict=True))
        except FailedJobError as error:
            raise UserError(_refusal(str(error))) from error
        log.info("Submitted %s jobs to SLURM: %s", len(jobs), jobs[0].job_id.partition("_")[0])
        return jobs

    def _folder(self, overrides: Sequence[str]) -> Path:
        """The folder of a job's run."""
        hydra = self.hydra_context.config_loader.load_sweep_config(self.config, [*overrides]).hydra
        return Path(hydra.sweep.dir, hydra.sweep.subdir)


def _refusal(message: str) -> str:
    lines = [re.sub(r"^sbatch: (error: )?(Batch job submission failed: )?", "", line) for line in message.splitlines()]
    found = ((line, key) for line in lines for words, key in _KEYS.items() if re.search(words, line, re.IGNORECASE))
    line, key = next(found, (lines[-1] if lines else "no reason given", "<setting>"))
    return f"SLURM refused the jobs: {line.rstrip('.')}. Change hydra.launcher.{key}."


def _wait_for(jobs: Sequence[submitit.Job[Any]]) -> Iterator[tuple[submitit.Job[Any], str]]:
    """Wait until all jobs have a result; yield those that SLURM ended without one, and their state.

    The queue shows a job for minutes after its end, also without the accounting that submitit asks.
    """
    waiting, suspects = list(jobs), dict[str, str]()
    asked = time.monotonic()
    while waiting := [job for job in waiting if not job.task(0).paths.result_pickle.exists()]:
        time.sleep(SECONDS)
        if time.monotonic() - asked < SECONDS_OF_QUEUE or (states := _queue()) is None:
            continue
        asked = time.monotonic()
        ended = {job.job_id: states.get(job.job_id, "no longer in the queue") for job in waiting}
        ended = {number: state for number, state in ended.items() if state in _ENDED or number not in states}
        for job in [job for job in waiting if job.job_id in ended and job.job_id in suspects]:
            yield job, ended[job.job_id]  # seen twice: a shared file system may show its result later
            waiting.remove(job)
        suspects = ended


def _queue() -> dict[str, str] | None:
    """The states of the user's jobs by their number; None if SLURM does not answer."""
    command = ["squeue", "--noheader", "--array", "--states=all", f"--user={getpass.getuser()}", "--format=%i %T"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return None if done.returncode else dict(line.split() for line in done.stdout.splitlines())


def _result(job: submitit.Job[Any]) -> tuple[JobReturn | None, str]:
    """What a job returned, or None and the last line of what it raised."""
    error = job.task(0).exception()
    result = None if error else job.task(0).result()
    if result and result.status == JobStatus.FAILED:
        error = result._return_value
    return (None, str(error).strip().splitlines()[-1].strip()) if error else (result, "")


def register() -> None:
    """Let Hydra use this launcher in place of the plugin's: Hydra instantiates those of its own packages alone."""
    name = f"{submitit_launcher.__name__}.{SlurmLauncher.__name__}"
    Plugins.instance().class_name_to_class[name] = SlurmLauncher
