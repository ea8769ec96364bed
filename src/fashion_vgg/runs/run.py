"""Reads the folder of a run: status, settings, metrics, summary. Imports neither torch nor Lightning."""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from fashion_vgg.checkpoints import records
from fashion_vgg.checkpoints.run_folder import CONFIG, OUTCOME, SUMMARY, is_locked, started
from fashion_vgg.checkpoints.text_files import RecordError
from fashion_vgg.config.overrides import key_of
from fashion_vgg.errors import printable

log = logging.getLogger(__name__)

Metrics = dict[str, float]
_WITH_ANOTHER_CONFIG = (".hydra", "wandb")
"""Folders of Hydra and of W&B, in which ``config.yaml`` is not a run's."""
STATUSES = ("finished", "running", "unfinished", *records.FAILURES)


@dataclass(frozen=True)
class Run:
    """The folder of one training, whatever its status. A damaged record raises `RecordError`."""

    folder: Path

    @cached_property
    def status(self) -> str:
        """One of `STATUSES`; a run that was killed or stopped is ``unfinished``."""
        if self.summary:
            return "finished"
        if is_locked(self.folder):
            return "running"
        return str(self.outcome.get("status", "unfinished"))

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The content of ``summary.json`` (see `summary.summarize`); empty unless the run is finished."""
        return records.read_summary(self.folder)

    @cached_property
    def outcome(self) -> dict[str, Any]:
        """``status`` and ``error`` of a sweep's job that did not finish; otherwise empty."""
        return {} if self.summary else records.read_outcome(self.folder)

    @cached_property
    def overrides(self) -> list[str]:
        """The Hydra overrides that the run was started with."""
        return records.recorded_overrides(self.folder)

    @cached_property
    def settings(self) -> dict[str, str]:
        """The overrides by key, to be shown. The last of a key counts; the value of ``~key`` is ``removed``."""
        words = map(printable, self.overrides)
        return {key_of(word): "removed" if word[0] == "~" else word.partition("=")[2] for word in words}

    @cached_property
    def rows(self) -> list[Metrics]:
        """The rows of ``metrics.csv``, one per epoch, without the empty cells; ``epoch`` starts at 1."""
        return records.read_metrics(self.folder)

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
    """The runs in ``root`` and its subfolders, newest first by the date in their path.

    Those with a damaged record are left out, with a warning that names it.
    """

    def age(run: Run) -> tuple[tuple[str, str], float, Path]:
        config = run.folder / CONFIG  # written when a job of a sweep starts
        return started(run.folder), config.stat().st_mtime if config.exists() else 0, run.folder

    return sorted(filter(_is_readable, map(Run, _folders(root))), key=age, reverse=True)


def _folders(root: Path) -> Iterator[Path]:
    """The folders with a file of a run, whatever it is."""
    for folder, subfolders, files in os.walk(root, onerror=_skip_folder):
        if not {CONFIG, OUTCOME, SUMMARY}.isdisjoint([*subfolders, *files]):
            yield Path(folder)
        subfolders[:] = [name for name in subfolders if name not in _WITH_ANOTHER_CONFIG]


def _is_readable(run: Run) -> bool:
    """Read all records of a run; warn if one is damaged."""
    try:
        records.check_config(run.folder)
        _ = run.status, run.settings, run.rows
    except RecordError as error:
        _warn(str(error))
        return False
    return True


def _skip_folder(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):  # the callers report a root that is no folder
        _warn(str(RecordError(Path(error.filename), error.strerror)))


@cache
def _warn(reason: str) -> None:
    """Warn once: in the log of the command, or on stderr if it has none, as `runs`."""
    log.warning("Ignored: %s", reason)
