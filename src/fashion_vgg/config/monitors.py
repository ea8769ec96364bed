"""Which metrics callbacks and schedulers may monitor, and which callbacks do not fit."""

import os
from collections.abc import Iterator

from omegaconf import DictConfig

from fashion_vgg.config import targets
from fashion_vgg.config.overrides import shown
from fashion_vgg.errors import UserError

METRICS = ("train/loss", "train/acc", "val/loss", "val/acc")
"""None of the test set, which must not influence the training."""

_BEST = {"monitor": "val/acc", "mode": "max", "filename": "best", "save_top_k": 1}
"""What the callback ``best`` keeps, as the summary of a run and all that loads its weights expect it."""


def check(cfg: DictConfig) -> None:
    """Raise UserError at the first callback that does not fit, or that monitors a metric which there is not."""
    if "sweep" in cfg:  # for a training; a run of an older version may have had others
        _check_best(cfg)
        _check_averaging(cfg)
    for key, metric in _monitored(cfg):
        if metric not in METRICS and targets.TRUSTED not in os.environ:  # the user's own modules may log others
            raise UserError(
                f"{key}={metric} does not fit: use one of {', '.join(METRICS)}, since the test set selects nothing."
            )
        if metric.startswith("val/") and not cfg.data.val_size:
            raise UserError(f"{key}={metric} needs a validation split: add data.val_size=5000.")


def _check_best(cfg: DictConfig) -> None:
    best = (cfg.get("callbacks") or {}).get("best") or {}
    for key, value in {**_BEST, "dirpath": cfg.output_dir}.items():
        if best.get(key, value) != value:
            raise UserError(
                f"callbacks.best.{key}={shown(best[key])} does not fit: use {value}, or add another ModelCheckpoint."
            )


def _check_averaging(cfg: DictConfig) -> None:
    for name, node in (cfg.get("callbacks") or {}).items():
        if node and str(node.get("_target_")).endswith(".StochasticWeightAveraging"):
            problem = "is not resumed exactly, and without batch norm averages after the last checkpoint"
            raise UserError(f"callbacks.{name}: StochasticWeightAveraging {problem}; use EMAWeightAveraging.")


def _monitored(cfg: DictConfig) -> Iterator[tuple[str, str]]:
    """The keys that name a metric, and its name; except of the callback ``best``, which is left out without a split."""
    for name, node in (cfg.get("callbacks") or {}).items():
        if name != "best" and node and "monitor" in node:
            yield f"callbacks.{name}.monitor", str(node.monitor)
    if str((cfg.get("scheduler") or {}).get("_target_")).endswith(".ReduceLROnPlateau"):
        if cfg.classifier.scheduler_interval == "step":
            raise UserError("classifier.scheduler_interval=step does not fit scheduler=plateau: use epoch.")
        yield "classifier.scheduler_monitor", str(cfg.classifier.scheduler_monitor)
