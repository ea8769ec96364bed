"""Prints and plots test accuracy against training time: a point for each sweep over seeds.

python scripts/cost_of_accuracy.py picture.png <sweep's folder> ...
"""

import json
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from matplotlib.figure import Figure

from fashion_vgg.config.overrides import value_of

Point = tuple[str, list[float], list[float]]
"""The name of a recipe, and the accuracy and the minutes of each of its runs."""


def read(sweep: Path) -> Point:
    """The finished runs of a sweep."""
    runs: list[dict[str, Any]] = [json.loads(path.read_text()) for path in sorted(sweep.glob("*/summary.json"))]
    name = value_of(runs[0]["overrides"], "experiment") or sweep.name
    return name, [run["final"]["test/acc"] for run in runs], [run["wall_seconds"] / 60 for run in runs]


def spread(values: list[float]) -> float:
    """The standard deviation; 0 for a single value."""
    return stdev(values) if len(values) > 1 else 0.0


def table(points: list[Point]) -> str:
    """A Markdown row for each recipe."""
    rows = (
        f"| `{name}` | {mean(accuracies):.4f} ± {spread(accuracies):.4f} | {60 * mean(minutes):,.1f} ± "
        f"{60 * spread(minutes):.1f} s | {len(accuracies)} |"
        for name, accuracies, minutes in points
    )
    return "\n".join(["| experiment | test accuracy | time | seeds |", "| --- | --- | --- | ---: |", *rows])


def plot(points: list[Point]) -> Figure:
    """Accuracy over minutes, on a logarithmic axis, with the standard deviation over the seeds."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for name, accuracies, minutes in points:
        axes.errorbar(mean(minutes), mean(accuracies), yerr=spread(accuracies), fmt="o", capsize=3, color="tab:blue")
        axes.annotate(name, (mean(minutes), mean(accuracies)), xytext=(8, -3), textcoords="offset points")
    axes.set_xscale("log")
    axes.set(xlabel="training time in minutes, with the evaluations", ylabel="test accuracy")
    axes.margins(x=0.25, y=0.15)
    axes.grid(alpha=0.3, which="both")
    return figure


def main() -> None:
    """Print the table and write the picture."""
    picture, *sweeps = map(Path, sys.argv[1:])
    points = [read(sweep) for sweep in sweeps]
    print(table(points))
    plot(points).savefig(picture, dpi=150)


if __name__ == "__main__":
    main()
