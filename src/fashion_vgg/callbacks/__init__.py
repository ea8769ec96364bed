"""The callbacks that Lightning does not have."""

from fashion_vgg.callbacks.checkpoints import Checkpoints
from fashion_vgg.callbacks.divergence_guard import DivergenceGuard
from fashion_vgg.callbacks.history import History
from fashion_vgg.callbacks.mistakes import Mistakes
from fashion_vgg.callbacks.pruner import Pruner
from fashion_vgg.callbacks.result_figure import ResultFigure
from fashion_vgg.callbacks.slow_run_notice import SlowRunNotice
from fashion_vgg.callbacks.step_curves import StepCurves
from fashion_vgg.callbacks.throughput import Throughput

__all__ = [
    "Checkpoints",
    "DivergenceGuard",
    "History",
    "Mistakes",
    "Pruner",
    "ResultFigure",
    "SlowRunNotice",
    "StepCurves",
    "Throughput",
]
