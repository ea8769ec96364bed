"""Reads the folder of a run: status, settings, metrics, summary. Imports neither torch nor Lightning."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fashion_vgg.checkpoints.run_folder import (
    CONFIG,
    OUTCOME,
    SUMMARY,
    is_locked,
    read_metrics,
    recorded_overrides,
    started,
)
from fashion_vgg.config.overrides import key_of

Metrics = dict[str, float]
STATUSES = ("finished", "running", "unfinished", "diverged", "pruned", "failed")


@dataclass(frozen=True)
class Run:
    """The folder of one training, whatever its status."""

    folder: Path

    @cached_property
    def status(self) -> str:
        """One of `STATUSES`; a run that was killed or stopped is ``unfinished``."""
        if (self.folder / SUMMARY).exists():
            return "finished"
        if is_locked(self.folder):
            return "running"
        return str(self.outcome.get("status", "unfinished"))

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The content of ``summary.json`` (see `summary.summarize`); empty unless the run is finished."""
        return _read_json(self.folder / SUMMARY)

    @cached_property
    def outcome(self) -> dict[str, Any]:
        """``status`` and ``error`` of a sweep's job that did not finish; otherwise empty."""
        return _read_json(self.folder / OUTCOME)

    @cached_property
    def overrides(self) -> list[str]:
        """The Hydra overrides that the run was started with."""
        return recorded_overrides(self.folder)

    @cached_property
    def settings(self) -> dict[str, str]:
        """The overrides by key. The last override of a key counts; the value of ``~key`` is ``removed``."""
        return {key_of(word): "removed" if word[0] == "~" else word.partition("=")[2] for word in self.overrides}

    @cached_property
    def rows(self) -> list[Metrics]:
        """The rows of ``metrics.csv``, one per epoch, without the empty cells; ``epoch`` starts at 1."""
        return read_metrics(self.folder)

    @cached_property
    def metrics(self) -> Metrics:
        """The metrics of the best epoch on the validation split; without a split, or unfinished, of the last epoch."""
        if not self.summary:
            return self.rows[-1] if self.rows else {}
        metrics: Metrics = self.summary["best" if "val/acc" in self.summary["best"] else "final"]
        return metrics

    def score(self, metric: str) -> float | None:
        """The value of a metric; None if the run is not finished, or if the value is missing, NaN or infinite."""
        return self.metrics.get(metric) if self.summary else None


def find_runs(root: Path) -> list[Run]:
    """The runs in ``root`` and its subfolders, newest first by the date in their path."""
    folders = {path.parent for name in (CONFIG, OUTCOME) for path in root.rglob(name) if path.parent.name != ".hydra"}

    def age(folder: Path) -> tuple[tuple[str, str], float, Path]:
        config = folder / CONFIG  # written when a job of a sweep starts
        return started(folder), config.stat().st_mtime if config.exists() else 0, folder

    return [Run(folder) for folder in sorted(folders, key=age, reverse=True)]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
