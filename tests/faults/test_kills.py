"""Trainings that are killed, or stopped by a signal, at random moments: resumed, they end in the same bits."""

import os
import random
import re
import shutil
import signal
import tempfile
import time
from pathlib import Path

import pytest

from tests.conftest import Survived
from tests.faults.conftest import MakeTraining, Training, in_the_long_set, times
from tests.helpers import assert_equal
from tests.processes.command import Command


@in_the_long_set
def test_a_new_interpreter_resumes_a_killed_one(
    undisturbed: Training, small: list[str], training: MakeTraining, tmp_path: Path
) -> None:
    """As a user types it, without the fork server of the other tests."""
    stopped = training(tmp_path / "run", small)
    killed = stopped.run_until(stopped.seconds_in(0.5), signal.SIGKILL, fork=False)
    assert killed.returncode == -signal.SIGKILL
    done = stopped.resume(fork=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert_equal(undisturbed.folder, stopped.folder)


def test_a_killed_training_resumes_exactly(
    undisturbed: Training,
    small: list[str],
    training: MakeTraining,
    tmp_path: Path,
    moments: random.Random,
    survived: Survived,
) -> None:
    number = times(1, 20)
    attempt = kills = 0
    while kills < number:
        # Of four kills, one hits a training that saves seldom, one a training that has not saved yet, and one a
        # training whose checkpoints are on another file system.
        minutes = {1: 0.02, 3: 60}.get(kills % 4, 0)
        elsewhere = Path(tempfile.mkdtemp(dir="/dev/shm")) if kills % 4 == 2 else None
        more = [f"checkpoint.every_minutes={minutes}", *([f"checkpoint.folder={elsewhere}"] if elsewhere else [])]
        run = training(tmp_path / str(attempt) / "run", [*small, *more])
        killed = run.run_until(run.seconds_in(moments.uniform(0, 1)), signal.SIGKILL)
        attempt += 1
        if killed.returncode == -signal.SIGKILL:
            done = run.resume()
            assert done.returncode == 0, (killed, done)
            if elsewhere:
                shutil.copy(elsewhere / "last.ckpt", run.folder)
            assert_equal(undisturbed.folder, run.folder)
            assert not list(run.folder.glob(".*.part"))
            kills += 1
        else:
            assert killed.returncode == 0, killed  # it had finished before that moment
        if elsewhere:
            shutil.rmtree(elsewhere)
    survived("exact resume after SIGKILL at a random moment", number, number)


@in_the_long_set
def test_resume_auto_continues_an_unfinished_run_of_the_same_command(
    undisturbed: Training, fashion_vgg: Command, small: list[str], tmp_path: Path
) -> None:
    command = ["train", *small, "resume=auto"]
    killed = fashion_vgg.start(*command, root=tmp_path)
    killed.wait_until(lambda: "epoch  2/3" in killed.stdout)
    killed.kill()
    [run] = tmp_path.glob("outputs/train/*/*")
    done = fashion_vgg(*command, root=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"Resuming from {run}/last.ckpt" in done.stdout
    assert_equal(undisturbed.folder, run)
    again = fashion_vgg.start(*command, root=tmp_path)
    again.wait_until(lambda: "\n" in again.stdout)
    assert str(run) not in again.stdout  # it is finished, so this is a new one


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("SIGTERM", 143),
        pytest.param("SIGINT", 130, marks=in_the_long_set),
        pytest.param("SIGUSR1", 138, marks=in_the_long_set),
        pytest.param("SIGUSR2", 140, marks=in_the_long_set),
    ],
)
def test_a_signal_loses_no_step(
    undisturbed: Training,
    small: list[str],
    training: MakeTraining,
    tmp_path: Path,
    moments: random.Random,
    survived: Survived,
    name: str,
    status: int,
) -> None:
    number = times(1, 4 if name.startswith("SIGUSR") else 10)
    attempt = stops = 0
    while stops < number:
        run = training(tmp_path / str(attempt) / "run", [*small, "checkpoint.every_minutes=60"])
        attempt += 1
        stopped = run.run_until(run.seconds_in(moments.uniform(0.1, 0.6)), signal.Signals[name])
        if (run.folder / "summary.json").exists():
            continue  # it had finished before that moment
        stops += 1
        assert stopped.returncode == status, stopped
        if "Stopped after step" in stopped.stderr:
            assert re.fullmatch(
                rf"Stopped after step \d+\. Resume with: fashion-vgg train resume={run.folder}\n", stopped.stderr
            )
            assert (run.folder / "last.ckpt").exists()
        else:  # before its first step, or while it wrote its summary
            assert re.fullmatch(rf"Stopped by {name}\.( .*)?\n", stopped.stderr)
        done = run.resume()
        assert done.returncode == 0, done.stderr
        assert_equal(undisturbed.folder, run.folder)
    survived(f"exact resume after {name} at a random moment", number, number)


SWALLOWS = """
import pathlib
import time
import lightning as L

class Swallows(L.Callback):
    def __init__(self, then):
        self.then = then
        if then == "raise":
            self.swallow()

    def on_fit_end(self, trainer, pl_module):
        self.swallow()

    def swallow(self):
        while True:
            try:
                pathlib.Path("waits").touch()
                time.sleep(600)
            except BaseException:
                if self.then == "raise":
                    raise ValueError("another error") from None
                if self.then == "return":
                    return
"""


@in_the_long_set
@pytest.mark.parametrize(("then", "number"), [("return", 1), ("raise", 1), ("wait", 2)])
def test_a_signal_that_a_library_swallows_ends_the_command(
    small: list[str], training: MakeTraining, tmp_path: Path, survived: Survived, then: str, number: int
) -> None:
    """It continues, raises another error, or waits, which a second signal ends."""
    (tmp_path / "swallowing.py").write_text(SWALLOWS)
    callback = ["+callbacks.own._target_=swallowing.Swallows", f"+callbacks.own.then={then}", "trainer.max_epochs=1"]
    env = {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}", "FASHION_VGG_TRUST": "swallowing"}
    run = training(tmp_path / "run", [*small, *callback], **env)
    process = run.start()
    process.wait_until((tmp_path / "waits").exists)
    for _ in range(number):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
    done = process.result(timeout=15)
    how = f" Resume with: fashion-vgg train resume={run.folder}" if then == "wait" else ""
    assert (done.returncode, done.stderr) == (143, f"Stopped by SIGTERM.{how}\n"), done
    survived("a signal that a library swallows ends the command", 1, 1)


def test_only_one_process_trains_in_a_folder(small: list[str], training: MakeTraining, tmp_path: Path) -> None:
    run = training(tmp_path / "run", small)
    first = run.start("trainer.max_epochs=300")
    first.wait_until((run.folder / "last.ckpt").exists)
    second = run.resume()
    assert (second.returncode, second.stderr) == (2, f"{run.folder}: another process is training there.\n")
    first.send_signal(signal.SIGTERM)
    assert first.result().returncode == 143


KILLED_AFTER_SAVING = """
import os, runpy, signal
from fashion_vgg.checkpoints import PeriodicCheckpoint

save = PeriodicCheckpoint.on_train_epoch_end

def save_and_die(self, trainer, module):
    save(self, trainer, module)
    if trainer.current_epoch == int(os.environ["LAST_EPOCH"]):
        os.kill(os.getpid(), signal.SIGKILL)

PeriodicCheckpoint.on_train_epoch_end = save_and_die
runpy.run_module("fashion_vgg", run_name="__main__", alter_sys=True)
"""


@in_the_long_set
@pytest.mark.parametrize("epoch", [0, 2])
def test_an_epoch_whose_metrics_were_not_logged_is_logged_after_resuming(
    undisturbed: Training, fashion_vgg: Command, small: list[str], training: MakeTraining, tmp_path: Path, epoch: int
) -> None:
    """Lightning logs the metrics of an epoch after the callbacks saved its checkpoint."""
    run = training(tmp_path / "run", small)
    words = ["train", *small, f"hydra.run.dir={run.folder}"]
    process = fashion_vgg.start(*words, program=["-c", KILLED_AFTER_SAVING], env={"LAST_EPOCH": str(epoch)})
    assert process.result().returncode == -signal.SIGKILL
    assert run.resume().returncode == 0
    assert_equal(undisturbed.folder, run.folder)
