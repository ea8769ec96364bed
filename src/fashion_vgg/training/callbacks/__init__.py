"""Callbacks for ``lightning.Trainer``."""

from fashion_vgg.training.callbacks.divergence_guard import DivergenceGuard
from fashion_vgg.training.callbacks.history import History
from fashion_vgg.training.callbacks.prediction_plots import PredictionPlots
from fashion_vgg.training.callbacks.result_plot import ResultPlot
from fashion_vgg.training.callbacks.slow_run_notice import SlowRunNotice
from fashion_vgg.training.callbacks.step_curves import StepCurves
from fashion_vgg.training.callbacks.throughput import Throughput

__all__ = [
    "DivergenceGuard",
    "History",
    "PredictionPlots",
    "ResultPlot",
    "SlowRunNotice",
    "StepCurves",
    "Throughput",
]
