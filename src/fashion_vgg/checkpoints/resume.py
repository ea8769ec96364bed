"""Going on with a run: its folder found, its settings taken from its own record, its newest whole checkpoint chosen."""

import logging
import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fashion_vgg import atomic
from fashion_vgg.checkpoints.run_folder import CONFIG, OVERRIDES, SUMMARY, is_locked, recorded_overrides
from fashion_vgg.config import launch
from fashion_vgg.config.overrides import key_of, quoted, shown, value_of
from fashion_vgg.errors import UserError

log = logging.getLogger(__name__)

# A changed value would be ignored, or spoil the training without a word.
_KEPT = ("seed", "image_size", "batch_size", "data", "model", "classifier", "optimizer", "scheduler")
_KEPT_OF_TRAINER = ("precision", "limit_train_batches", "accumulate_grad_batches", "max_steps")
_FREE = ("data.root", "data.num_workers", "data.worker_timeout", "model.weights")


def arguments(argv: Sequence[str], key: str, runs: Path | None = None) -> list[str]:
    """A command line with the overrides of the run that ``key=<folder or file>`` names put before its own.

    Its own come out on top. With ``runs``, the folder of all runs, the command goes on in the run's folder, and
    ``auto`` stands for the newest unfinished run of the same overrides, or none.

    Raises:
        UserError: there is no such folder or file.
    """
    if forced := [word for word in argv if key_of(word) == key and word.startswith("+")]:
        raise UserError(f"{forced[0]}: write {key}= without +.")
    own, named = [word for word in argv if not word.startswith(f"{key}=")], value_of(argv, key)
    if named is None or named == "null":
        return list(argv)
    if runs and {"-m", "--multirun"} & set(argv):
        raise UserError(f"{key} goes on with one run: leave -m out.")
    if runs and named == "auto":
        found = _newest_unfinished(runs, own)
        if found is None:
            return own
        named = str(found)
    path = Path(named).expanduser().absolute()
    if not path.exists():
        raise UserError(f"{key}={named}: there is no such folder or file.")
    words = [*_recorded(path, own), *own, f"{key}={quoted(str(path))}"]
    folder = run_folder(path)
    if folder and runs:
        # The record in .hydra stays as it is: rewritten in place, a kill or a full disk would cut it.
        place = [f"hydra.run.dir={quoted(str(folder))}", "hydra.output_subdir=null"]
        words = [*(word for word in words if word not in place), *place]
    elif path.is_dir() and not folder:
        raise UserError(f"{key}={named}: this is no run's folder, or one whose run had not begun: it has no {CONFIG}.")
    return words


def run_folder(path: Path) -> Path | None:
    """The run's folder that a path names, by itself or by a checkpoint in it."""
    folder = path if path.is_dir() else path.parent
    return folder if (folder / CONFIG).exists() else None


def command(folder: Path) -> str:
    """What to type to go on with a run."""
    return f"fashion-vgg train {shlex.quote(f'resume={folder}')}"


def checkpoints(path: Path) -> list[Path]:
    """Those to go on from, newest first: a file itself, or a folder's ``last.ckpt``, ``last-1.ckpt`` and so on."""
    return [path] if path.is_file() else sorted(path.glob("last*.ckpt"), key=_age)


def newest_whole(candidates: Iterable[Path]) -> tuple[Path, dict[str, Any]] | None:
    """The first checkpoint that loads, and its content; a warning for each that does not. None of no candidates.

    Raises:
        UserError: none of them loads.
    """
    from fashion_vgg.checkpoints import checkpoint_io

    errors: list[UserError] = []
    for path in candidates:
        try:
            content = checkpoint_io.load(path)
        except UserError as error:
            errors.append(error)
        else:
            for reason in errors:
                log.warning("%s", reason)
            return path, content
    if errors:
        raise UserError(f"{errors[0]}\nThere is no other checkpoint to go on from: start a new run.")
    return None


def check_unchanged(cfg: DictConfig, folder: Path, overrides: Sequence[str]) -> None:
    """Hold the settings against those that the run was started with.

    A key that its record lacks, and that no override asks for, came with a later version: its default is what was done
    before there was the key.

    Raises:
        UserError: one that must stay has changed.
    """
    asked_for = tuple(f"{key_of(override)}." for override in overrides)
    stored = _settings(folder)
    before = dict(_leaves(OmegaConf.to_container(stored, resolve=False)))
    now = dict(_leaves(OmegaConf.to_container(cfg, resolve=True)))
    new = {key for key in now.keys() - before.keys() if not f"{key}.".startswith(asked_for)}
    for key in sorted((before.keys() | now.keys()) - new):
        was, is_now = (shown(values[key]) if key in values else "not set" for values in (before, now))
        if was != is_now and _must_stay(key, scheduled=bool(cfg.get("scheduler"))):
            raise UserError(
                f"{key} is {is_now}, and was {was} when {folder} was started: "
                "a resumed run keeps its settings; leave it out, or start a new run without resume."
            )


def checkpoint_folder(run: Path) -> Path:
    """Where a run's own settings put its checkpoints."""
    return Path(_settings(run).get("checkpoint", {}).get("folder", run))


def _settings(run: Path) -> DictConfig:
    try:
        settings = OmegaConf.load(run / CONFIG)
    except Exception as error:
        raise UserError(f"{run / CONFIG} cannot be read: {str(error).splitlines()[0]}") from error
    if not isinstance(settings, DictConfig):
        raise UserError(f"{run / CONFIG} holds no settings.")
    return settings


def record(cfg: DictConfig, overrides: Sequence[str], folder: Path) -> None:
    """Write the resolved configuration, and the overrides where Hydra did not, for whoever goes on with the run."""
    kept = [override for override in overrides if key_of(override) != "resume"]
    if cfg.resume or not (folder / OVERRIDES).exists():
        (folder / OVERRIDES).parent.mkdir(exist_ok=True)
        atomic.write(folder / OVERRIDES, OmegaConf.to_yaml(OmegaConf.create(kept)))
    atomic.write(folder / CONFIG, OmegaConf.to_yaml(cfg, resolve=True))


def _newest_unfinished(runs: Path, own: Sequence[str]) -> Path | None:
    given = [word for word in own if word.startswith("~") or ("=" in word and not word.startswith("-"))]
    wanted = sorted(word for word in given if not key_of(word).startswith("hydra"))
    for folder in sorted(runs.glob("*/*"), reverse=True):
        unfinished = (folder / CONFIG).exists() and not (folder / SUMMARY).exists()
        if unfinished and sorted(recorded_overrides(folder)) == wanted and (launch.further() or not is_locked(folder)):
            return folder
    return None


def _recorded(path: Path, own: Sequence[str]) -> list[str]:
    folder = path if path.is_dir() else path.parent
    keys = {key_of(word) for word in own}
    return [override for override in recorded_overrides(folder) if key_of(override) not in keys]


def _age(checkpoint: Path) -> int:
    number = checkpoint.stem.rpartition("-")[2]
    return int(number) if number.isdecimal() else 0


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _must_stay(key: str, scheduled: bool) -> bool:
    group, _, name = key.partition(".")
    if name == "_partial_":  # what it is part of says more
        return False
    if group == "trainer":
        return name in _KEPT_OF_TRAINER or (name == "max_epochs" and scheduled)
    return group in _KEPT and key not in _FREE
