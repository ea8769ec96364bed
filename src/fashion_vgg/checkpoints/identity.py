"""Which run a checkpoint belongs to, and which of its settings a resumed training must keep."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fashion_vgg.config.overrides import key_of, shown
from fashion_vgg.errors import UserError

log = logging.getLogger(__name__)

Settings = dict[str, Any]
"""A configuration with dotted keys."""

# If these changed, the new value would be ignored, or would silently spoil the training.
_FIXED = ("seed", "image_size", "batch_size", "init_weights", "data", "model", "classifier", "optimizer", "scheduler")
_FIXED_OF_TRAINER = (
    *("precision", "limit_train_batches", "accumulate_grad_batches", "max_steps", "overfit_batches"),
    *("gradient_clip_val", "gradient_clip_algorithm", "val_check_interval"),
)
FREE = ("data.root", "data.num_workers", "data.worker_timeout")
"""Keys of the data that may change."""
_HARMLESS = (
    *("name", "tags", "run_id", "resume", "output_dir", "checkpoint", "logger", "sweep"),
    *("trainer.max_epochs", "trainer.profiler", "trainer.log_every_n_steps"),
    *("trainer.enable_progress_bar", "trainer.enable_model_summary", "trainer.default_root_dir"),
)
_REPEATED = ("classifier.net.", "classifier.optimizer.", "classifier.scheduler.")  # interpolations of other groups


def of(run_id: str, folder: str, settings: Settings) -> dict[str, Any]:
    """What a checkpoint says of its run: ``id``, ``folder``, and the fixed ``settings``."""
    return {"id": run_id, "folder": folder, "settings": fixed(settings)}


def fixed(settings: Settings) -> Settings:
    """The settings that a resumed training must keep, as text."""
    scheduled = is_scheduled(settings)
    return {key: shown(value) for key, value in settings.items() if _is_fixed(key, scheduled)}


def is_scheduled(settings: Settings) -> bool:
    """Whether the learning rate has a schedule, which depends on the number of epochs."""
    return any(key.startswith("scheduler.") for key in settings)


def check_settings(now: Settings, before: Mapping[str, Any], overrides: Sequence[str], source: str) -> None:
    """Compare the settings with those of an interrupted training, and warn of a change that can alter its result.

    A key that the record lacks and no override sets was added in a later version; its default keeps the old behaviour.

    Args:
        now: the settings of this training.
        before: those of the interrupted one; from a checkpoint, only the fixed ones.
        overrides: of this training.
        source: the run or the checkpoint that ``before`` comes from, for the message.

    Raises:
        UserError: a fixed setting changed.
    """
    overridden = tuple(f"{key_of(override)}." for override in overrides)
    changed = [
        (key, shown(before[key]) if key in before else "not set", shown(now[key]) if key in now else "not set")
        for key in sorted(before.keys() | now.keys(), key=lambda key: (not f"{key}.".startswith(overridden), key))
        if key in before or f"{key}.".startswith(overridden)
    ]
    changed = [(key, was, is_now) for key, was, is_now in changed if was != is_now and not _is_repeated(key)]
    for key, was, is_now in changed:
        if _is_fixed(key, is_scheduled(now)):
            raise UserError(
                f"{key} is {is_now}, and was {was} when {source} was started: "
                "a resumed run keeps its settings; leave it out, or start a new run without resume."
            )
    if altering := [item for item in changed if not f"{item[0]}.".startswith(tuple(f"{key}." for key in _HARMLESS))]:
        key, was, is_now = altering[0]
        more = f", and {len(altering) - 1} more settings changed" if len(altering) > 1 else ""
        log.warning("%s was %s, and is %s%s: the uninterrupted training might end differently.", key, was, is_now, more)


def _is_fixed(key: str, scheduled: bool) -> bool:
    group, _, name = key.partition(".")
    if group == "trainer":
        return name in _FIXED_OF_TRAINER or (name == "max_epochs" and scheduled)
    return group in _FIXED and key not in FREE and not _is_repeated(key)


def _is_repeated(key: str) -> bool:
    """Whether another key says more."""
    return key.endswith("._partial_") or f"{key}.".startswith(_REPEATED)
