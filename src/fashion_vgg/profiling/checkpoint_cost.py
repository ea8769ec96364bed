"""The time that a resumable training spends on seeds, checks and checkpoints."""

import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from hydra.utils import instantiate
from lightning.pytorch.profilers import SimpleProfiler
from omegaconf import DictConfig

from fashion_vgg.profiling.loops import short_training
from fashion_vgg.training import DivergenceGuard, History
from fashion_vgg.training.build import build_classifier, build_trainer, configure_lightning_logging

STEPS = 6


def checkpoint_cost(cfg: DictConfig, step_seconds: float) -> dict[str, Any]:
    """The share of the training time, from the durations that Lightning's profiler records in a few steps.

    Comparing the speeds of two trainings would not show it: they differ more from run to run.

    Args:
        cfg: the whole configuration.
        step_seconds: duration of a training step.
    """
    configure_lightning_logging()
    with tempfile.TemporaryDirectory() as folder:
        short: Any = short_training(cfg, folder, STEPS)
        short.callbacks = short.logger = None
        guard, checkpoints, profiler = DivergenceGuard(), instantiate(short.checkpoint), SimpleProfiler()
        trainer = build_trainer(short, History(folder), guard, checkpoints)
        trainer.profiler = profiler  # type: ignore[attr-defined]
        trainer.fit(build_classifier(short), instantiate(short.data))
        size = Path(folder, "last.ckpt").stat().st_size
    durations = profiler.recorded_durations
    per_step = sum(
        median(durations[action])
        for action in (
            "[LightningModule]ImageClassifier.on_before_batch_transfer",  # seeds the step
            f"[Callback]{guard.state_key}.on_train_batch_end",
            f"[Callback]{checkpoints.state_key}.on_train_batch_end",
        )
    )
    per_checkpoint, minutes = max(durations["save_checkpoint"]), cfg.checkpoint.every_minutes
    per_second = per_checkpoint / (60 * minutes) if minutes else float("inf")
    return {
        "seconds_per_step": per_step,
        "checkpoint_seconds": per_checkpoint,
        "checkpoint_bytes": size,
        "every_minutes": minutes,
        "share": per_step / step_seconds + per_second,
    }
