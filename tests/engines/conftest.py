"""Trainings on real SLURM, Ray and torchrun, which the tests start on this machine: ``scripts/test.sh --engines``."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.slurm import PROGRAMS, Slurm, running


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.engine)


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    """SLURM with two nodes."""
    missing = [name for name in PROGRAMS if not shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")]
    if missing:
        pytest.skip(f"SLURM is not installed: {', '.join(missing)}")
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # sockets have short names
    folder.chmod(0o755)
    with running(folder) as cluster:
        yield cluster
    shutil.rmtree(folder)
