"""Compares the runs of a folder: groups them by their settings, and sorts the groups by a metric."""

import csv
import io
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from fashion_vgg.config.names import short_names
from fashion_vgg.errors import UserError, printable
from fashion_vgg.runs.run import Run, find_runs
from fashion_vgg.runs.table import Table, csv_cell, duration

SEED_KEYS = ("seed", "data.seed")
"""Runs that differ only in these settings are repetitions."""
COSTS = ("wall_seconds", "images_per_sec")
"""The columns of the CSV file that describe a whole run, from ``summary.json``."""


@dataclass(frozen=True)
class Comparison:
    """The runs of a folder in groups. The runs of a group differ only in their random seeds.

    Attributes:
        folder: the folder that contains the runs.
        common: the settings that all runs share.
        keys: the keys of the other settings, except seeds.
        seed_keys: the keys of the seeds that differ.
        metric: the metric that the groups are sorted by.
        best_epoch: whether metrics are those of the best epoch on a validation split; otherwise of the last epoch.
        groups: best mean first; groups without a finished run last.
    """

    folder: Path
    common: dict[str, str]
    keys: list[str]
    seed_keys: list[str]
    metric: str
    best_epoch: bool
    groups: list[list[Run]]

    @property
    def runs(self) -> list[Run]:
        """All runs, in the order of the groups."""
        return [run for group in self.groups for run in group]

    def label(self, run: Run) -> str:
        """The settings that distinguish a run from the others, by their short names."""
        keys = short_names([*self.keys, *self.seed_keys])
        settings = {name: run.settings[key] for key, name in keys.items() if key in run.settings}
        return as_overrides(settings) or printable(run.folder.name)

    def notes(self) -> list[str]:
        """Sentences about the table: the common settings, and what the metrics mean."""
        epoch = "the epoch that is best on the validation split" if self.best_epoch else "the last epoch"
        if not self.best_epoch and any("val/acc" in run.metrics for run in self.runs):
            epoch += " or, in runs with a validation split, of the epoch that is best on it"
        repeated = any(len(group) > 1 for group in self.groups)
        statistics = ": mean ± sample standard deviation over the finished runs" if repeated else ""
        metrics = f"{' and '.join(self._shown_metrics())} of {epoch}{statistics}."
        return [f"Common settings: {as_overrides(self.common)}", metrics] if self.common else [metrics]

    def table(self) -> Table:
        """One row per group."""
        header = [*short_names(self.keys).values(), "runs", *self._shown_metrics(), "time", "images/s", "status"]
        return Table(header, [self._row(group) for group in self.groups])

    def to_csv(self) -> str:
        """One row per run, in full precision; a cell is empty if the run does not have the value.

        ``images_per_sec`` is the average over the run; ``folder`` is relative to the folder of the comparison. A text
        that a spreadsheet would take for a formula follows a ``'``.
        """
        logged = dict.fromkeys(name for run in self.runs for name in run.metrics)
        metrics = [name for name in logged if name not in ("epoch", "images_per_sec")]
        keys = [*self.keys, *self.seed_keys]
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(map(csv_cell, [*keys, "status", "epochs", *metrics, *COSTS, "error", "folder"]))
        for run in self.runs:
            settings, scores, costs = map(run.settings.get, keys), map(run.score, metrics), map(run.summary.get, COSTS)
            folder = run.folder.relative_to(self.folder).as_posix()
            row = [*settings, run.status, len(run.rows), *scores, *costs, run.outcome.get("error"), folder]
            writer.writerow(map(csv_cell, row))
        return file.getvalue()

    def _shown_metrics(self) -> list[str]:
        return ["val/acc", "test/acc"] if self.metric == "val/acc" else [self.metric]

    def _row(self, group: list[Run]) -> list[str]:
        summaries = [run.summary for run in group if run.summary]
        seconds = [summary["wall_seconds"] for summary in summaries]
        speeds = [speed for summary in summaries if (speed := summary.get("images_per_sec"))]
        statuses = Counter(run.status for run in group)
        return [
            *(group[0].settings.get(key, "") for key in self.keys),
            str(len(group)),
            *(mean_and_deviation(scores(group, name), _format(name)) for name in self._shown_metrics()),
            duration(mean(seconds)) if seconds else "",
            f"{mean(speeds):,.0f}" if speeds else "",
            group[0].status if len(statuses) == 1 else ", ".join(f"{n} {status}" for status, n in statuses.items()),
        ]


def compare(folder: Path, metric: str | None = None) -> Comparison:
    """Compare the runs in a folder and its subfolders.

    The metric is a column of ``metrics.csv``; by default ``val/acc`` if all finished runs have a validation split,
    otherwise ``test/acc``.

    Raises:
        UserError: the folder does not exist, it contains no run, or no run logged the metric.
    """
    runs = find_runs(folder)[::-1]
    if not runs:
        problem = "the folder contains no run" if folder.is_dir() else "no such folder"
        raise UserError(f"{folder}: {problem}. List all runs with: fashion-vgg runs")
    finished = [run for run in runs if run.status == "finished"] or runs
    best_epoch = all("val/acc" in run.metrics for run in finished)
    logged = dict.fromkeys(name for run in finished for name in run.metrics if name != "epoch")
    if metric and metric not in logged:
        raise UserError(f"--metric {metric}: no run logged it. Available: {', '.join(logged) or 'none'}.")
    metric = metric or ("val/acc" if best_epoch else "test/acc")

    common = common_settings(runs)
    differing = [key for key in dict.fromkeys(key for run in runs for key in run.settings) if key not in common]
    seed_keys = [key for key in differing if key in SEED_KEYS]
    keys = [key for key in differing if key not in SEED_KEYS]
    groups: dict[tuple[str | None, ...], list[Run]] = defaultdict(list)
    for run in runs:
        groups[tuple(map(run.settings.get, keys))].append(run)
    ranked = sorted(groups.values(), key=lambda group: _rank(group, metric))
    return Comparison(folder, common, keys, seed_keys, metric, best_epoch, ranked)


def common_settings(runs: Sequence[Run]) -> dict[str, str]:
    """The settings that all runs share."""
    first, *others = [run.settings for run in runs]
    return {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}


def as_overrides(settings: dict[str, str]) -> str:
    """Settings as they are typed on the command line."""
    return " ".join(f"{key}={value}" for key, value in settings.items())


def lower_is_better(metric: str) -> bool:
    """Whether the metric is a loss."""
    return metric.endswith("loss")


def scores(group: Sequence[Run], metric: str) -> list[float]:
    """The metric of each finished run that logged it."""
    return [score for run in group if (score := run.score(metric)) is not None]


def _rank(group: Sequence[Run], metric: str) -> float:
    values = scores(group, metric)
    return (mean(values) if lower_is_better(metric) else -mean(values)) if values else math.inf


def _format(metric: str) -> str:
    return ".4f" if metric.endswith(("acc", "loss")) else ".4g"


def mean_and_deviation(values: Sequence[float], digits: str = ".4f") -> str:
    """``mean ± sample standard deviation``, each in the format ``digits``; a single value as it is."""
    statistics = [mean(values), stdev(values)] if len(values) > 1 else values
    return " ± ".join(format(value, digits) for value in statistics)
