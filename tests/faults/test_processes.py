"""Trainings of two processes, of which one is stopped, dies or hangs."""

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest
import torch

from tests.conftest import Survived
from tests.faults.conftest import MakeTraining, Training, children, in_the_long_set
from tests.helpers import assert_same, curves, wait_until
from tests.processes.command import Command
from tests.processes.process import Process

TWO = ["trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu"]


def in_an_epoch(process: Process) -> int:
    """Wait until two processes train, and return the second one's id."""
    process.wait_until(lambda: bool(re.search(r"epoch +\d", process.stdout)))
    [second] = children(process.pid)
    return second


@in_the_long_set
def test_a_process_that_is_stopped_dies_or_hangs_ends_the_training(
    small: list[str], training: MakeTraining, tmp_path: Path, survived: Survived
) -> None:
    run = training(tmp_path / "run", [*small, *TWO, "trainer.max_epochs=1000"])
    resume = f"Resume with: fashion-vgg train resume={run.folder}\n"

    process = run.start()
    os.kill(in_an_epoch(process), signal.SIGTERM)
    done = process.result()
    assert done.returncode == 143, done
    assert re.fullmatch(rf"Stopped after step [\d,]+\. {resume}", done.stderr)

    process = run.command.start("train", f"resume={run.folder}", root=run.folder.parent)
    os.kill(in_an_epoch(process), signal.SIGKILL)
    done = process.result()
    assert done.returncode == 1, done
    last = f"The last checkpoint is {run.folder}/last.ckpt. "
    assert done.stderr == f"Process 1 of the training was killed by SIGKILL.\n{last}{resume}"

    process = run.command.start("train", f"resume={run.folder}", root=run.folder.parent)
    second = in_an_epoch(process)
    os.kill(second, signal.SIGSTOP)
    for _ in range(2):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
    done = process.result(timeout=10)
    assert (done.returncode, done.stderr) == (143, f"Stopped by SIGTERM. {resume}")
    wait_until(lambda: not Path("/proc", str(second)).exists(), 5)
    survived("one of two processes that is stopped, dies or hangs ends the training with how to resume", 3, 3)


@in_the_long_set
@pytest.mark.parametrize("stopped", ["first", "second"])
def test_a_signal_before_two_processes_have_met_ends_both(
    small: list[str], training: MakeTraining, tmp_path: Path, survived: Survived, stopped: str
) -> None:
    run = training(tmp_path / "run", [*small, *TWO])
    process = run.start()
    process.wait_until(lambda: len(children(process.pid)) == 1)
    [second] = children(process.pid)
    os.kill(process.pid if stopped == "first" else second, signal.SIGTERM)
    done = process.result(timeout=60)
    resume = f"Resume with: fashion-vgg train resume={run.folder}\n"
    assert (done.returncode, done.stderr) == (143, f"Stopped by SIGTERM. {resume}")
    wait_until(lambda: not Path("/proc", str(second)).exists(), 5)
    survived("a signal before two processes have met ends both", 1, 1)


@in_the_long_set
def test_a_process_that_hangs_ends_the_training_after_a_time(
    small: list[str], training: MakeTraining, tmp_path: Path, survived: Survived
) -> None:
    run = training(tmp_path / "run", [*small, *TWO, "trainer.max_epochs=1000", "trainer.strategy.timeout_minutes=2"])
    process = run.start()
    second = in_an_epoch(process)
    os.kill(second, signal.SIGSTOP)
    done = process.result(timeout=200)
    assert done.returncode == 1, done
    how = rf"The last checkpoint is \S+\. Resume with: fashion-vgg train resume={run.folder}\n"
    assert re.fullmatch(rf"Another process of the training died or hangs: Timed out .*\.\n{how}", done.stderr), done
    wait_until(lambda: not Path("/proc", str(second)).exists(), 5)
    survived("one of two processes that hangs ends the training after trainer.strategy.timeout_minutes", 1, 1)


@in_the_long_set
@pytest.mark.parametrize("fault", [signal.SIGTERM, signal.SIGUSR1, signal.SIGKILL])
def test_under_torchrun_the_first_process_reports_how_to_resume(
    small: list[str], fashion_vgg: Command, tmp_path: Path, survived: Survived, fault: signal.Signals
) -> None:
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "fashion_vgg"]
    run = f"hydra.run.dir={tmp_path}/run"
    process = fashion_vgg.start(
        "train", *small, *TWO, "trainer.max_epochs=1000", run, program=torchrun, fork=False, root=tmp_path
    )
    process.wait_until(lambda: bool(re.search(r"epoch +\d", process.stdout)))
    ranks = {pid: dict(variables(pid)) for pid in children(process.pid)}
    [second] = [pid for pid, env in ranks.items() if env.get("RANK") == "1"]
    os.kill(second, fault)
    done = process.result(timeout=90)
    assert done.returncode == 1, done  # torchrun's
    [line] = [line for line in done.stderr.splitlines() if "Resume with" in line]
    assert line.endswith(f"Resume with: torchrun --nproc-per-node 2 -m fashion_vgg train resume={tmp_path}/run")
    if fault != signal.SIGKILL:
        assert line.startswith("Stopped after step"), done
        assert f"exitcode  : {128 + fault}" in done.stderr
    assert "[rank0]" not in done.stderr, done  # the prefix of a traceback
    survived("under torchrun, the first process reports how to resume", 1, 1)


def variables(pid: int) -> list[list[str]]:
    """The environment of a process."""
    content = Path("/proc", str(pid), "environ").read_text()
    return [line.split("=", 1) for line in content.split("\0") if "=" in line]


@in_the_long_set
@pytest.mark.parametrize(("number", "fault"), [(2, signal.SIGTERM), (2, signal.SIGKILL), (4, signal.SIGTERM)])
def test_several_processes_resume_exactly(
    small: list[str], training: MakeTraining, tmp_path: Path, survived: Survived, number: int, fault: signal.Signals
) -> None:
    # A sum of many losses shows a difference in rounding, and so does one of more than two gradients.
    overrides = [*small, *TWO, f"trainer.devices={number}", "trainer.limit_train_batches=100"]
    whole, stopped = (training(tmp_path / name / "run", overrides) for name in ("whole", "stopped"))
    assert whole.run().returncode == 0
    process = stopped.start()
    process.wait_until(lambda: bool(re.search(r"epoch +\d", process.stdout)))
    time.sleep(2)
    os.kill(children(process.pid)[-1], fault)
    assert process.result().returncode == (143 if fault == signal.SIGTERM else 1)
    done = stopped.resume()
    assert done.returncode == 0, done.stderr
    assert_equal(whole, stopped)
    survived("several processes of one training stop and resume exactly", 1, 1)


def assert_equal(one: Training, other: Training) -> None:
    """Weights, optimizer, metrics and curves are equal to the last bit."""
    for name in ("last.ckpt", "best.ckpt"):
        a, b = (torch.load(run.folder / name, weights_only=True) for run in (one, other))
        assert_same(a, b, name)  # the rows of metrics.csv are in it
    a, b = (json.loads((run.folder / "summary.json").read_text()) for run in (one, other))
    assert_same(a, b, "summary.json")
    assert_same(curves(one.folder), curves(other.folder), "events")
