"""Learning rate schedules: any class of `torch.optim.lr_scheduler`, updated after every step or after every epoch."""

import inspect
from collections.abc import Callable
from typing import Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

Interval = Literal["step", "epoch"]
Schedule = Callable[..., LRScheduler]
"""Creates a schedule from the optimizer, and from ``total_steps`` if it has a parameter of this name."""


def create(schedule: Schedule, optimizer: Optimizer, updates: int) -> LRScheduler:
    """The schedule of an optimizer, over this number of updates unless its ``total_steps`` are given."""
    is_given = "total_steps" in getattr(schedule, "keywords", {})
    return schedule(optimizer, **({"total_steps": updates} if _has_total_steps(schedule) and not is_given else {}))


def default_interval(schedule: Schedule) -> Interval:
    """``step`` for a schedule over a number of steps, ``epoch`` for any other."""
    return "step" if _has_total_steps(schedule) else "epoch"


def _has_total_steps(schedule: Schedule) -> bool:
    return "total_steps" in inspect.signature(schedule).parameters
