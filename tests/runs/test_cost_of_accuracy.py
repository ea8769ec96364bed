"""`scripts/cost_of_accuracy.py`: the table and the picture of several recipes."""

import runpy
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev

import pytest
from PIL import Image

from tests.helpers import finish, leave
from tests.runs.conftest import markdown_rows, mean_and_deviation

SCRIPT = Path(__file__).parents[2] / "scripts" / "cost_of_accuracy.py"
ACCURACIES, SECONDS = [0.919, 0.921, 0.922], [4.5, 5.5, 6.0]
"""Of a recipe that takes less than ten seconds."""


@pytest.fixture
def sweeps(tmp_path: Path) -> list[Path]:
    """Three seeds of one recipe and an unfinished run, and one seed of another."""
    for seed, (accuracy, seconds) in enumerate(zip(ACCURACIES, SECONDS, strict=True)):
        overrides = ["experiment=speedrun", f"seed={seed}"]
        finish(tmp_path / "speedrun" / f"seed={seed}", overrides, accuracy, seconds)
    leave(tmp_path / "speedrun" / "seed=3", ["experiment=speedrun", "seed=3"])
    finish(tmp_path / "d2l" / "seed=0", ["experiment=d2l", "seed=0"], 0.9144, seconds=20520.0)
    return [tmp_path / "speedrun", tmp_path / "d2l"]


def test_the_table_has_a_row_for_each_sweep(sweeps: list[Path], tmp_path: Path) -> None:
    picture = tmp_path / "cost.png"
    command = [sys.executable, *map(str, (SCRIPT, picture, *sweeps))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [list(row.values()) for row in markdown_rows(done.stdout)]
    time = f"{mean(SECONDS):.1f} ± {stdev(SECONDS):.1f} s"
    assert rows == [["speedrun", mean_and_deviation(ACCURACIES), time, "3"], ["d2l", "0.9144", "20,520.0 s", "1"]]
    with Image.open(picture) as image:
        image.verify()


def test_the_picture_shows_each_sweep_with_its_deviation(sweeps: list[Path]) -> None:
    script = runpy.run_path(str(SCRIPT))
    (axes,) = script["plot"]([script["read"](sweep) for sweep in sweeps]).axes
    speedrun, d2l = axes.containers
    assert speedrun.lines[0].get_xydata().tolist() == [[mean(SECONDS), mean(ACCURACIES)]]
    (bar,) = speedrun.lines[2][0].get_segments()
    assert bar[1, 1] - bar[0, 1] == pytest.approx(2 * stdev(ACCURACIES))
    assert d2l.lines[0].get_xydata().tolist() == [[20520.0, 0.9144]]
    assert not d2l.has_yerr
    start, end = axes.get_xlim()
    assert start < mean(SECONDS) < 20520 < end
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert (labels[0], labels[-1]) == ("5 s", "8 h")
