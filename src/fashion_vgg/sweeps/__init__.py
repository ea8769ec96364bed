"""Multirun sweeps that resume, and their search by Optuna."""

from fashion_vgg.sweeps.multirun import RecordSweep

__all__ = ["RecordSweep"]
