"""Runs that start together, diverge, need more memory than there is, or lose a loader process."""

import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from fashion_vgg.checkpoints import checkpoint_io, resume
from fashion_vgg.errors import TrainingError
from fashion_vgg.training.callbacks import DivergenceGuard
from tests.conftest import Survived
from tests.faults.conftest import Training, ended, in_the_long_set, times
from tests.helpers import assert_equal, assert_same, curves, small_classifier, small_datamodule, trainer_for


def test_runs_that_start_in_the_same_second_are_each_whole(
    small: list[str], tmp_path: Path, survived: Survived
) -> None:
    number = times(2, 8)
    alone = {"OMP_NUM_THREADS": "1"}
    together = [Training(tmp_path / "run", small, alone).start("trainer.max_epochs=1") for _ in range(number)]
    assert [ended(process).returncode for process in together] == [0] * number
    runs = list(tmp_path.glob("outputs/train/*/*"))
    assert len(runs) == number
    for run in runs:
        names = {path.name for path in run.iterdir()}
        assert {"summary.json", "last.ckpt", "config.yaml", "metrics.csv", "result.png", "train.log"} <= names
        assert len(list(run.glob("events*"))) == 3  # of the training, of the test after it, of the best figures
        checkpoint_io.load(run / "last.ckpt")
    survived("runs started in the same second, each in a whole folder", number, number)


def test_the_same_command_gives_the_same_bits(
    undisturbed: Training, small: list[str], tmp_path: Path, survived: Survived
) -> None:
    again = Training(tmp_path / "again", small)
    assert again.run(*again.first()).returncode == 0
    assert_equal(undisturbed.folder, again.folder)
    stored = Training(tmp_path / "stored", ["-cp", str(undisturbed.folder / ".hydra"), "-cn", "config"])
    done = stored.run(*stored.first())
    assert done.returncode == 0, done.stderr
    assert_equal(undisturbed.folder, stored.folder)
    survived("the same command, and a run's stored config, give the same bits on a CPU", 2, 2)


def test_a_diverged_training_says_where_and_keeps_what_was_good(
    small: list[str], tmp_path: Path, survived: Survived
) -> None:
    training = Training(tmp_path / "run", small)
    done = training.run(*training.first(), "optimizer.lr=1e30")
    assert done.returncode == 1, done
    first, second = done.stderr.splitlines()
    assert re.fullmatch(
        r"The loss is (nan|inf) at step \d+ \(learning rate \S+\): the training diverged; lower optimizer.lr\."
        r"|\S+ is not finite after step \d+.*",
        first,
    )
    checkpoints = list(training.folder.glob("*.ckpt"))
    assert checkpoints
    assert second.startswith(f"The last checkpoint is {training.folder}/last.ckpt. ")
    for path in checkpoints:
        checkpoint_io.load(path)  # which takes none that holds a NaN
    assert not (training.folder / "summary.json").exists()
    survived("a diverged training ends with the step, its learning rate and the last good checkpoint", 1, 1)


@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("wrong", [1, 5, 8])
def test_the_step_that_is_named_is_the_one(data_root: Path, tmp_path: Path, value: float, wrong: int) -> None:
    classifier: Any = small_classifier()
    step = classifier.training_step

    def spoilt(batch: Any, batch_idx: int) -> Any:
        loss = step(batch, batch_idx)
        return loss * value if classifier.trainer.fit_loop.total_batch_idx + 1 == wrong else loss

    classifier.training_step = spoilt
    trainer, _ = trainer_for(tmp_path, DivergenceGuard(), max_epochs=2, limit_train_batches=5, limit_val_batches=0)
    with pytest.raises(TrainingError, match=rf"The loss is (nan|inf) at step {wrong} \(learning rate 0\.05\)"):
        trainer.fit(classifier, small_datamodule(data_root))


def test_a_training_that_learns_nothing_is_told(small: list[str], tmp_path: Path, survived: Survived) -> None:
    training = Training(tmp_path / "run", small)
    further = ["optimizer.lr=1e-12", "batch_size=8", "trainer.limit_train_batches=100", "trainer.max_epochs=1"]
    done = training.run(*training.first(), *further, "checkpoint.every_minutes=1", "model.batch_norm=false")
    assert done.returncode == 0, done.stderr
    assert re.search(r"train/loss 2\.\d+ after epoch 1 is no better than guessing, 2\.303", done.stdout)
    survived("a loss of guessing after an epoch is told", 1, 1)


@in_the_long_set
def test_a_batch_that_is_too_large_is_told_with_one_that_fits(
    small: list[str], tmp_path: Path, survived: Survived
) -> None:
    training = Training(tmp_path / "run", [*small, "model.ratio=1"])
    limited = ["prlimit", "--data=4000000000", *training.command(*training.first(), "batch_size=40000")]
    env = os.environ | {"FASHION_VGG_ROOT": str(tmp_path)}
    done = subprocess.run(limited, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 2, done
    told = re.fullmatch(
        r"batch_size=40000 at image_size=28 does not fit into the memory of cpu: "
        r"batch_size=(\d+) fitted in a trial\.\n",
        done.stderr,
    )
    assert told, done.stderr
    fits = ["prlimit", "--data=4000000000", *training.command(f"batch_size={told[1]}", "trainer.limit_train_batches=1")]
    fits += ["trainer.max_epochs=1", "trainer.limit_val_batches=0", "checkpoint.every_minutes=60"]
    again = subprocess.run(fits, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert again.returncode == 0, again.stderr
    survived("a batch too large for the memory is told with one that fits", 1, 1)


def workers_of(process: "subprocess.Popen[str]") -> list[int]:
    listed = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True)
    return [int(line) for line in listed.stdout.split()]


@pytest.mark.parametrize("fault", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=in_the_long_set)])
def test_a_loader_process_that_dies_or_hangs_ends_the_training_with_its_cause(
    undisturbed: Training, small: list[str], tmp_path: Path, survived: Survived, fault: signal.Signals
) -> None:
    training = Training(tmp_path / "run", [*small, "data.num_workers=1", "data.worker_timeout=2"])
    process = training.start(*training.first())
    while not (training.folder / "last.ckpt").exists():
        assert process.poll() is None
        time.sleep(0.01)
    for worker in workers_of(process):
        os.kill(worker, fault)
    begin = time.monotonic()
    done = ended(process)
    assert time.monotonic() - begin < 30
    assert done.returncode == 1, done
    cause = "is killed by signal: Killed" if fault == signal.SIGKILL else "timed out after 2 seconds"
    assert re.search(rf"A loader process failed: DataLoader .*{cause}.* \(data.num_workers=1\)\.", done.stderr), done
    assert f"Go on with: fashion-vgg train resume={training.folder}" in done.stderr
    done = Training(training.folder, []).run(f"resume={training.folder}")
    assert done.returncode == 0, done.stderr
    assert_equal(undisturbed.folder, training.folder)
    survived(
        f"a loader process that {'is killed' if fault == signal.SIGKILL else 'hangs'} is told; resumes equal", 1, 1
    )


@in_the_long_set
@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 138)])
def test_a_signal_that_reaches_the_loader_processes_too_costs_nothing(
    undisturbed: Training, small: list[str], tmp_path: Path, signum: signal.Signals, status: int
) -> None:
    training = Training(tmp_path / "run", [*small, "data.num_workers=1"])
    process = training.start(*training.first())
    while not (training.folder / "last.ckpt").exists():
        assert process.poll() is None
    os.killpg(process.pid, signum)
    assert ended(process).returncode == status
    assert Training(training.folder, []).run(f"resume={training.folder}").returncode == 0
    assert_equal(undisturbed.folder, training.folder)


def test_a_kill_costs_no_more_than_every_minutes(
    small: list[str], tmp_path: Path, moments: random.Random, survived: Survived
) -> None:
    number, seconds = times(1, 5), 3
    for attempt in range(number):
        training = Training(tmp_path / str(attempt) / "run", [*small, f"checkpoint.every_minutes={seconds / 60}"])
        moment = training.within(seconds + 1 + moments.uniform(0, 4))
        training.run_until(moment, signal.SIGKILL, *training.first(), "trainer.max_epochs=1000")
        lost = time.time() - (training.folder / "last.ckpt").stat().st_mtime
        assert lost < seconds + 2  # the step under way, and what it took to notice
    survived("a kill costs at most checkpoint.every_minutes", number, number)


@in_the_long_set
def test_two_processes_stop_and_go_on_together(small: list[str], tmp_path: Path, survived: Survived) -> None:
    two = ["trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu", "checkpoint.every_minutes=60"]
    whole, stopped = (Training(tmp_path / name / "run", [*small, *two]) for name in ("whole", "stopped"))
    assert whole.run(*whole.first()).returncode == 0
    done = stopped.run_until(stopped.within(1.5), signal.SIGTERM, *stopped.first())
    assert done.returncode == 143, done
    done = Training(stopped.folder, []).run(f"resume={stopped.folder}")
    assert done.returncode == 0, done.stderr
    a, b = (torch.load(run.folder / "last.ckpt", weights_only=True) for run in (whole, stopped))
    assert_same(a, b, "last.ckpt")
    assert_same(curves(whole.folder), curves(stopped.folder), "events")
    survived("two processes stop and go on together", 1, 1)


def test_the_command_to_go_on_can_be_pasted(tmp_path: Path) -> None:
    folder = tmp_path / "it's a=b, c"
    line = resume.command(folder)
    shown = subprocess.run(["bash", "-c", line.replace("fashion-vgg train", "echo", 1)], capture_output=True, text=True)
    assert shown.stdout == f"resume={folder}\n"
