"""Trainings and sweeps on a real SLURM, whose results equal those without it."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import torch

from fashion_vgg.runs.run import Run, find_runs
from tests.engines.slurm import Slurm
from tests.helpers import assert_equal, assert_same, wait_until
from tests.processes.command import Command

SLURM = [
    *("hydra/launcher=submitit_slurm", "hydra.launcher.gpus_per_node=null"),
    *("hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=2"),
]
TWO_TASKS = ["trainer=ddp_sim", "trainer.num_nodes=2", "hydra.launcher.nodes=2", "hydra.launcher.tasks_per_node=2"]

ROOT = Path(__file__).parents[2]


def statuses(sweep: Path) -> dict[str, str]:
    return {run.folder.name: run.status for run in find_runs(sweep)}


def has_ended(run: Path, epochs: int) -> bool:
    """Whether a run has ended so many epochs."""
    path = run / "metrics.csv"
    return path.exists() and len(path.read_text().splitlines()) > epochs


def has_resumed(run: Path, times: int, slurm: Slurm) -> bool:
    """Whether a run that SLURM requeues has been resumed so often."""
    slurm.hurry()
    return (run / "train.log").read_text().count("Resuming from") == times


@pytest.fixture(scope="module")
def small(data_root: Path) -> list[str]:
    """Three epochs of a second or two, on real images."""
    return [
        *(f"data.root={data_root}", "model=vgg5_light", "model.ratio=4", "model.dropout=0.3", "image_size=28"),
        *("trainer=cpu", "trainer.max_epochs=3", "trainer.limit_train_batches=40", "batch_size=64"),
        *("data.val_size=1000", "data.flip=0.5", "data.erase=6", "checkpoint.every_minutes=60"),
    ]


@pytest.fixture(scope="module")
def undisturbed(fashion_vgg: Command, small: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of two jobs in one process."""
    root = tmp_path_factory.mktemp("undisturbed")
    done = fashion_vgg("train", "-m", *small, "seed=0,1", f"hydra.sweep.dir={root}/sweep", root=root)
    assert (done.returncode, done.stderr) == (0, "")
    return root / "sweep"


class Sweep:
    """A sweep on SLURM, in a folder of its own."""

    def __init__(self, command: Command, slurm: Slurm, words: Sequence[str], root: Path) -> None:
        self.folder = root / "sweep"
        self.slurm = slurm
        wait_until(lambda: not slurm.jobs(), 120)  # of another test
        line = ["train", "-m", *words, *SLURM, f"hydra.sweep.dir={self.folder}"]
        self.process = command.start(*line, root=root, env={**slurm.env, "MASTER_ADDR": "127.0.0.1"}, fork=False)

    def job_of(self, number: int) -> str:
        """SLURM's number of a job."""
        wait_until(lambda: len(self.slurm.jobs()) > number, 120)
        return sorted(self.slurm.jobs())[number]


def test_a_sweep_equals_one_without_slurm(
    fashion_vgg: Command, slurm: Slurm, small: list[str], undisturbed: Path, tmp_path: Path
) -> None:
    sweep = Sweep(fashion_vgg, slurm, [*small, "seed=0,1"], tmp_path)
    done = sweep.process.result()
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("seed=0", "seed=1"):
        assert_equal(undisturbed / name, sweep.folder / name)


def test_a_signal_before_the_time_limit_loses_no_step(
    fashion_vgg: Command, slurm: Slurm, small: list[str], undisturbed: Path, tmp_path: Path
) -> None:
    sweep = Sweep(fashion_vgg, slurm, [*small, "seed=0,1"], tmp_path)
    run, job = sweep.folder / "seed=1", sweep.job_of(1)
    for epochs in (1, 2):
        wait_until(partial(has_ended, run, epochs), 120)
        slurm.run("scancel", "--signal=USR2", job)
        wait_until(partial(has_resumed, run, epochs, slurm), 120)
    done = sweep.process.result()
    assert done.returncode == 0, done
    log = (run / "train.log").read_text()
    stopped = [line.rpartition("after step ")[2] for line in log.splitlines() if "Resuming from" in line]
    assert len(stopped) == 2
    assert_equal(undisturbed / "seed=1", run)
    output = "".join(path.read_text() for path in sweep.folder.glob(f".submitit/*{job}*/*_0_log.out"))
    for step in stopped:
        assert f"Stopped after step {step}." in output


def test_cancelled_jobs_are_reported_when_the_others_have_ended(
    fashion_vgg: Command, slurm: Slurm, small: list[str], tmp_path: Path
) -> None:
    sweep = Sweep(fashion_vgg, slurm, [*small, "seed=0,1,2"], tmp_path)
    wait_until(partial(has_ended, sweep.folder / "seed=0", 1), 120)
    slurm.run("scancel", sweep.job_of(0))
    done = sweep.process.result()
    assert done.returncode == 1, done
    assert "1 job of the sweep failed:\n  seed=0: failed. SLURM ended it (" in done.stderr
    assert statuses(sweep.folder) == {"seed=0": "failed", "seed=1": "finished", "seed=2": "finished"}
    again = fashion_vgg("train", "-m", f"sweep.resume={sweep.folder}", root=tmp_path, env=slurm.env, fork=False)
    assert again.returncode == 0, again
    assert set(statuses(sweep.folder).values()) == {"finished"}


def test_a_signal_before_the_training_begins_ends_the_job(
    fashion_vgg: Command, slurm: Slurm, small: list[str], tmp_path: Path
) -> None:
    sweep = Sweep(fashion_vgg, slurm, [*small, "seed=0,1"], tmp_path)
    job = sweep.job_of(0)
    wait_until(lambda: any(sweep.folder.glob("*/train.log")), 120)  # torch is imported after that
    assert not any(sweep.folder.glob("*/config.yaml"))
    sent = time.monotonic()
    slurm.run("scancel", "--signal=TERM", job)
    wait_until(lambda: job not in slurm.jobs(), seconds=25)
    assert time.monotonic() - sent < 25
    done = sweep.process.result()
    assert done.returncode == 1
    assert "1 job of the sweep failed:" in done.stderr
    assert sorted(statuses(sweep.folder).values()) == ["failed", "finished"]


def test_a_refused_submission_names_the_key(
    fashion_vgg: Command, slurm: Slurm, small: list[str], tmp_path: Path
) -> None:
    words = ["train", "-m", *small, "seed=0,1", *SLURM]
    for setting, reason in (
        ("gpus_per_node=1", "Invalid generic resource (gres) specification. Change hydra.launcher.gpus_per_node.\n"),
        ("partition=gpu", "invalid partition specified: gpu. Change hydra.launcher.partition.\n"),
        ("mem_gb=900", "Memory specification can not be satisfied. Change hydra.launcher.mem_gb.\n"),
    ):
        done = fashion_vgg(*words, f"hydra.launcher.{setting}", root=tmp_path, env=slurm.env, fork=False)
        assert done.returncode == 2, done
        assert done.stderr.startswith(f"SLURM refused the jobs: {reason}"), done.stderr
        assert done.stderr.count("\n") == 1


def test_a_sweep_is_not_finished_while_another_command_trains_one_of_its_jobs(
    fashion_vgg: Command, slurm: Slurm, small: list[str], tmp_path: Path
) -> None:
    sweep = Sweep(fashion_vgg, slurm, [*small, "trainer.max_epochs=30", "seed=0,1"], tmp_path)
    wait_until(lambda: has_ended(sweep.folder / "seed=0", 1) and has_ended(sweep.folder / "seed=1", 1), 120)
    sweep.process.send_signal(signal.SIGINT)
    assert sweep.process.result().returncode == 130
    assert len(slurm.jobs()) == 2  # they go on
    again = fashion_vgg("train", "-m", f"sweep.resume={sweep.folder}", root=tmp_path, env=slurm.env, fork=False)
    assert again.returncode == 1, again
    assert "Another process is still training seed=" in again.stderr
    assert not list(sweep.folder.glob("*/outcome.json"))
    slurm.run("scancel", *slurm.jobs())
    wait_until(lambda: not slurm.jobs(), 120)


def test_a_job_of_two_nodes_with_two_tasks_each(
    fashion_vgg: Command, slurm: Slurm, small: list[str], tmp_path: Path
) -> None:
    own = [word for word in small if word != "trainer=cpu"]
    plain = tmp_path / "plain"
    words = ["train", *own, "trainer=ddp_sim", "trainer.devices=4", "seed=0", f"hydra.run.dir={plain}"]
    done = fashion_vgg(*words, root=tmp_path, fork=False)
    assert done.returncode == 0, done
    sweep = Sweep(fashion_vgg, slurm, [*own, *TWO_TASKS, "optimizer.lr=0.05,1e9"], tmp_path)
    wait_until(partial(has_ended, sweep.folder / "lr=0.05", 1), 120)
    job = sweep.job_of(0)
    slurm.run("scancel", "--signal=USR2", job)
    wait_until(partial(has_resumed, sweep.folder / "lr=0.05", 1, slurm), 120)
    done = sweep.process.result()
    assert done.returncode == 1, done
    assert statuses(sweep.folder) == {"lr=0.05": "finished", "lr=1000000000.0": "diverged"}
    trained = Run(sweep.folder / "lr=0.05")
    assert trained.summary["devices"] == 4
    one, other = (torch.load(run / "last.ckpt", weights_only=True)["state_dict"] for run in (plain, trained.folder))
    assert_same(one, other, "weights")


@pytest.mark.parametrize(
    ("srun", "words", "reason"),
    [
        (["--ntasks=2"], ["trainer=ddp_sim"], "SLURM has started 2 tasks for a training of 2: use srun --nodes=1 "),
        (["--ntasks=1"], ["trainer=ddp_sim"], "SLURM has started 1 task for a training of 2: use srun --nodes=1 "),
        (["--ntasks-per-node=2"], [], "SLURM has started 2 tasks for a training of 1: use srun --nodes=1 "),
    ],
)
def test_another_number_of_tasks_is_refused_in_a_line(
    slurm: Slurm,
    small: list[str],
    tmp_path: Path,
    srun: Sequence[str],
    words: Sequence[str],
    reason: str,
) -> None:
    done = on_slurm(slurm, ["srun", *srun], ["train", *small, *words], tmp_path)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("srun: ")]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith(reason)


def test_the_recipe_for_a_training_that_is_requeued(
    slurm: Slurm, fashion_vgg: Command, small: list[str], tmp_path: Path
) -> None:
    """The script of conf/README.md, with the shortest time limit that SLURM has: a minute."""
    words = [*small, "trainer.limit_train_batches=600"]
    whole = tmp_path / "whole"
    assert fashion_vgg("train", *words, f"hydra.run.dir={whole}", root=tmp_path).returncode == 0
    [script] = re.findall(r"```bash\n(#!/bin/bash\n.*?)```", (ROOT / "conf/README.md").read_text(), re.DOTALL)
    recipe = ["--time=4:00:00", "--signal=USR1@120", "fashion-vgg train experiment=d2l "]
    own = ["--time=1", "--signal=USR1@45", shlex.join([sys.executable, "-m", "fashion_vgg", "train", *words, ""])]
    for old, new in zip(recipe, own, strict=True):
        assert old in script
        script = script.replace(old, new)
    (tmp_path / "train.sh").write_text(script)
    export = f"--export=ALL,FASHION_VGG_ROOT={tmp_path}"
    slurm.run("sbatch", f"--chdir={tmp_path}", export, str(tmp_path / "train.sh"))
    while slurm.jobs():
        slurm.hurry()
        time.sleep(0.5)
    [run] = tmp_path.glob("outputs/train/*/*")
    assert "Resuming from" in (run / "train.log").read_text()
    assert_equal(whole, run)


def on_slurm(slurm: Slurm, program: Sequence[str], words: Sequence[str], root: Path) -> CompletedProcess[str]:
    """Run `fashion-vgg` by one of SLURM's programs."""
    line = [*program, sys.executable, "-m", "fashion_vgg", *words]
    env = {**os.environ, **slurm.env, "FASHION_VGG_ROOT": str(root)}
    return subprocess.run(line, env=env, cwd=root, capture_output=True, text=True, timeout=240, check=False)
