"""Runs that start together, diverge, run out of memory, or lose a DataLoader worker."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from fashion_vgg.checkpoints import checkpoint_io, resume
from fashion_vgg.errors import TrainingError
from fashion_vgg.training import DivergenceGuard
from tests.conftest import Survived
from tests.faults.conftest import MakeTraining, Training, children, in_the_long_set, times
from tests.helpers import assert_equal, small_classifier, small_datamodule, trainer_for
from tests.processes.command import Command


@in_the_long_set
def test_runs_that_start_together_have_complete_folders(
    fashion_vgg: Command, small_with_plots: list[str], tmp_path: Path, survived: Survived
) -> None:
    number = 8
    together = [
        fashion_vgg.start("train", *small_with_plots, "trainer.max_epochs=1", root=tmp_path) for _ in range(number)
    ]
    assert [process.result().returncode for process in together] == [0] * number
    runs = list(tmp_path.glob("outputs/train/*/*"))
    assert len(runs) == number
    for run in runs:
        names = {path.name for path in run.iterdir()}
        assert {"summary.json", "last.ckpt", "config.yaml", "metrics.csv", "result.png", "train.log"} <= names
        assert len(list(run.glob("events*"))) == 3  # of the training, the test after it, the best metrics
        checkpoint_io.load(run / "last.ckpt")
    survived("runs that start in the same second have a complete folder each", number, number)


@in_the_long_set
def test_a_command_and_its_stored_config_are_deterministic(
    undisturbed: Training, small: list[str], training: MakeTraining, tmp_path: Path, survived: Survived
) -> None:
    again = training(tmp_path / "again", small)
    stored = training(tmp_path / "stored", ["-cp", str(undisturbed.folder / ".hydra"), "-cn", "config"])
    for run in (again, stored):
        done = run.run()
        assert done.returncode == 0, done.stderr
        assert_equal(undisturbed.folder, run.folder)
    survived("a command, and a run's stored config, give the same bits again on a CPU", 2, 2)


def test_a_diverged_training_keeps_its_last_good_checkpoint(
    small: list[str], training: MakeTraining, tmp_path: Path, survived: Survived
) -> None:
    run = training(tmp_path / "run", small)
    done = run.run("optimizer.lr=1e30")
    assert done.returncode == 1, done
    first, second = done.stderr.splitlines()
    assert re.fullmatch(
        r"The loss is (nan|inf) at step \d+ \(learning rate \S+\): the training diverged; lower optimizer.lr\."
        r"|\S+ is not finite after step \d+.*",
        first,
    )
    checkpoints = list(run.folder.glob("*.ckpt"))
    assert checkpoints
    assert second.startswith(f"The last checkpoint is {run.folder}/last.ckpt. ")
    for path in checkpoints:
        checkpoint_io.load(path)  # refuses one with a NaN
    assert not (run.folder / "summary.json").exists()
    survived("a diverged training names the step, its learning rate and the last good checkpoint", 1, 1)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("wrong", [1, 5, 8])
def test_the_diverged_step_is_named(data_root: Path, tmp_path: Path, value: float, wrong: int) -> None:
    classifier: Any = small_classifier()
    step = classifier.training_step

    def diverging_step(batch: Any, batch_idx: int) -> Any:
        loss = step(batch, batch_idx)
        return loss * value if classifier.trainer.fit_loop.total_batch_idx + 1 == wrong else loss

    classifier.training_step = diverging_step
    trainer, _ = trainer_for(tmp_path, DivergenceGuard(), max_epochs=2, limit_train_batches=5, limit_val_batches=0)
    with pytest.raises(TrainingError, match=rf"The loss is (nan|inf) at step {wrong} \(learning rate 0\.05\)"):
        trainer.fit(classifier, small_datamodule(data_root))


@in_the_long_set
def test_a_training_that_does_not_learn_is_reported(
    small: list[str], training: MakeTraining, tmp_path: Path, survived: Survived
) -> None:
    run = training(tmp_path / "run", [*small, "optimizer.lr=1e-12", "model.batch_norm=false"])
    more = ["batch_size=8", "trainer.limit_train_batches=100", "trainer.max_epochs=1", "checkpoint.every_minutes=1"]
    done = run.run(*more)
    assert done.returncode == 0, done.stderr
    assert re.search(r"train/loss 2\.\d+ after epoch 1 is no better than guessing \(2\.303\)", done.stdout)
    survived("a loss no better than guessing is reported after an epoch", 1, 1)


@in_the_long_set
def test_a_batch_too_large_for_memory_is_reported_with_one_that_fits(
    small: list[str], tmp_path: Path, survived: Survived
) -> None:
    def train(*more: str) -> "subprocess.CompletedProcess[str]":
        words = [*small, "model.ratio=1", f"hydra.run.dir={tmp_path}/run", *more]
        line = ["prlimit", "--data=4000000000", sys.executable, "-m", "fashion_vgg", "train", *words]
        env = os.environ | {"FASHION_VGG_ROOT": str(tmp_path)}
        return subprocess.run(line, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=240)

    done = train("batch_size=40000")
    assert done.returncode == 2, done
    reported = re.match(
        r"batch_size=40000 at image_size=28 does not fit into the memory of cpu: use batch_size=(\d+),", done.stderr
    )
    assert reported, done.stderr
    assert len(done.stderr.splitlines()) == 1
    fits = [f"batch_size={reported[1]}", "trainer.limit_train_batches=1", "trainer.max_epochs=1"]
    again = train(*fits, "trainer.limit_val_batches=0", "checkpoint.every_minutes=60")
    assert again.returncode == 0, again.stderr
    survived("a batch too large for the memory is reported with a size that fits", 1, 1)


@in_the_long_set
@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
def test_a_dataloader_worker_that_dies_or_hangs_is_reported(
    undisturbed: Training,
    small: list[str],
    training: MakeTraining,
    tmp_path: Path,
    survived: Survived,
    fault: signal.Signals,
) -> None:
    run = training(tmp_path / "run", [*small, "data.num_workers=1", "data.worker_timeout=2"])
    process = run.start()
    process.wait_until((run.folder / "last.ckpt").exists)
    for worker in children(process.pid):
        os.kill(worker, fault)
    done = process.result(timeout=60)
    assert done.returncode == 1, done
    cause = "(signal: Killed|exited unexpectedly)" if fault == signal.SIGKILL else "timed out after 2 seconds"
    assert re.search(rf"^DataLoader .*{cause}.* \(data.num_workers=1\)\.", done.stderr), done
    assert f"Resume with: fashion-vgg train resume={run.folder}" in done.stderr
    done = run.resume()
    assert done.returncode == 0, done.stderr
    assert_equal(undisturbed.folder, run.folder)
    survived(f"exact resume after a DataLoader worker {'died' if fault == signal.SIGKILL else 'hung'}", 1, 1)


@in_the_long_set
@pytest.mark.parametrize(
    ("signum", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 138), (signal.SIGUSR2, 140)],
)
def test_a_signal_to_the_whole_process_group_loses_no_step(
    undisturbed: Training,
    small: list[str],
    training: MakeTraining,
    tmp_path: Path,
    survived: Survived,
    signum: signal.Signals,
    status: int,
) -> None:
    run = training(tmp_path / "run", [*small, "data.num_workers=1"])
    process = run.start()
    process.wait_until((run.folder / "last.ckpt").exists)
    os.killpg(process.pid, signum)
    assert process.result().returncode == status
    assert run.resume().returncode == 0
    assert_equal(undisturbed.folder, run.folder)
    survived("exact resume after a signal that DataLoader workers receive, too", 1, 1)


@in_the_long_set
def test_a_kill_loses_at_most_every_minutes(
    small: list[str], training: MakeTraining, tmp_path: Path, moments: random.Random, survived: Survived
) -> None:
    number, seconds = times(1, 5), 3
    for attempt in range(number):
        run = training(tmp_path / str(attempt) / "run", [*small, f"checkpoint.every_minutes={seconds / 60}"])
        run.run_until(run.seconds_in(seconds + 1 + moments.uniform(0, 4)), signal.SIGKILL, "trainer.max_epochs=1000")
        lost = time.time() - (run.folder / "last.ckpt").stat().st_mtime
        assert lost < seconds + 2  # the current step, and the time until this test sees the end
    survived("a kill loses at most checkpoint.every_minutes", number, number)


def test_the_resume_command_can_be_pasted_into_a_shell(tmp_path: Path) -> None:
    folder = tmp_path / "it's a=b, c"
    line = resume.resume_command(folder).replace("fashion-vgg train", "echo", 1)
    assert subprocess.check_output(["bash", "-c", line], text=True) == f"resume={folder}\n"
