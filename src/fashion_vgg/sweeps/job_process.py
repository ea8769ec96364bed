"""Runs a sweep's job that trains in several processes as a command of its own.

The other ranks of a training repeat its command line, which in a sweep would start the whole sweep again. They
also need the environment of a process that has trained nothing yet. Therefore the job's own process is started with the
job's overrides alone. It is killed if the sweep's process dies, as the other jobs are.
"""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from hydra.conf import HydraConf
from omegaconf import DictConfig

from fashion_vgg.checkpoints import run_folder, signals
from fashion_vgg.config import launch
from fashion_vgg.config.app import CONF
from fashion_vgg.config.overrides import key_of, quoted
from fashion_vgg.errors import Stopped, TrainingError, UserError
from fashion_vgg.sweeps.sweep_folder import resume_command

SWEEP = "FASHION_VGG_SWEEP"
"""Environment variable of the job's process: the folder of its sweep."""
_PR_SET_PDEATHSIG = 1  # from Linux's prctl.h


def is_needed(cfg: DictConfig) -> bool:
    """Whether a job trains in several processes, and this one was not started for it by SLURM or a sweep."""
    if SWEEP in os.environ or launch.has_slurm_tasks():
        return False
    several = cfg.trainer.devices != 1 or cfg.trainer.num_nodes > 1 or cfg.trainer.strategy != "auto"
    return bool(several and (cfg.trainer.devices != "auto" or cfg.trainer.accelerator != "cpu"))


def is_current() -> bool:
    """Whether this process was started for a job, and is the first one of its training."""
    return SWEEP in os.environ and "LOCAL_RANK" not in os.environ


def run(cfg: DictConfig, hydra: HydraConf, devices: Sequence[int] = ()) -> None:
    """Train a job in its own process, which records how the job ended.

    Args:
        cfg: the job's configuration.
        hydra: Hydra's configuration of the job.
        devices: the GPUs that the process may use, by their numbers in this one; by default all.

    Raises:
        UserError: the training needs several machines, and SLURM did not start it.
        TrainingError: the process died.
        Stopped: a signal stopped the sweep; the process has saved a checkpoint.
    """
    if cfg.trainer.num_nodes > 1:
        raise UserError("A sweep whose jobs train on several machines needs hydra/launcher=submitit_slurm.")
    folder = Path(hydra.runtime.output_dir)
    resumed = [f"resume={quoted(str(folder))}"] if cfg.resume else []
    sweep = Path(hydra.sweep.dir).absolute()
    place = [f"hydra.sweep.dir={quoted(str(sweep))}", f"hydra.run.dir={quoted(str(folder))}"]
    of_hydra = [word for word in hydra.overrides.hydra if key_of(word) != "hydra.mode"]
    words = [*_flags(hydra), *hydra.overrides.task, *resumed, *of_hydra, *place, "hydra.output_subdir=null"]
    launch.hide_cpp_warnings()  # which torch reads in the job's process, perhaps before its `train` is called
    env = {**os.environ, SWEEP: str(sweep)}
    if devices:
        env["CUDA_VISIBLE_DEVICES"] = visible_devices(devices)
    # In a session of its own, where a Ctrl-C does not reach it, so that it receives each signal once.
    command = [sys.executable, "-m", "fashion_vgg", "train", *words]
    try:
        status = _wait(subprocess.Popen(command, env=env, start_new_session=True))
    except Stopped as stopped:
        stopped.add_note(f"Resume with: {resume_command(sweep)}")
        raise
    ended = any((folder / name).exists() for name in (run_folder.SUMMARY, run_folder.OUTCOME))
    if status or not ended:
        raise TrainingError(f"The job's process died with exit status {status}.")


def visible_devices(devices: Sequence[int]) -> str:
    """``CUDA_VISIBLE_DEVICES`` for some of the GPUs that this process sees, which may be some of the machine's."""
    seen = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return ",".join(seen[number] if seen else str(number) for number in devices)


def _flags(hydra: HydraConf) -> list[str]:
    """The flags that name folders of configs. (The command line is another one in Ray's processes.)"""
    folders = {source.provider: source.path for source in hydra.runtime.config_sources}
    flags = ["--config-dir", folders["command-line"]] if "command-line" in folders else []
    if Path(folders["main"]) != CONF:
        flags += ["--config-path", folders["main"], "--config-name", str(hydra.job.config_name)]
    return flags


def _wait(process: "subprocess.Popen[bytes]") -> int:
    """Wait for a process, and pass on a signal."""
    signals.defer()
    passed_on = False
    try:
        while process.poll() is None:
            try:
                process.wait(0.2)
            except subprocess.TimeoutExpired:
                if signals.received() and not passed_on:
                    process.send_signal(signals.received())
                    passed_on = True
    finally:
        process.kill()  # after a second signal
    signals.undefer()
    return process.returncode


def main(job: Callable[[], float | None]) -> float | None:
    """Run the job in its own process, silently stopped by a signal, which the sweep's process reports."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        return job()
    except Stopped as stopped:
        sys.exit(stopped.status)
