"""Trainings that are killed, or asked to stop, at random moments, and go on as if nothing had been."""

import random
import re
import shutil
import signal
from pathlib import Path

import pytest

from tests.conftest import Survived
from tests.faults.conftest import Training, ended, in_the_long_set, times
from tests.helpers import assert_equal


def test_a_killed_training_goes_on_to_the_last_bit(
    undisturbed: Training, small: list[str], tmp_path: Path, moments: random.Random, survived: Survived
) -> None:
    number = times(2, 20)
    attempt = kills = 0
    while kills < number:
        # Of every four one saves seldom, one never before the end, and one on another file system.
        minutes = {1: 0.02, 3: 60}.get(kills % 4, 0)
        elsewhere = Path("/dev/shm", f"{tmp_path.name}-{attempt}") if kills % 4 == 2 else None  # noqa: S108
        further = [f"checkpoint.every_minutes={minutes}", *([f"checkpoint.folder={elsewhere}"] if elsewhere else [])]
        training = Training(tmp_path / str(attempt) / "run", [*small, *further])
        killed = training.run_until(training.within(moments.uniform(0, 2)), signal.SIGKILL, *training.first())
        attempt += 1
        if killed.returncode == -signal.SIGKILL:
            done = Training(training.folder, []).run(f"resume={training.folder}")
            assert done.returncode == 0, (killed, done)
            if elsewhere:
                shutil.copy(elsewhere / "last.ckpt", training.folder)
            assert_equal(undisturbed.folder, training.folder)
            assert not list(training.folder.glob(".*.part"))
            kills += 1
        else:
            assert killed.returncode == 0, killed  # the moment came when it had finished
        if elsewhere:
            shutil.rmtree(elsewhere)
    survived("exact resume after SIGKILL at random moments", number, number)


def test_resume_auto_goes_on_with_the_same_commands_run_and_begins_one_where_there_is_none(
    undisturbed: Training, small: list[str], tmp_path: Path
) -> None:
    training = Training(tmp_path / "run", [*small, "resume=auto"])
    log: list[Path] = []

    def two_epochs_in() -> bool:
        log[:] = tmp_path.glob("outputs/train/*/*/train.log")
        return bool(log) and "epoch  2/3" in log[0].read_text()

    killed = training.run_until(two_epochs_in, signal.SIGKILL)
    assert killed.returncode == -signal.SIGKILL
    done = training.run()
    assert done.returncode == 0, done.stderr
    assert f"Goes on from {log[0].parent}/last.ckpt" in done.stdout
    assert_equal(undisturbed.folder, log[0].parent)
    again = training.start()
    assert again.stdout is not None
    assert str(log[0].parent) not in again.stdout.readline()  # that one is finished
    again.kill()
    again.communicate()


@pytest.mark.parametrize(
    ("name", "status"), [("SIGTERM", 143), ("SIGINT", 130), pytest.param("SIGUSR1", 138, marks=in_the_long_set)]
)
def test_a_signal_costs_no_step_that_was_done(
    undisturbed: Training,
    small: list[str],
    tmp_path: Path,
    moments: random.Random,
    survived: Survived,
    name: str,
    status: int,
) -> None:
    number = times(1, 10 if name != "SIGUSR1" else 4)
    rarely = [*small, "checkpoint.every_minutes=60"]
    attempt = stops = 0
    while stops < number:
        training = Training(tmp_path / str(attempt) / "run", rarely)
        attempt += 1
        stopped = training.run_until(
            training.within(moments.uniform(0.2, 1.5)), signal.Signals[name], *training.first()
        )
        if (training.folder / "summary.json").exists():
            continue  # the moment came when it had finished
        stops += 1
        assert stopped.returncode == status, stopped
        if "Stopped after step" in stopped.stderr:
            assert re.fullmatch(
                rf"Stopped after step \d+\. Go on with: fashion-vgg train resume={training.folder}\n", stopped.stderr
            )
            assert (training.folder / "last.ckpt").exists()
        else:  # it had not begun its first step, or was about to write its summary
            assert re.fullmatch(rf"Stopped by {name}\.( .*)?\n", stopped.stderr)
        done = Training(training.folder, []).run(f"resume={training.folder}")
        assert done.returncode == 0, done.stderr
        assert_equal(undisturbed.folder, training.folder)
    survived(f"a polite stop by {name} at random moments", number, number)


def test_two_processes_cannot_go_on_with_one_run(undisturbed: Training, small: list[str], tmp_path: Path) -> None:
    training = Training(tmp_path / "run", small)
    first = training.start(*training.first(), "trainer.max_epochs=300")
    while not (training.folder / "last.ckpt").exists():
        assert first.poll() is None
    second = Training(training.folder, []).run(f"resume={training.folder}")
    assert (second.returncode, second.stderr) == (2, f"{training.folder}: another process is training there.\n")
    first.terminate()
    assert ended(first).returncode == 143


KILLED_AFTER_SAVING = """
import os, runpy, signal
from fashion_vgg.training.callbacks import PeriodicCheckpoint

save = PeriodicCheckpoint.on_train_epoch_end

def save_and_die(self, trainer, module):
    save(self, trainer, module)
    if trainer.current_epoch == int(os.environ["LAST_EPOCH"]):
        os.kill(os.getpid(), signal.SIGKILL)

PeriodicCheckpoint.on_train_epoch_end = save_and_die
runpy.run_module("fashion_vgg.commands.train", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("epoch", [pytest.param(0, marks=in_the_long_set), 2])
def test_an_epoch_whose_checkpoint_came_before_its_curves_is_in_them(
    undisturbed: Training, small: list[str], tmp_path: Path, epoch: int
) -> None:
    """Lightning gives the loggers an epoch's figures last."""
    training = Training(tmp_path / "run", small, env={"LAST_EPOCH": str(epoch)})
    process = training.start(*training.first(), program=["-c", KILLED_AFTER_SAVING])
    assert ended(process).returncode == -signal.SIGKILL
    assert Training(training.folder, []).run(f"resume={training.folder}").returncode == 0
    assert_equal(undisturbed.folder, training.folder)
