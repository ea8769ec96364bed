"""A run's folder read back: status, metrics, summary. Imports neither torch nor Lightning."""

import csv
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fashion_vgg.checkpoints.run_folder import CONFIG, METRICS, OUTCOME, SUMMARY, is_locked, recorded_overrides

Row = dict[str, float]


@dataclass(frozen=True)
class Run:
    """A run, whatever its status."""

    folder: Path

    @cached_property
    def status(self) -> str:
        """``finished``, ``running``, ``unfinished`` (killed or stopped), ``diverged``, ``pruned`` or ``failed``."""
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
        """``status`` and ``error`` of a sweep's job that did not finish, else empty."""
        return _read_json(self.folder / OUTCOME)

    @cached_property
    def overrides(self) -> list[str]:
        """The overrides that the run was started with."""
        return recorded_overrides(self.folder)

    @cached_property
    def rows(self) -> list[Row]:
        """The metrics of each epoch, ``epoch`` counted from 1; a metric that an epoch lacks is left out."""
        try:
            with (self.folder / METRICS).open(newline="") as file:
                return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
        except FileNotFoundError:
            return []


def find_runs(root: Path) -> list[Run]:
    """The runs at or below a folder, newest first by the date in their path."""
    folders = {path.parent for name in (CONFIG, OUTCOME) for path in root.rglob(name) if path.parent.name != ".hydra"}
    return [Run(folder) for folder in sorted(folders, key=lambda folder: (_date(folder), folder), reverse=True)]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _date(folder: Path) -> list[str]:
    return re.findall(r"\d{4}-\d\d-\d\d/\d\d-\d\d-\d\d", folder.as_posix())[-1:]
