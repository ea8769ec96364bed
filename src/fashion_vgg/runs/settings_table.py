"""The rows of a comparison: a setting each for people, a run each for programs."""

import csv
import io
from collections.abc import Sequence
from statistics import mean, stdev

from fashion_vgg.runs.comparison import Comparison, Setting, figure, kept, values, words
from fashion_vgg.runs.table import Table


def notes(comparison: Comparison) -> list[str]:
    """What is the same in all rows, and how to read the figures, in a sentence each."""
    same = words(comparison.common)
    figures = " and ".join(comparison.figures)
    repeated = any(len(setting.runs) > 1 for setting in comparison.settings)
    spread = ", mean ± sample standard deviation over the finished runs" if repeated else ""
    return [*([f"All with {same}."] if same else []), f"{figures}: of {comparison.epoch}{spread}."]


def table(comparison: Comparison) -> Table:
    """A row for each setting, the best first."""
    header = [*comparison.keys, "runs", *comparison.figures, "time", "images/s", "status"]
    return Table(header, [_row(comparison, setting) for setting in comparison.settings])


def to_csv(comparison: Comparison) -> str:
    """A row for each run in the order of the settings, in full precision, with every figure that its run kept.

    An empty cell is a figure that the run does not have. ``images_per_sec`` is that of the whole run, ``folder`` from
    the folder of the report on.
    """
    every = [run for setting in comparison.settings for run in setting.runs]
    own = ("epoch", "images_per_sec")
    names = list(dict.fromkeys(name for run in every for name in kept(run) if name not in own))
    keys = [*comparison.keys, *comparison.seeds]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*keys, "status", "epochs", *names, "wall_seconds", "images_per_sec", "error", "folder"])
    for run in every:
        costs = [run.summary.get(name) for name in ("wall_seconds", "images_per_sec")]
        said = [run.outcome.get("error"), run.folder.relative_to(comparison.folder).as_posix()]
        figures = [figure(run, name) for name in names]
        writer.writerow([*map(values(run).get, keys), run.status, len(run.rows), *figures, *costs, *said])
    return file.getvalue()


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    if seconds < 3599.5:
        return "{} min {:02} s".format(*divmod(round(seconds), 60))
    return "{} h {:02} min".format(*divmod(round(seconds / 60), 60))


def number(name: str, value: float) -> str:
    """A metric in the digits that matter: four decimals of an accuracy or a loss, four digits of any other."""
    return f"{value:.4f}" if name.endswith(("acc", "loss")) else f"{value:.4g}"


def _row(comparison: Comparison, setting: Setting) -> list[str]:
    seconds, speeds = setting.costs("wall_seconds"), setting.costs("images_per_sec")
    return [
        *(setting.values.get(key, "") for key in comparison.keys),
        str(len(setting.runs)),
        *(_spread(name, setting.figures(name)) for name in comparison.figures),
        duration(mean(seconds)) if seconds else "",
        f"{mean(speeds):,.0f}" if speeds else "",
        setting.status,
    ]


def _spread(name: str, figures: Sequence[float]) -> str:
    if not figures:
        return ""
    plus_minus = f" ± {number(name, stdev(figures))}" if len(figures) > 1 else ""
    return number(name, mean(figures)) + plus_minus
