"""Every schedule of torch, by the step and by the epoch, against torch's own loop."""

from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from hydra.utils import instantiate
from torch.optim import SGD, Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from fashion_vgg.training.schedules import Interval
from tests.helpers import composed, small_classifier, small_datamodule, trainer_for

pytestmark = pytest.mark.filterwarnings("ignore:A `OneCycleLR` scheduler is using 'interval'")

EPOCHS, STEPS = 3, 4

ARGUMENTS: dict[str, dict[str, Any]] = {
    "LambdaLR": {"lr_lambda": lambda step: 0.9**step},
    "MultiplicativeLR": {"lr_lambda": lambda step: 0.9},
    "StepLR": {"step_size": 2},
    "MultiStepLR": {"milestones": [1, 2]},
    "ConstantLR": {"total_iters": 2},
    "LinearLR": {"total_iters": 3},
    "ExponentialLR": {"gamma": 0.9},
    "PolynomialLR": {"total_iters": 4},
    "CosineAnnealingLR": {"T_max": 3},
    "CosineAnnealingWarmRestarts": {"T_0": 2},
    "CyclicLR": {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 2, "cycle_momentum": False},
    "OneCycleLR": {"max_lr": 0.1, "cycle_momentum": False},
    "ReduceLROnPlateau": {"patience": 0, "threshold": 1.0},
}


class Rates(L.Callback):
    """The learning rate of every step."""

    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any, **__: Any) -> None:
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def in_torchs_loop(create: Any, interval: Interval, losses: list[float]) -> list[float]:
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.05)
    scheduler: Any = create(optimizer)
    rates = []
    for loss in losses:
        for _ in range(STEPS):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if interval == "step":
                scheduler.step()
        if interval == "epoch":
            scheduler.step(*([loss] if isinstance(scheduler, ReduceLROnPlateau) else []))
    return rates


def schedules() -> list[str]:
    # Those that combine others, and the base class, have no schedule of their own.
    combining = ("LRScheduler", "SequentialLR", "ChainedScheduler")
    return [name for name in lr_scheduler.__all__ if name not in combining]


@pytest.mark.parametrize("interval", ["step", "epoch"])
@pytest.mark.parametrize("name", schedules())
def test_the_learning_rates_are_torchs(data_root: Path, tmp_path: Path, name: str, interval: Interval) -> None:
    if (name, interval) == ("ReduceLROnPlateau", "step"):
        pytest.skip("it receives a metric of the epoch")
    make = partial(getattr(lr_scheduler, name), **ARGUMENTS[name])
    total = {"total_steps": EPOCHS * (STEPS if interval == "step" else 1)} if name == "OneCycleLR" else {}
    settings = {"scheduler": make, "scheduler_interval": interval, "scheduler_monitor": "train/loss"}
    assert_equal_rates(data_root, tmp_path, settings, partial(make, **total), interval)


def test_a_schedule_of_several_is_a_function_of_the_optimizer(data_root: Path, tmp_path: Path) -> None:
    def make(optimizer: Optimizer) -> LRScheduler:
        warmup, decay = lr_scheduler.LinearLR(optimizer, total_iters=1), lr_scheduler.ExponentialLR(optimizer, 0.5)
        return lr_scheduler.SequentialLR(optimizer, [warmup, decay], milestones=[1])

    assert_equal_rates(data_root, tmp_path, {"scheduler": make}, make, "epoch")


def assert_equal_rates(
    data_root: Path, folder: Path, settings: dict[str, Any], reference: Any, interval: Interval
) -> None:
    rates = Rates()
    trainer, history = trainer_for(folder, rates, max_epochs=EPOCHS, limit_train_batches=STEPS, limit_val_batches=0)
    trainer.fit(small_classifier(**settings), small_datamodule(data_root))
    assert rates.rates == pytest.approx(in_torchs_loop(reference, interval, [r["train/loss"] for r in history.rows]))


def test_overrides_choose_the_class_the_interval_and_the_metric(tmp_path: Path) -> None:
    cfg = composed("train", "scheduler=plateau", "classifier.scheduler_monitor=val/acc", "scheduler.mode=max")
    classifier = instantiate(cfg.classifier)
    assert classifier.make_scheduler.func is ReduceLROnPlateau
    assert (classifier.scheduler_interval, classifier.scheduler_monitor) == ("epoch", "val/acc")
    cfg = composed("train", "scheduler=cosine", "classifier.scheduler_interval=step", "trainer.max_epochs=7")
    classifier = instantiate(cfg.classifier)
    assert (classifier.scheduler_interval, classifier.make_scheduler.keywords["T_max"]) == ("step", 7)
