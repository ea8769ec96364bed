"""Faults done to real trainings through the command line; ``FAULTS=long``, which scripts/faults.sh sets, does more."""

import os
import random
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from filelock import FileLock

from tests.conftest import WITHOUT_PLOTS
from tests.processes.command import Command
from tests.processes.process import Process

LONG = os.environ.get("FAULTS") == "long"

in_the_long_set = pytest.mark.skipif(not LONG, reason="runs with FAULTS=long")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.long)


def times(short: int, long: int) -> int:
    """How often a test repeats a fault."""
    return long if LONG else short


def children(pid: int) -> list[int]:
    """The processes that a process started."""
    listed = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True)
    return [int(line) for line in listed.stdout.split()]


@dataclass
class Training:
    """A `fashion-vgg train` in a folder, which can be interrupted and resumed."""

    command: Command
    folder: Path
    overrides: Sequence[str]
    env: dict[str, str] = field(default_factory=dict)

    def start(self, *more: str, fork: bool = True) -> Process:
        """Start it in its folder, with more overrides."""
        words = ["train", *self.overrides, f"hydra.run.dir={self.folder}", *more]
        return self.command.start(*words, root=self.folder.parent, env=self.env, fork=fork)

    def run(self, *more: str, fork: bool = True) -> CompletedProcess[str]:
        """Train to the end."""
        return self.start(*more, fork=fork).result()

    def resume(self, *more: str, fork: bool = True) -> CompletedProcess[str]:
        """Resume it and train to the end."""
        return self.command("train", f"resume={self.folder}", *more, root=self.folder.parent, env=self.env, fork=fork)

    def run_until(
        self, moment: Callable[[], bool], signum: int, *more: str, fork: bool = True
    ) -> CompletedProcess[str]:
        """Send a signal at a moment, unless the training ends before."""
        process = self.start(*more, fork=fork)
        process.wait_until_or_end(moment)
        process.send_signal(signum)
        return process.result()

    def seconds_in(self, seconds: float) -> Callable[[], bool]:
        """The moment that is so long after the first line of the log."""
        log = self.folder / "train.log"
        began: list[float] = []

        def reached() -> bool:
            if not began and log.exists() and "Results go to" in log.read_text():
                began.append(time.monotonic())
            return bool(began) and time.monotonic() - began[0] >= seconds

        return reached


MakeTraining = Callable[..., Training]


@pytest.fixture(scope="session")
def training(fashion_vgg: Command) -> MakeTraining:
    """Makes a `Training` of a folder and its overrides."""

    def make(folder: Path, overrides: Sequence[str], **env: str) -> Training:
        return Training(fashion_vgg, folder, overrides, env)

    return make


@pytest.fixture
def moments(request: pytest.FixtureRequest) -> random.Random:
    """Random numbers that depend on the test's name only."""
    return random.Random(request.node.nodeid)  # noqa: S311


@pytest.fixture(scope="session")
def small(small_with_plots: list[str]) -> list[str]:
    """The overrides of `small_with_plots`, for a training that takes a second less."""
    return [*small_with_plots, *WITHOUT_PLOTS]


@pytest.fixture(scope="session")
def small_with_plots(data_root: Path) -> list[str]:
    """Overrides for 48 steps in three epochs on real images, with dropout, augmentation and a schedule."""
    return [
        *(f"data.root={data_root}", "model=vgg5_light", "model.ratio=4", "model.dropout=0.3", "image_size=28"),
        *("trainer=cpu", "trainer.max_epochs=3", "trainer.limit_train_batches=16", "batch_size=64"),
        *("data.val_size=1000", "data.flip=0.5", "data.shift=2", "data.erase=6"),
        *("scheduler=triangular", "optimizer.lr=0.1", "optimizer.momentum=0.9", "checkpoint.every_minutes=0"),
    ]


@pytest.fixture(scope="session")
def undisturbed(
    training: MakeTraining, small_with_plots: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Training:
    """A training without a fault, and with plots; the same for all workers of pytest-xdist."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    whole = training(folder / "undisturbed" / "run", small_with_plots)
    with FileLock(folder / "undisturbed.lock"):
        if not whole.folder.exists():
            done = whole.run()
            assert (done.returncode, done.stderr) == (0, "")
    return whole
