"""Sweeps whose jobs train in two processes each."""

import signal
from functools import partial
from pathlib import Path

import pytest
import torch

from fashion_vgg.runs.run import find_runs
from tests.conftest import Survived
from tests.faults.conftest import in_the_long_set
from tests.helpers import assert_same
from tests.processes.command import Command

DDP = ["trainer=ddp_sim"]


def has_begun(sweep: Path, number: int) -> bool:
    """Whether so many jobs of a sweep have ended an epoch."""
    return len(list(sweep.glob("*/metrics.csv"))) == number


@in_the_long_set
def test_a_killed_sweep_ends_with_the_weights_of_an_undisturbed_one(
    fashion_vgg: Command, small: list[str], tmp_path: Path, survived: Survived
) -> None:
    own = [word for word in small if not word.startswith("trainer=")]
    words = ["train", "-m", *own, *DDP, "seed=0,1,2"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert fashion_vgg(*words, f"hydra.sweep.dir={whole}", root=tmp_path, fork=False).returncode == 0
    for signum, status in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 128 + signal.SIGTERM)):
        again = [f"sweep.resume={killed}"] if killed.exists() else [*words[1:], f"hydra.sweep.dir={killed}"]
        process = fashion_vgg.start("train", *again, root=tmp_path, fork=False)
        finished = len(list(killed.glob("*/summary.json")))
        process.wait_until(partial(has_begun, killed, finished + 2))
        process.send_signal(signum)
        done = process.result()
        assert done.returncode == status, done
        if signum == signal.SIGTERM:
            assert f"Resume with: fashion-vgg train -m sweep.resume={killed}" in done.stderr
    done = fashion_vgg("train", f"sweep.resume={killed}", root=tmp_path, fork=False)
    assert done.returncode == 0, done.stderr
    runs = {run.folder.name: run for run in find_runs(killed)}
    assert [runs[name].status for name in ("seed=0", "seed=1", "seed=2")] == ["finished"] * 3
    for name, run in runs.items():
        one, other = (torch.load(sweep / name / "last.ckpt", weights_only=True) for sweep in (whole, killed))
        assert_same(one, other, f"{name}/last.ckpt")
        assert run.summary["devices"] == 2
    survived("a killed sweep of trainings in two processes resumes exactly", 2, 2)


@in_the_long_set
@pytest.mark.parametrize("launcher", ["joblib", "ray"])
def test_jobs_of_two_processes_on_other_launchers(
    fashion_vgg: Command, tiny: list[str], tmp_path: Path, launcher: str
) -> None:
    own = [word for word in tiny if not word.startswith("trainer=")]
    words = [*own, *DDP, "trainer.max_epochs=1", "optimizer.lr=0.1,1e9", f"hydra/launcher={launcher}"]
    done = fashion_vgg("train", "-m", *words, f"hydra.sweep.dir={tmp_path}/sweep", root=tmp_path, fork=False)
    assert done.returncode == 1, done
    statuses = {run.folder.name: run.status for run in find_runs(tmp_path / "sweep")}
    assert statuses == {"lr=0.1": "finished", "lr=1000000000.0": "diverged"}
    assert "1 job of the sweep failed:" in done.stderr


@in_the_long_set
def test_a_search_prunes_trainings_of_two_processes(fashion_vgg: Command, tiny: list[str], tmp_path: Path) -> None:
    own = [word for word in tiny if not word.startswith("trainer=")]
    search = ["hydra/sweeper=optuna", "data.val_size=1000", "trainer.max_epochs=3", "hydra.sweeper.n_trials=6"]
    space = ["optimizer.lr=choice(0.1,0.00001)", "hydra.sweeper.seed=1", f"hydra.sweep.dir={tmp_path}/sweep"]
    done = fashion_vgg("train", "-m", *own, *DDP, *search, *space, root=tmp_path, fork=False)
    assert done.returncode == 0, done
    statuses = {run.status for run in find_runs(tmp_path / "sweep")}
    assert statuses <= {"finished", "pruned"}
    assert "finished" in statuses
