import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fashion_vgg.data import fashion_mnist

Command = Callable[..., subprocess.CompletedProcess[str]]
Survived = Callable[[str, int, int], None]


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of the real data set, as scripts/test.sh fetches it."""
    root = Path(os.environ.get("FASHION_VGG_DATA", "~/.cache/fashion-vgg")).expanduser()
    if fashion_mnist.find(root) is None:
        reason = "Fashion-MNIST is missing: run `fashion-vgg fetch`"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return root


@pytest.fixture(scope="session")
def fashion_vgg(tmp_path_factory: pytest.TempPathFactory) -> Command:
    """Runs `fashion-vgg` with arguments as a user does; outputs/ is in the folder ``root``, a new one if not given."""

    def run(*args: str, root: Path | None = None, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        root = root or tmp_path_factory.mktemp("root")
        env = os.environ | {"FASHION_VGG_ROOT": str(root), "PYTHONWARNINGS": "default"}
        command = [sys.executable, "-m", "fashion_vgg", *args]
        return subprocess.run(command, env=env, cwd=root, capture_output=True, text=True, timeout=timeout)

    return run


@pytest.fixture(scope="session")
def tiny(data_root: Path) -> list[str]:
    """Overrides that make a training of a few seconds on real images."""
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
    """Takes a promise, how many faults were done and how many were survived; a row of scripts/faults.sh's table."""

    def take(promise: str, faults: int, number: int) -> None:
        if table_file := os.environ.get("FAULTS_TABLE"):
            with Path(table_file).open("a") as table:
                table.write(json.dumps([promise, faults, number]) + "\n")
        assert number == faults

    return take
