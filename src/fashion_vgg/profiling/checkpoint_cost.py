"""What it costs that a training can be killed: its guards' time in each step, and the writing of a checkpoint."""

import functools
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from fashion_vgg.training.build import build_classifier, build_trainer, configure_lightning_logging
from fashion_vgg.training.callbacks import DivergenceGuard, History

STEPS = 6


def cost(cfg: DictConfig, step_seconds: float) -> dict[str, Any]:
    """The guards' share of a training's time at its settings, from their own time in a training of a few steps.

    The difference of two trainings' speeds would be lost in their spread.

    Args:
        cfg: the whole configuration.
        step_seconds: what a step takes.
    """
    configure_lightning_logging()
    with tempfile.TemporaryDirectory() as folder:
        few = {"max_epochs": 1, "limit_val_batches": 0, "limit_train_batches": STEPS, "enable_progress_bar": False}
        settings: Any = OmegaConf.merge(cfg, {"output_dir": folder, "trainer": few, "callbacks": None, "logger": None})
        guard, checkpoints = DivergenceGuard(), instantiate(settings.checkpoint)
        classifier, data = build_classifier(settings), instantiate(settings.data)
        in_steps: list[list[float]] = [[], [], []]
        hooks = [(classifier, "on_before_batch_transfer")]
        hooks += [(guard, "on_train_batch_end"), (checkpoints, "on_train_batch_end")]
        for (owner, hook), seconds in zip(hooks, in_steps, strict=True):
            _time(owner, hook, seconds)
        writing: list[float] = []
        trainer = build_trainer(settings, History(folder), guard, checkpoints)
        _time(trainer, "save_checkpoint", writing)
        trainer.fit(classifier, data)
        size = Path(folder, "last.ckpt").stat().st_size
    a_step = sum(median(seconds) for seconds in in_steps)
    a_minute = max(writing) / cfg.checkpoint.every_minutes if cfg.checkpoint.every_minutes else float("inf")
    return {
        "seconds_a_step": a_step,
        "checkpoint_seconds": max(writing),
        "checkpoint_bytes": size,
        "every_minutes": cfg.checkpoint.every_minutes,
        "share": a_step / step_seconds + a_minute / 60,
    }


def _time(owner: Any, name: str, seconds: list[float]) -> None:
    """Have a method add to a list how long each of its calls takes."""
    method = getattr(owner, name)

    @functools.wraps(method)
    def timed(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            return method(*args, **kwargs)
        finally:
            seconds.append(time.perf_counter() - start)

    setattr(owner, name, timed)
