"""Resuming a run: which folder, which checkpoint, and which settings must stay.

``resume=<folder>`` continues a run in its folder, under the overrides recorded there. ``resume=<file>`` starts a new
folder from a checkpoint. ``resume=auto`` continues the newest unfinished run of the same overrides, or starts one.
"""

import logging
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from omegaconf import DictConfig, OmegaConf

from fashion_vgg.checkpoints import run_folder
from fashion_vgg.checkpoints.records import recorded_config, recorded_overrides
from fashion_vgg.checkpoints.run_folder import CONFIG
from fashion_vgg.checkpoints.text_files import RecordError
from fashion_vgg.config import launch
from fashion_vgg.config.overrides import flatten, key_of, quoted, shown, value_of
from fashion_vgg.errors import UserError

log = logging.getLogger(__name__)

# If these changed, the new value would be ignored, or would silently spoil the training.
_FIXED = ("seed", "image_size", "batch_size", "data", "model", "classifier", "optimizer", "scheduler")
_FIXED_OF_TRAINER = (
    *("precision", "limit_train_batches", "accumulate_grad_batches", "max_steps", "overfit_batches"),
    *("gradient_clip_val", "gradient_clip_algorithm", "val_check_interval"),
)
FREE = ("data.root", "data.num_workers", "data.worker_timeout")
"""Keys of the data that may change."""
_REPEATED = ("classifier.net.", "classifier.optimizer.", "classifier.scheduler.")  # interpolations of other groups


class ResumePoint(NamedTuple):
    """Where a resumed training continues: None and 0 if the run was interrupted before its first checkpoint."""

    checkpoint: Path | None
    finished_epochs: int


def expand(argv: Sequence[str]) -> list[str]:
    """Replace ``resume=...`` by the recorded overrides of the run, those of the command line, and the run's folder."""
    if forced := [word for word in argv if key_of(word) == "resume" and word.startswith("+")]:
        raise UserError(f"{forced[0]}: write resume= without +.")
    named = value_of(argv, "resume")
    if named in (None, "null"):
        return list(argv)
    if {"-m", "--multirun"} & set(argv):
        raise UserError("resume continues a single run: leave out -m. sweep.resume=<folder> continues a sweep.")
    if named == "auto":
        own = [word for word in argv if not word.startswith("resume=")]
        found = _newest_unfinished(own)
        if found is None:
            return own
        argv = [*own, f"resume={quoted(str(found))}"]
    words = with_recorded_overrides(argv, "resume")
    folder = _run_folder(Path(str(value_of(words, "resume"))))
    if folder is None:
        return words
    # The record in .hydra is not written again: a kill or a full disk would truncate it.
    place = [f"hydra.run.dir={quoted(str(folder))}", "hydra.output_subdir=null"]
    return [*(word for word in words if word not in place), *place]


def with_recorded_overrides(argv: Sequence[str], key: str) -> list[str]:
    """Put the overrides of the run that ``key=<folder or file>`` names before those of the command line, which win."""
    own, named = [word for word in argv if not word.startswith(f"{key}=")], value_of(argv, key)
    if named is None:
        return list(argv)
    path = Path(named).expanduser().absolute()
    if not path.exists():
        raise UserError(f"{key}={named}: no such folder or file.")
    if path.is_dir() and not _run_folder(path):
        raise UserError(f"{key}={named}: not a run's folder, or its training had not started: it has no {CONFIG}.")
    given = {key_of(word) for word in own}
    recorded = recorded_overrides(path if path.is_dir() else path.parent)
    return [*(word for word in recorded if key_of(word) not in given), *own, f"{key}={quoted(str(path))}"]


def resume_command(folder: Path) -> str:
    """The command line that resumes a run."""
    return f"fashion-vgg train {shlex.quote(f'resume={folder}')}"


def resumable_checkpoints(path: Path) -> list[Path]:
    """A file itself, or a folder's ``last.ckpt``, ``last-1.ckpt`` and so on, newest first."""

    def age(checkpoint: Path) -> int:
        number = checkpoint.stem.rpartition("-")[2]
        return int(number) if number.isdecimal() else 0

    return [path] if path.is_file() else sorted(path.glob("last*.ckpt"), key=age)


def keep_precision(cfg: DictConfig, source: str | None) -> None:
    """Replace a precision of ``auto`` by that of the run that ``source`` belongs to, which may be another machine's."""
    run = _run_folder(Path(source)) if source else None
    if run and cfg.trainer.precision == "auto":
        cfg.trainer.precision = recorded_config(run)["trainer"].get("precision", "auto")


def find_resume_point(cfg: DictConfig, overrides: Sequence[str]) -> ResumePoint | None:
    """The newest checkpoint that loads; None for a new run.

    Raises:
        UserError: the checkpoints are another run's, none loads, or a setting changed that must stay.
    """
    folder = Path(cfg.checkpoint.folder)
    if not cfg.resume:
        if resumable_checkpoints(folder):
            raise UserError(f"{folder} has the checkpoints of another run: resume it, or use a new folder.")
        return None
    source = Path(cfg.resume)
    if run := _run_folder(source):
        _check_settings(cfg, run, overrides)
    candidates = resumable_checkpoints(source if source.is_file() else folder)
    if candidates:
        return _newest_that_loads(candidates)
    recorded = Path(str(dict(flatten(recorded_config(Path(cfg.output_dir)))).get("checkpoint.folder", folder)))
    if recorded.absolute() != folder.absolute() and resumable_checkpoints(recorded):
        raise UserError(f"This run's checkpoints are in another folder: add checkpoint.folder={recorded}.")
    log.info("%s has no checkpoint yet: training starts from the first step.", folder)
    return ResumePoint(None, 0)


def _run_folder(path: Path) -> Path | None:
    folder = path if path.is_dir() else path.parent
    return folder if (folder / CONFIG).exists() else None


def _newest_unfinished(own: Sequence[str]) -> Path | None:
    given = [word for word in own if word.startswith("~") or ("=" in word and not word.startswith("-"))]
    wanted = sorted(word for word in given if not key_of(word).startswith("hydra"))
    runs = (run_folder.outputs_folder() / "train").glob("*/*")
    for folder in sorted(runs, key=run_folder.started, reverse=True):
        unfinished = (folder / CONFIG).exists() and not (folder / run_folder.SUMMARY).exists()
        # A further process joins the first one, which holds the lock.
        available = launch.is_further_process() or not run_folder.is_locked(folder)
        if unfinished and available and _overrides_or_none(folder) == wanted:
            return folder
    return None


def _overrides_or_none(folder: Path) -> list[str] | None:
    """The sorted overrides of a run; None, with a warning, if their record is damaged."""
    try:
        return sorted(recorded_overrides(folder))
    except RecordError as error:
        log.warning("Ignored: %s", error)
        return None


def _newest_that_loads(candidates: Sequence[Path]) -> ResumePoint:
    from fashion_vgg.checkpoints import checkpoint_io

    errors: list[UserError] = []
    for path in candidates:
        try:
            content = checkpoint_io.load(path)
        except UserError as error:
            errors.append(error)
            continue
        for reason in errors:
            log.warning("%s", reason)
        progress = content.get("loops", {}).get("fit_loop")
        if not progress or "global_step" not in content:
            raise UserError(f"{path} holds only weights: there is no training to resume. init_weights= loads weights.")
        log.info("Resuming from %s, after step %s", path, f"{content['global_step']:,}")
        return ResumePoint(path, progress["epoch_progress"]["current"]["processed"])
    raise UserError(f"{errors[0]}\nNo other checkpoint can be resumed: start a new run.")


def _check_settings(cfg: DictConfig, folder: Path, overrides: Sequence[str]) -> None:
    """Compare the settings with those that the run was started with.

    A key that the record lacks and no override sets was added in a later version; its default keeps the old behaviour.
    """
    overridden = tuple(f"{key_of(override)}." for override in overrides)
    before = dict(flatten(recorded_config(folder)))
    now = dict(flatten(OmegaConf.to_container(cfg, resolve=True)))
    new = {key for key in now.keys() - before.keys() if not f"{key}.".startswith(overridden)}
    for key in sorted((before.keys() | now.keys()) - new):
        was, is_now = (shown(values[key]) if key in values else "not set" for values in (before, now))
        if was != is_now and _is_fixed(key, scheduled=bool(cfg.get("scheduler"))):
            raise UserError(
                f"{key} is {is_now}, and was {was} when {folder} was started: "
                "a resumed run keeps its settings; leave it out, or start a new run without resume."
            )


def _is_fixed(key: str, scheduled: bool) -> bool:
    group, _, name = key.partition(".")
    if name == "_partial_" or f"{key}.".startswith(_REPEATED):  # another key says more
        return False
    if group == "trainer":
        return name in _FIXED_OF_TRAINER or (name == "max_epochs" and scheduled)
    return group in _FIXED and key not in FREE
