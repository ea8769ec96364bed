"""A run's folder: its files, what a training records in it, and the lock that the training holds."""

import json
import logging
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf

from fashion_vgg import atomic
from fashion_vgg.config.overrides import key_of
from fashion_vgg.errors import LockedError

log = logging.getLogger(__name__)

CONFIG = "config.yaml"
"""The resolved configuration, written before training starts: a folder without it cannot be resumed."""
SUMMARY = "summary.json"
"""Written last: a run with it is finished."""
OUTCOME = "outcome.json"
"""``status`` and ``error`` of a sweep's job that diverged, failed or was pruned."""
METRICS = "metrics.csv"
LOCK = ".lock"
_STARTED = re.compile(r"(\d{4}-\d\d-\d\d)/(?:[^/]*,)?(\d\d-\d\d-\d\d)")
OVERRIDES = Path(".hydra", "overrides.yaml")
_WRITTEN_BY_HYDRA = {".hydra", ".hydra/config.yaml", ".hydra/hydra.yaml", ".hydra/overrides.yaml", "train.log", ".lock"}


def outputs_folder() -> Path:
    """The folder of all runs and sweeps."""
    return Path(os.environ.get("FASHION_VGG_ROOT", "."), "outputs")


def started(folder: Path) -> tuple[str, str]:
    """Date and time in the path of a run or a sweep, to sort by; empty in any other folder."""
    found = _STARTED.findall(folder.absolute().as_posix())
    return found[-1] if found else ("", "")


def folder_of(path: Path) -> Path:
    """The folder that a path to a run names, which may be that of one of its files."""
    return path if path.is_dir() else path.parent


def record(folder: Path, cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Write the resolved configuration, and the overrides if Hydra did not, for a later ``resume``."""
    kept = [override for override in overrides if key_of(override) != "resume"]
    if cfg.resume or not (folder / OVERRIDES).exists():
        record_overrides(folder, kept)
    atomic.write(folder / CONFIG, OmegaConf.to_yaml(cfg, resolve=True))


def record_overrides(folder: Path, overrides: Sequence[str]) -> None:
    """Write the overrides of a run as Hydra does."""
    (folder / OVERRIDES).parent.mkdir(exist_ok=True)
    atomic.write(folder / OVERRIDES, OmegaConf.to_yaml(OmegaConf.create([*overrides])))


def lock(folder: Path, activity: str = "training") -> AbstractContextManager[object]:
    """Lock a folder until the end of a ``with`` block, or of the process, which may lock it several times.

    On a file system without locks, such as some network storage, a warning is logged instead.

    Raises:
        LockedError: another process holds the lock.
    """
    try:
        # `is_locked` of another process holds it for a moment.
        return _file_lock(folder.absolute() / LOCK).acquire(timeout=1, poll_interval=0.01)
    except Timeout:
        raise LockedError(f"{folder}: another process is {activity} there.") from None
    except OSError as error:
        if not atomic.lacks_locks(error):
            raise
        _warn_without_locks(folder.absolute(), error.strerror)
        return nullcontext()


@cache  # once for each folder
def _warn_without_locks(folder: Path, reason: str | None) -> None:
    log.warning("%s cannot be locked (%s): start no second process there.", folder, reason)


@cache
def _file_lock(path: Path) -> FileLock:
    return FileLock(path)


def is_locked(folder: Path) -> bool:
    """Whether a process, also this one, trains in the folder."""
    if not (folder / LOCK).is_file():
        return False
    try:
        with FileLock(folder / LOCK, blocking=False):
            return False
    except Timeout:
        return True
    except OSError as error:
        return not atomic.lacks_locks(error)


@contextmanager
def removed_if_refused(folder: Path) -> Iterator[None]:
    """Remove the folder that Hydra made for a command which ends with an error before it has written anything."""
    try:
        yield
    except BaseException:
        files = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
        if OVERRIDES.as_posix() in files <= _WRITTEN_BY_HYDRA and not is_locked(folder):
            shutil.rmtree(folder, ignore_errors=True)
        raise


def write_outcome(folder: Path, status: str, error: str) -> None:
    """Record why a sweep's job did not finish."""
    folder.mkdir(parents=True, exist_ok=True)
    atomic.write(folder / OUTCOME, json.dumps({"status": status, "error": error}) + "\n")
