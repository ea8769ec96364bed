"""Resuming a run: which folder, which checkpoint, and which settings must stay.

``resume=<folder>`` continues a run in its folder, under the overrides recorded there. ``resume=<file>`` continues from
a checkpoint: in its run's folder, or in a new one if it is in none. ``resume=auto`` continues the newest unfinished run
of the same overrides, or that of ``hydra.run.dir``, or starts one.
"""

import logging
import secrets
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from fashion_vgg.checkpoints import identity, run_folder
from fashion_vgg.checkpoints.records import recorded_config, recorded_overrides
from fashion_vgg.checkpoints.run_folder import CONFIG
from fashion_vgg.checkpoints.text_files import RecordError
from fashion_vgg.config import launch
from fashion_vgg.config.overrides import MULTIRUN, flatten, key_of, quoted, value_of
from fashion_vgg.errors import LockedError, UserError

log = logging.getLogger(__name__)


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
    if set(MULTIRUN) & set(argv):
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
    recorded = recorded_overrides(run_folder.folder_of(path))
    return [*(word for word in recorded if key_of(word) not in given), *own, f"{key}={quoted(str(path))}"]


def resume_command(folder: Path) -> str:
    """The command line that resumes a run."""
    return launch.command_line(f"train {shlex.quote(f'resume={folder}')}")


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
    """The newest checkpoint that loads; None for a new run. Sets ``run_id``, which a resumed run keeps.

    Raises:
        UserError: the checkpoints are another run's, none loads, or a setting changed that must stay.
    """
    folder, own = Path(cfg.checkpoint.folder), Path(cfg.output_dir)
    record = dict(flatten(recorded_config(own))) if cfg.resume and _run_folder(own) else {}
    cfg.run_id = record.get("run_id") or secrets.token_hex(8)
    if not cfg.resume:
        if resumable_checkpoints(folder):
            raise UserError(f"{folder} has the checkpoints of another run: resume it, or use a new folder.")
        return None
    source = Path(cfg.resume)
    if run := _run_folder(source):
        identity.check_settings(_settings(cfg), dict(flatten(recorded_config(run))), overrides, str(run))
    if candidates := resumable_checkpoints(source if source.is_file() else folder):
        path, content = _newest_that_loads(candidates)
        _check_owner(cfg, path, content.get("run", {}), overrides)
        return ResumePoint(path, content["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"])
    recorded = Path(str(record.get("checkpoint.folder", folder)))
    if recorded.absolute() != folder.absolute() and _has_checkpoint_of(cfg.run_id, recorded):
        raise UserError(f"This run's checkpoints are in another folder: add checkpoint.folder={recorded}.")
    if launch.is_rank_zero():
        log.info("%s has no checkpoint yet: training starts from the first step.", folder)
    return ResumePoint(None, 0)


def _check_owner(cfg: DictConfig, path: Path, owner: dict[str, Any], overrides: Sequence[str]) -> None:
    """Raise UserError if a checkpoint is another run's, or one that ``resume`` names was trained with other settings.

    Args:
        cfg: the configuration.
        path: the checkpoint.
        owner: what it says of its run (see `identity.of`).
        overrides: of this training.
    """
    if path == Path(cfg.resume):
        settings = _settings(cfg)
        free = {key: settings[key] for key in settings.keys() - identity.fixed(settings)}
        identity.check_settings(
            settings, {**free, **owner.get("settings", {})} if owner else settings, overrides, str(path)
        )
    elif owner.get("id", cfg.run_id) != cfg.run_id:
        raise UserError(
            f"{path} is a checkpoint of another run, {owner['folder']}. "
            "This run had saved none: add checkpoint.folder=<new folder> to train it from the first step."
        )


def identify(cfg: DictConfig) -> dict[str, Any]:
    """What the checkpoints of a training say of it (see `identity.of`)."""
    return identity.of(cfg.run_id, cfg.output_dir, _settings(cfg))


def _settings(cfg: DictConfig) -> identity.Settings:
    return dict(flatten(OmegaConf.to_container(cfg, resolve=True)))


def _has_checkpoint_of(run_id: str, folder: Path) -> bool:
    found = resumable_checkpoints(folder)
    return bool(found) and _newest_that_loads(found)[1].get("run", {}).get("id", run_id) == run_id


def _run_folder(path: Path) -> Path | None:
    folder = run_folder.folder_of(path)
    return folder if (folder / CONFIG).exists() else None


def _newest_unfinished(own: Sequence[str]) -> Path | None:
    """The newest run of the same overrides that no process trains; it is locked, so that no other one resumes it.

    With ``hydra.run.dir``, the run in that folder alone.
    """
    given = [word for word in own if word.startswith("~") or ("=" in word and not word.startswith("-"))]
    wanted = sorted(word for word in given if not key_of(word).startswith("hydra"))
    named = value_of(own, "hydra.run.dir")
    runs = [Path(named).absolute()] if named else (run_folder.outputs_folder() / "train").glob("*/*")
    for folder in sorted(runs, key=run_folder.started, reverse=True):
        unfinished = (folder / CONFIG).exists() and not (folder / run_folder.SUMMARY).exists()
        if unfinished and _overrides_or_none(folder) == wanted and _claim(folder):
            return folder
    return None


def _overrides_or_none(folder: Path) -> list[str] | None:
    """The sorted overrides of a run; None, with a warning, if their record is damaged."""
    try:
        return sorted(recorded_overrides(folder))
    except RecordError as error:
        log.warning("Ignored: %s", error)
        return None


def _claim(folder: Path) -> bool:
    """Lock a run; whether no other process has locked it."""
    # A nonzero rank joins rank 0, which holds the lock.
    if launch.is_nonzero_rank():
        return True
    try:
        run_folder.lock(folder)
    except LockedError:
        return False
    return True


def _newest_that_loads(candidates: Sequence[Path]) -> tuple[Path, dict[str, Any]]:
    """The first file that loads, and its content."""
    from fashion_vgg.checkpoints import checkpoint_io, restore

    errors: list[UserError] = []
    for path in candidates:
        try:
            content = checkpoint_io.load(path)
            restore.check(content, path)
        except UserError as error:
            errors.append(error)
            continue
        for reason in errors:
            log.warning("%s", reason)
        if launch.is_rank_zero():
            log.info("Resuming from %s, after step %s", path, f"{content['global_step']:,}")
        return path, content
    raise UserError(f"{errors[0]}\nNo other checkpoint can be resumed: start a new run.")
