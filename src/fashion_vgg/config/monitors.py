"""Which metrics callbacks and schedules may monitor."""

import os
from collections.abc import Iterator

from omegaconf import DictConfig

from fashion_vgg.config import targets
from fashion_vgg.errors import UserError

METRICS = ("train/loss", "train/acc", "val/loss", "val/acc")
"""None of the test set, which must not influence the training."""


def check(cfg: DictConfig) -> None:
    """Raise UserError at the first monitor without a metric of this name, or without its validation split."""
    for key, metric in _monitored(cfg):
        if metric not in METRICS and targets.TRUSTED not in os.environ:  # the user's own modules may log others
            raise UserError(
                f"{key}={metric} does not fit: use one of {', '.join(METRICS)}, since the test set selects nothing."
            )
        if metric.startswith("val/") and not cfg.data.val_size:
            raise UserError(f"{key}={metric} needs a validation split: add data.val_size=5000.")


def _monitored(cfg: DictConfig) -> Iterator[tuple[str, str]]:
    """The keys that name a metric, and its name; except of the callback ``best``, which is left out without a split."""
    for name, node in (cfg.get("callbacks") or {}).items():
        if name != "best" and node and "monitor" in node:
            yield f"callbacks.{name}.monitor", str(node.monitor)
    if str((cfg.get("scheduler") or {}).get("_target_")).endswith(".ReduceLROnPlateau"):
        if cfg.classifier.scheduler_interval == "step":
            raise UserError("classifier.scheduler_interval=step does not fit scheduler=plateau: use epoch.")
        yield "classifier.scheduler_monitor", str(cfg.classifier.scheduler_monitor)
