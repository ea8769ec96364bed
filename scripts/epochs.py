"""Prints loss and accuracy by epoch as a Markdown table: of one run, or mean ± standard deviation of several.

python scripts/epochs.py <run's folder> ...
"""

import sys
from pathlib import Path

from fashion_vgg.checkpoints.records import read_metrics
from fashion_vgg.runs.comparison import mean_and_deviation
from fashion_vgg.runs.table import Table

METRICS = ("train/loss", "train/acc", "test/loss", "test/acc")


def table(folders: list[Path]) -> str:
    """A row per epoch of the runs, which have the same number of epochs."""
    epochs = zip(*map(read_metrics, folders), strict=True)
    rows = [
        [str(int(runs[0]["epoch"])), *(mean_and_deviation([run[name] for run in runs]) for name in METRICS)]
        for runs in epochs
    ]
    return Table(["epoch", *METRICS], rows).markdown()


if __name__ == "__main__":
    print(table([Path(name) for name in sys.argv[1:]]))
