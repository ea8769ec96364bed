import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.processes.command import Command
from tests.processes.process import ForkServer

Survived = Callable[[str, int, int], None]

WITHOUT_PLOTS = ["~callbacks.result_plot", "~callbacks.prediction_plots"]
"""Drawing takes longer than the training of a few steps that most tests need."""

# A test gets the same examples in every run, and a busy machine may take its time for each.
settings.register_profile("tests", deadline=None, derandomize=True, database=None)
settings.load_profile("tests")

__all__ = ["WITHOUT_PLOTS", "Command", "Survived"]


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of the data set, which scripts/test.sh fetches."""
    from fashion_vgg.data import fashion_mnist  # imports torch, which pytest-xdist's main process does without

    root = Path(os.environ.get("FASHION_VGG_DATA", "~/.cache/fashion-vgg")).expanduser()
    if fashion_mnist.find(root) is None:
        reason = "Fashion-MNIST is missing: run `fashion-vgg fetch`"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return root


@pytest.fixture(scope="session")
def fashion_vgg(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """Runs `fashion-vgg` as a user does."""
    server = ForkServer()
    yield Command(tmp_path_factory.mktemp("commands"), server)
    server.close()


@pytest.fixture(autouse=True)
def _kill_processes(request: pytest.FixtureRequest) -> Iterator[None]:
    """No process survives the test that started it."""
    yield
    if "fashion_vgg" in request.fixturenames:
        request.getfixturevalue("fashion_vgg").kill_all()


@pytest.fixture(scope="session")
def tiny(tiny_with_plots: list[str]) -> list[str]:
    """Overrides for a training of 16 steps on real images, which takes a second."""
    return [*tiny_with_plots, *WITHOUT_PLOTS]


@pytest.fixture(scope="session")
def tiny_with_plots(data_root: Path) -> list[str]:
    """The overrides of `tiny`, for a run with all its files."""
    return [
        f"data.root={data_root}",
        "model=vgg5_light",
        "model.ratio=4",
        "image_size=28",
        "trainer=cpu",
        "trainer.max_epochs=2",
        "trainer.limit_train_batches=8",
        "trainer.limit_val_batches=4",
    ]


@pytest.fixture
def survived() -> Survived:
    """Checks that all faults were survived and writes a row of scripts/faults.sh's table: promise, faults, survived."""

    def check(promise: str, faults: int, number: int) -> None:
        if table := os.environ.get("FAULTS_TABLE"):
            with Path(table).open("a") as file:
                file.write(json.dumps([promise, faults, number]) + "\n")
        assert number == faults

    return check
