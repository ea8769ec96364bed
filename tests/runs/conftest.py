"""A sweep with known metrics."""

from pathlib import Path
from statistics import mean, stdev

import pytest

from fashion_vgg.checkpoints import run_folder
from tests.helpers import finish, leave

ACCURACIES = {"0.01": [0.81, 0.83, 0.845], "0.1": [0.91, 0.93, 0.92], "1": [0.5]}
BEST_FIRST = ["0.1", "0.01", "1", "5"]
"""Learning rates in the order of their mean accuracy, the one without a finished run last."""


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Four learning rates: one with a run that diverged, one without a finished run."""
    folder = tmp_path / "outputs" / "sweeps" / "2026-01-02" / "10-00-00-abcdef01"
    for lr, accuracies in ACCURACIES.items():
        for seed, accuracy in enumerate(accuracies):
            overrides = ["experiment=speedrun", f"optimizer.lr={lr}", f"seed={seed}"]
            finish(folder / f"lr={lr},seed={seed}", overrides, accuracy, seconds=20.0 + seed)
    diverged = leave(folder / "lr=1,seed=1", ["experiment=speedrun", "optimizer.lr=1", "seed=1"])
    run_folder.write_outcome(diverged, "diverged", "The loss is nan, at step 3.")
    leave(folder / "lr=5,seed=0", ["experiment=speedrun", "optimizer.lr=5", "seed=0"])
    return folder


def mean_and_deviation(values: list[float]) -> str:
    return f"{mean(values):.4f} ± {stdev(values):.4f}"


def markdown_rows(text: str) -> list[dict[str, str]]:
    header, _, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")
    ]
    return [dict(zip(header, row, strict=True)) for row in rows]
