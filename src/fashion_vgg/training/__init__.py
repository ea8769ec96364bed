"""The LightningModule, the Trainer and its callbacks."""

from fashion_vgg.training.callbacks import (
    DivergenceGuard,
    History,
    PredictionPlots,
    ResultPlot,
    SlowRunNotice,
    StepCurves,
    Throughput,
)
from fashion_vgg.training.classifier import ImageClassifier

__all__ = [
    "DivergenceGuard",
    "History",
    "ImageClassifier",
    "PredictionPlots",
    "ResultPlot",
    "SlowRunNotice",
    "StepCurves",
    "Throughput",
]
