"""Saving and resuming a training, and reading and publishing weights."""

from typing import Any


def __getattr__(name: str) -> Any:
    # Lazy: resume and signals run before torch and Lightning are imported.
    if name == "PeriodicCheckpoint":
        from fashion_vgg.checkpoints.periodic import PeriodicCheckpoint

        return PeriodicCheckpoint
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
