"""The folders that trainings leave, and what each says of its run. Read without torch."""

import csv
import json
import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import OmegaConf

from fashion_vgg import atomic
from fashion_vgg.errors import UserError

CONFIG = "config.yaml"
"""Written when a run is about to train: a folder without it has nothing to go on from."""
SUMMARY = "summary.json"
"""Written last: a folder with it is finished."""
OUTCOME = "outcome.json"
"""Of a sweep's job that ended before its time: its ``status`` and an ``error`` of a line."""
OVERRIDES = Path(".hydra", "overrides.yaml")
METRICS = "metrics.csv"

Row = dict[str, float]


@dataclass(frozen=True)
class Run:
    """A training's folder, whatever became of it."""

    folder: Path

    @cached_property
    def status(self) -> str:
        """``finished``, ``running``, ``unfinished`` (killed or stopped), ``diverged``, ``pruned`` or ``failed``."""
        if (self.folder / SUMMARY).exists():
            return "finished"
        if in_use(self.folder):
            return "running"
        return str(self.outcome.get("status", "unfinished"))

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Of a finished run (see `summary.summarize`), else empty."""
        return _json(self.folder / SUMMARY)

    @cached_property
    def outcome(self) -> dict[str, Any]:
        """Why a sweep's job ended before its time, else empty."""
        return _json(self.folder / OUTCOME)

    @cached_property
    def overrides(self) -> list[str]:
        """The command line's, as Hydra or a resumed run wrote them down."""
        return overrides(self.folder)

    @cached_property
    def rows(self) -> list[Row]:
        """The figures by epoch, ``epoch`` counted from 1; one that an epoch did not have is left out."""
        try:
            with (self.folder / METRICS).open(newline="") as file:
                return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
        except FileNotFoundError:
            return []


def outputs() -> Path:
    """Where the commands make their folders."""
    return Path(os.environ.get("FASHION_VGG_ROOT", "."), "outputs")


def find(root: Path) -> list[Run]:
    """Every run at or below a folder, newest first by when its folder was named."""
    folders = {path.parent for name in (CONFIG, OUTCOME) for path in root.rglob(name) if path.parent.name != ".hydra"}
    return [Run(folder) for folder in sorted(folders, key=lambda folder: (_day(folder), folder), reverse=True)]


def end(folder: Path, status: str, error: str) -> None:
    """Write down that, and why, a sweep's job ended before its time."""
    folder.mkdir(parents=True, exist_ok=True)
    atomic.write(folder / OUTCOME, json.dumps({"status": status, "error": error}) + "\n")


def overrides(folder: Path) -> list[str]:
    """A run's own record of its overrides: those of Hydra's own keys, which can run code, are not among them."""
    try:
        content = OmegaConf.to_container(OmegaConf.load(folder / OVERRIDES))
    except Exception:  # whatever is wrong with the file, it has nothing to add
        return []
    return plain(content)


def plain(words: Any) -> list[str]:
    """The overrides in what a file has as a list of them, but for Hydra's own keys and those that say how to begin."""
    override = re.compile(r"(\+{0,2}|~)(?!hydra\b|sweep\.|resume\b)\w(?![\w./-]*@hydra)[\w./@-]*(=.*)?", re.DOTALL)
    return [word for word in (words if isinstance(words, list) else []) if override.fullmatch(str(word))]


def key(override: str) -> str:
    """What an override is of, without the sign for adding or removing."""
    return override.partition("=")[0].lstrip("+~")


def locked(folder: Path) -> FileLock:
    """A lock on a run's folder, held as long as the object lives, and let go by the system when the process dies.

    Raises:
        UserError: another process trains there.
    """
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise UserError(f"{folder}: another process is training there.") from None
    return lock


def in_use(folder: Path) -> bool:
    """Whether a process trains there, as far as this one may look."""
    if not (folder / ".lock").exists():
        return False
    try:
        locked(folder).release()
    except (UserError, OSError):
        return True
    return False


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _day(folder: Path) -> list[str]:
    """The date and time in a folder's path, as `train` names its folders."""
    return re.findall(r"\d{4}-\d\d-\d\d/\d\d-\d\d-\d\d", folder.as_posix())[-1:]
