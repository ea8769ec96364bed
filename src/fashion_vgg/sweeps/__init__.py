"""Multirun sweeps that resume, and their search by Optuna."""

from fashion_vgg.sweeps.sweep_folder import RecordSweep

__all__ = ["RecordSweep"]
