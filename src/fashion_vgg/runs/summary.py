"""What a finished run says of itself: the seed's two lines, and ``summary.json``."""

import json
import math
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import harmonic_mean
from typing import Any

import torch

from fashion_vgg import atomic

Row = dict[str, float]

PACKAGES = ("torch", "torchvision", "lightning", "torchmetrics", "hydra-core", "tensorboard")


def summarize(
    rows: Sequence[Row],
    test: Row,
    wall_seconds: float,
    device: torch.device,
    devices: int,
    overrides: Sequence[str],
) -> dict[str, Any]:
    """The content of ``summary.json``: figures, cost, and what it takes to repeat them.

    Args:
        rows: the figures by epoch, as a `History` keeps them.
        test: figures on the test set of the checkpoint that was best in validation; empty where there is no validation
            split, since the rows have them then.
        wall_seconds: of the training, with its evaluations and checkpoints.
        device: the one that trained, or the first of several.
        devices: how many of them trained.
        overrides: the command line's.
    """
    scored = "val/acc" if test else "test/acc"
    speeds = [row["images_per_sec"] for row in rows if "images_per_sec" in row]
    return {
        "final": rows[-1],
        # Under the seed's protocol this records the top of the curve and selects nothing: the last step is kept.
        "best": {**max((row for row in rows if scored in row), key=lambda row: row[scored], default=rows[-1]), **test},
        "epochs": len(rows),
        "wall_seconds": round(wall_seconds, 3),
        "images_per_sec": round(harmonic_mean(speeds), 1) if speeds else None,
        "devices": devices,
        **environment(device, overrides),
    }


def environment(device: torch.device, overrides: Sequence[str]) -> dict[str, Any]:
    """What it takes to repeat a figure: the hardware, the versions, the commit, the command line's overrides."""
    return {
        "device": str(device),
        "device_name": device_name(device),
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), **{package: _version(package) for package in PACKAGES}},
        "git_commit": git_commit(),
        "overrides": list(overrides),
    }


def write(path: Path, summary: dict[str, Any]) -> None:
    """Write it whole or not at all: where the file is, the run has finished."""
    atomic.write(path, json.dumps(_finite(summary), indent=2, allow_nan=False) + "\n")


def result_lines(summary: dict[str, Any]) -> str:
    """The two lines that the seed's trainer prints at its end: of the last step, or with a split of the best epoch."""
    names = {"loss": "train/loss", "train acc": "train/acc", "val acc": "val/acc", "test acc": "test/acc"}
    kept = summary["best" if "val/acc" in summary["best"] else "final"]
    figures = ", ".join(f"{label} {kept[name]:.3f}" for label, name in names.items() if name in kept)
    return f"{figures}\n{summary['images_per_sec']} examples/sec on {summary['device']}"


def _finite(value: Any) -> Any:
    """NaN and infinities, which JSON does not have, as None."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # a copy on PYTHONPATH
        return None


def device_name(device: torch.device) -> str:
    """The model of the GPU or of the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line for line in lines if line.startswith("model name")]
    return models[0].partition(": ")[2] if models else platform.processor() or platform.machine()


def git_commit() -> str | None:
    """The checkout's commit, with ``-dirty`` where files differ from it; None for an installed copy."""
    checkout = Path(__file__).parents[3]
    if not (checkout / ".git").exists():
        return None
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
