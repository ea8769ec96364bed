"""Prints and plots test accuracy against training time: a point for each sweep over seeds.

python scripts/cost_of_accuracy.py picture.png <sweep's folder> ...
"""

import sys
from pathlib import Path
from statistics import mean, stdev

from matplotlib.figure import Figure

from fashion_vgg.runs.comparison import mean_and_deviation
from fashion_vgg.runs.run import find_runs
from fashion_vgg.runs.table import Table

Point = tuple[str, list[float], list[float]]
"""The name of a recipe, and the accuracy and the seconds of each of its runs."""

TICKS = {seconds: f"{seconds} s" for seconds in (5, 10, 30)}
TICKS |= {60 * minutes: f"{minutes} min" for minutes in (1, 2, 5, 10, 30)}
TICKS |= {3600 * hours: f"{hours} h" for hours in (1, 2, 4, 8)}


def read(sweep: Path) -> Point:
    """The finished runs of a sweep."""
    runs = [run for run in find_runs(sweep) if run.status == "finished"]
    name = runs[0].settings.get("experiment", sweep.name)
    return name, [run.summary["final"]["test/acc"] for run in runs], [run.summary["wall_seconds"] for run in runs]


def table(points: list[Point]) -> str:
    """A Markdown row for each recipe."""
    rows = [
        [name, mean_and_deviation(accuracies), f"{mean_and_deviation(seconds, ',.1f')} s", str(len(seconds))]
        for name, accuracies, seconds in points
    ]
    return Table(["experiment", "test accuracy", "time", "seeds"], rows).markdown()


def plot(points: list[Point]) -> Figure:
    """Accuracy over time, on a logarithmic axis, with the standard deviation over several seeds."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    times = [mean(seconds) for _, _, seconds in points]
    for time, (name, accuracies, _) in zip(times, points, strict=True):
        accuracy, deviation = mean(accuracies), stdev(accuracies) if len(accuracies) > 1 else None
        axes.errorbar(time, accuracy, yerr=deviation, fmt="o", capsize=3, color="tab:blue")
        axes.annotate(name, (time, accuracy), xytext=(8, -3), textcoords="offset points")
    start, end = min(times) / 1.5, 2.5 * max(times)  # the names are on the right of the points
    axes.set_xscale("log")
    axes.set(xlabel="training time, with the evaluations", ylabel="test accuracy", xlim=(start, end))
    shown = [tick for tick in TICKS if start <= tick <= end]
    axes.set_xticks(shown, [TICKS[tick] for tick in shown])
    axes.minorticks_off()
    axes.margins(y=0.15)
    axes.grid(alpha=0.3)
    return figure


def main() -> None:
    """Print the table and write the picture."""
    picture, *sweeps = map(Path, sys.argv[1:])
    points = [read(sweep) for sweep in sweeps]
    print(table(points))
    plot(points).savefig(picture, dpi=150)


if __name__ == "__main__":
    main()
