"""A folder's runs by setting: what differs among them, and their figures over the seeds, the best first."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from fashion_vgg.config.overrides import key_of
from fashion_vgg.errors import UserError
from fashion_vgg.runs.run import Row, Run, find_runs

SEEDS = ("seed", "data.seed")
"""The keys whose values repeat a setting rather than make another."""


@dataclass(frozen=True)
class Setting:
    """The runs that differ in their seeds alone, and the overrides that tell them from the others' runs."""

    values: dict[str, str]
    runs: list[Run]

    def figures(self, name: str) -> list[float]:
        """A metric of each finished run that has it."""
        return [value for run in self.runs if (value := figure(run, name)) is not None]

    def costs(self, name: str) -> list[float]:
        """``wall_seconds`` or ``images_per_sec`` of each finished run."""
        return [run.summary[name] for run in self.runs if run.summary.get(name) is not None]

    @property
    def status(self) -> str:
        """The runs' status, or how many there are of each."""
        counts = Counter(run.status for run in self.runs)
        return next(iter(counts)) if len(counts) == 1 else ", ".join(f"{n} {status}" for status, n in counts.items())


@dataclass(frozen=True)
class Comparison:
    """What a report says, however it is shown.

    Args:
        folder: of the runs.
        common: the overrides that all runs share.
        keys: those that differ, but for the seeds.
        seeds: the keys of the seeds, where they differ.
        metric: the name of the figure that is compared.
        selected: whether a validation split selects the epoch that a figure is of; else it is the last.
        settings: the best first, those without a finished run last.
    """

    folder: Path
    common: dict[str, str]
    keys: list[str]
    seeds: list[str]
    metric: str
    selected: bool
    settings: list[Setting]

    @property
    def figures(self) -> list[str]:
        """The metrics to show: the one that is compared, and beside one of a validation split the test's."""
        return [self.metric, "test/acc"] if self.metric == "val/acc" else [self.metric]

    @property
    def epoch(self) -> str:
        """Of which epoch the figures are."""
        return "the epoch that is best on the validation split" if self.selected else "the last epoch"

    def name(self, run: Run) -> str:
        """What tells a run from the others, in words as on the command line."""
        own = values(run)
        return words({key: own[key] for key in [*self.keys, *self.seeds] if key in own}) or run.folder.name


def compare(folder: Path, metric: str | None = None) -> Comparison:
    """Compare the runs at or below a folder.

    Args:
        folder: of a sweep, of a single run, or of several sweeps.
        metric: the name of a column of ``metrics.csv``; by default ``val/acc`` where all finished runs have a
            validation split, else ``test/acc``.

    Raises:
        UserError: there is no such folder, no run in it, or no run with that metric.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder. fashion-vgg runs lists those there are.")
    found = find_runs(folder)[::-1]
    if not found:
        raise UserError(f"{folder}: there is no run in it. fashion-vgg runs lists those there are.")
    keys = list(dict.fromkeys(key for run in found for key in values(run)))
    common = shared(found)
    differing = [key for key in keys if key not in common and key not in SEEDS]
    judged = [run for run in found if run.status == "finished"] or found
    selected = all("val/acc" in kept(run) for run in judged)
    metric = _checked(metric, judged) if metric else "val/acc" if selected else "test/acc"
    return Comparison(
        folder=folder,
        common=common,
        keys=differing,
        seeds=[key for key in keys if key in SEEDS and key not in common],
        metric=metric,
        selected=selected,
        settings=_ranked(_merged(found, differing), metric),
    )


def values(run: Run) -> dict[str, str]:
    """A run's overrides by key, the last one of a key; ``removed`` for one that takes its key away."""
    return {key_of(word): word.partition("=")[2] if word[0] != "~" else "removed" for word in run.overrides}


def shared(found: Sequence[Run]) -> dict[str, str]:
    """The overrides that all of the runs have."""
    first, *others = map(values, found)
    return {key: value for key, value in first.items() if all(own.get(key) == value for own in others)}


def words(overrides: dict[str, str]) -> str:
    """Overrides as on the command line."""
    return " ".join(f"{key}={value}" for key, value in overrides.items())


def kept(run: Run) -> Row:
    """The figures of the epoch whose weights a run keeps: the best with a validation split, else the last."""
    if not run.summary:
        return run.rows[-1] if run.rows else {}
    best: Row = run.summary.get("best", {})
    final: Row = run.summary.get("final", {})
    return best if "val/acc" in best else final


def figure(run: Run, name: str) -> float | None:
    """A metric of a finished run; None of one that has not finished, and of a value that is no number."""
    return kept(run).get(name) if run.summary else None


def lower_is_better(metric: str) -> bool:
    """Whether the best run has the least of it."""
    return metric.endswith("loss")


def _checked(metric: str, judged: Iterable[Run]) -> str:
    names = list(dict.fromkeys(name for run in judged for name in kept(run) if name != "epoch"))
    if metric not in names:
        raise UserError(f"--metric {metric}: no run has it. There are: {', '.join(names) or 'none yet'}.")
    return metric


def _merged(found: Iterable[Run], keys: list[str]) -> list[Setting]:
    settings: dict[tuple[str | None, ...], Setting] = {}
    for run in found:
        own = values(run)
        setting = Setting({key: own[key] for key in keys if key in own}, [])
        settings.setdefault(tuple(own.get(key) for key in keys), setting).runs.append(run)
    return list(settings.values())


def _ranked(settings: list[Setting], metric: str) -> list[Setting]:
    scored = [setting for setting in settings if setting.figures(metric)]
    scored.sort(key=lambda setting: mean(setting.figures(metric)), reverse=not lower_is_better(metric))
    return [*scored, *(setting for setting in settings if not setting.figures(metric))]
