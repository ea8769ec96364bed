"""Faults done to real trainings, through the real command line; ``FAULTS=long`` does as many as scripts/faults.sh."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

TRAIN = ("-m", "fashion_vgg", "train")
LONG = os.environ.get("FAULTS") == "long"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.long)


in_the_long_set = pytest.mark.skipif(not LONG, reason="in the long set")


def times(short: int, long: int) -> int:
    """How often a fault is done."""
    return long if LONG else short


@pytest.fixture(scope="session")
def moments() -> random.Random:
    return random.Random(20261123)  # noqa: S311


@dataclass
class Training:
    """One `fashion-vgg train` that can be stopped in the middle."""

    folder: Path
    overrides: list[str]
    env: dict[str, str] = field(default_factory=dict)

    def start(self, *further: str, program: Sequence[str] = TRAIN) -> "subprocess.Popen[str]":
        root = self.folder.parent
        root.mkdir(parents=True, exist_ok=True)
        return subprocess.Popen(
            self.command(*further, program=program),
            env=os.environ | {"FASHION_VGG_ROOT": str(root), "PYTHONWARNINGS": "default"} | self.env,
            cwd=root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def command(self, *further: str, program: Sequence[str] = TRAIN) -> list[str]:
        return [sys.executable, *program, *self.overrides, *further]

    def run(self, *further: str) -> "subprocess.CompletedProcess[str]":
        """To its end."""
        process = self.start(*further)
        return ended(process)

    def run_until(self, moment: Callable[[], bool], signum: int, *further: str) -> "subprocess.CompletedProcess[str]":
        """Send the signal when the moment has come, unless the training has ended by then."""
        process = self.start(*further)
        while process.poll() is None and not moment():
            time.sleep(0.002)
        if process.poll() is None:
            os.kill(process.pid, signum)
        return ended(process)

    def first(self) -> list[str]:
        """Overrides of the first start, which makes the folder."""
        return [f"hydra.run.dir={self.folder}"]

    def begun(self) -> bool:
        log = self.folder / "train.log"
        return log.exists() and "Results go to" in log.read_text()

    def within(self, seconds: float) -> Callable[[], bool]:
        """A moment so long after the training began."""
        began: list[float] = []

        def come() -> bool:
            if not began and self.begun():
                began.append(time.monotonic())
            return bool(began) and time.monotonic() - began[0] >= seconds

        return come


def ended(process: "subprocess.Popen[str]") -> "subprocess.CompletedProcess[str]":
    """What a process said and how it ended."""
    out, err = process.communicate(timeout=240)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.fixture(scope="session")
def small(data_root: Path) -> list[str]:
    """48 steps in three epochs on real images, with all that has to be resumed: dropout, augmentation, a schedule."""
    return [
        *(f"data.root={data_root}", "model=vgg5_light", "model.ratio=4", "model.dropout=0.3", "image_size=28"),
        *("trainer=cpu", "trainer.max_epochs=3", "trainer.limit_train_batches=16", "batch_size=64"),
        *("data.val_size=1000", "data.flip=0.5", "data.shift=2", "data.erase=6"),
        *("scheduler=triangular", "optimizer.lr=0.1", "optimizer.momentum=0.9", "checkpoint.every_minutes=0"),
    ]


@pytest.fixture(scope="session")
def undisturbed(small: list[str], tmp_path_factory: pytest.TempPathFactory) -> Training:
    """The same, run to its end."""
    training = Training(tmp_path_factory.mktemp("undisturbed") / "run", small)
    done = training.run(*training.first())
    assert (done.returncode, done.stderr) == (0, "")
    return training
