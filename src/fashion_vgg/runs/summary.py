"""The result of a finished run: ``summary.json`` and the two lines that the book prints."""

import json
import platform
import re
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import harmonic_mean
from typing import Any

import torch

from fashion_vgg import atomic
from fashion_vgg.runs.run import Metrics

PACKAGES = ("torch", "torchvision", "lightning", "torchmetrics", "hydra-core", "tensorboard")


def summarize(
    rows: Sequence[Metrics],
    test: Metrics,
    wall_seconds: float,
    device: torch.device,
    devices: int,
    overrides: Sequence[str],
    stopped_early: str | None = None,
    best_epoch: int | None = None,
) -> dict[str, Any]:
    """The content of ``summary.json``: metrics, cost, and what is needed to reproduce them.

    ``rows`` are the metrics of each epoch, at least one (see `History`). ``test`` are the test metrics of the
    checkpoint with the best validation accuracy; without a validation split they are empty, because the rows contain
    the test metrics. ``wall_seconds`` includes evaluation and checkpoints. ``device`` is the first one that trained.
    ``stopped_early`` is the reason if the training ended before its last epoch. ``best_epoch`` is that of the
    checkpoint that was tested; by default the one with the highest accuracy.
    """
    accuracy = "val/acc" if test else "test/acc"
    # Without a validation split this is for information only: the weights of the last step are the result.
    best = max((row for row in rows if accuracy in row), key=lambda row: row[accuracy], default=rows[-1])
    best = next((row for row in rows if row["epoch"] == best_epoch), best)
    speeds = [row["images_per_sec"] for row in rows if "images_per_sec" in row]
    return {
        "final": rows[-1],
        "best": {**best, **test},
        "epochs": len(rows),
        "stopped_early": stopped_early,
        "wall_seconds": round(wall_seconds, 3),
        "images_per_sec": round(harmonic_mean(speeds), 1) if speeds else None,
        "devices": devices,
        **environment(device, overrides),
    }


def environment(device: torch.device, overrides: Sequence[str]) -> dict[str, Any]:
    """What is needed to reproduce a measurement: hardware, versions, git commit, overrides."""
    return {
        "device": str(device),
        "device_name": device_name(device),
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), **{package: _version(package) for package in PACKAGES}},
        "git_commit": git_commit(),
        "overrides": list(overrides),
    }


def write(path: Path, summary: dict[str, Any]) -> None:
    """Write ``summary.json`` atomically. The file marks the run as finished."""
    finite = json.loads(json.dumps(summary), parse_constant=lambda _: None)  # JSON has no NaN and no infinities
    atomic.write(path, json.dumps(finite, indent=2) + "\n")


def result_lines(summary: dict[str, Any]) -> str:
    """The two lines that the book prints after a training: metrics, and examples per second.

    With a validation split the metrics are those of its best epoch, which is named. A line before them says why a
    training ended early.
    """
    names = {"loss": "train/loss", "train acc": "train/acc", "val acc": "val/acc", "test acc": "test/acc"}
    epochs, best = summary["epochs"], summary["best"]
    has_split = "val/acc" in best
    metrics = best if has_split else summary["final"]
    reason = f"Stopped after epoch {epochs}: {summary['stopped_early']}\n" if summary["stopped_early"] else ""
    epoch = f"best epoch {best['epoch']:.0f} of {epochs}: " if has_split else ""
    results = ", ".join(f"{label} {metrics[name]:.3f}" for label, name in names.items() if name in metrics)
    speed = f"\n{summary['images_per_sec']} examples/sec on {summary['device']}" if summary["images_per_sec"] else ""
    return f"{reason}{epoch}{results}{speed}"


def device_name(device: torch.device) -> str:
    """The model name of the GPU or of the CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    model = re.search(r"^model name\s*: (.+)", cpuinfo.read_text() if cpuinfo.exists() else "", re.MULTILINE)
    return model[1] if model else platform.processor() or platform.machine()


def git_commit() -> str | None:
    """The commit of the checkout, with ``-dirty`` if files are modified; None for an installed package."""
    checkout = Path(__file__).parents[3]
    git = ["git", f"--git-dir={checkout}/.git", f"--work-tree={checkout}"]  # not a repository around the checkout
    describe = [*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # a copy on PYTHONPATH
        return None
