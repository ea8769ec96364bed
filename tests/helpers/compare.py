"""Compares two runs bit for bit, apart from times and paths."""

import json
import math
from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

TIMES = {"images_per_sec", "training/images_per_sec", "seconds", "wall_seconds", "git_commit", "overrides"}
PATHS = {"run", "dirpath", "best_model_path", "kth_best_model_path", "best_k_models", "last_model_path"}
# Counts of the steps of the current epoch: Lightning reads the totals only, and omits these when it starts an epoch.
# It counts a schedule by the epoch after the epoch's checkpoint, and never reads that.
# It does not restore the last score that was compared with the best ones.
UNREAD = (
    "/current_score",
    "scheduler_progress/current",
    "scheduler_progress/total",
    "optimizer/step/current",
    "optimizer/zero_grad/current",
)


def assert_equal(one: Path, other: Path) -> None:
    """Two runs of three epochs have equal weights, optimizer, schedule, counters, metrics and TensorBoard curves."""
    for checkpoint in ("last.ckpt", "best.ckpt"):
        a, b = (torch.load(run / checkpoint, weights_only=True) for run in (one, other))
        assert_same(a, b, checkpoint)
    a, b = (json.loads((run / "summary.json").read_text()) for run in (one, other))
    assert_same(a, b, "summary.json")
    assert_same(curves(one), curves(other), "events")
    lines = (other / "metrics.csv").read_text().splitlines()
    assert [line.partition(",")[0] for line in lines] == ["epoch", "1", "2", "3"]


def curves(run: Path) -> dict[str, Any]:
    """TensorBoard's scalars as (step, value) by tag; checks that every epoch of three has one point.

    Those of the test of the best checkpoint have two points. Nor are there two for a reader of the files that does not
    drop what a resumed training repeats.
    """
    points = [
        (value.tag, event.step)
        for path in run.glob("events.*")
        for event in EventFileLoader(str(path)).Load()
        for value in event.summary.value
    ]
    assert len(points) == len({*points}), sorted(points)
    events: Any = EventAccumulator(str(run)).Reload()
    scalars = {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    found = {tag: [step for step, _ in points] for tag, points in scalars.items()}
    assert all(points == [1, 2, 3] for tag, points in found.items() if points != [2, 3] or "train" in tag), found
    return scalars


def assert_same(one: Any, other: Any, where: str) -> None:
    """Tensors, numbers and strings in nested dicts and lists are equal; NaN equals NaN."""
    if where.endswith(UNREAD):
        pass
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one.keys() - TIMES - PATHS:
            assert_same(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for index, pair in enumerate(zip(one, other, strict=True)):
            assert_same(*pair, f"{where}/{index}")
    else:
        assert one == other or (one != one and other != other and math.isnan(one)), (where, one, other)
