"""Whether two runs are equal to the last bit, but for how long they took."""

import json
import math
from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

TIMES = {"images_per_sec", "seconds", "wall_seconds", "git_commit", "overrides"}
PATHS = {"dirpath", "best_model_path", "kth_best_model_path", "best_k_models", "last_model_path"}
# Lightning's counts of an epoch's steps: it reads the totals alone, and leaves these out when it begins an epoch anew.
UNREAD = ("scheduler_progress/current", "optimizer/step/current", "optimizer/zero_grad/current")


def assert_equal(one: Path, other: Path) -> None:
    """Weights, optimizer, schedule, counters, figures and curves."""
    for checkpoint in ("last.ckpt", "best.ckpt"):
        a, b = (torch.load(run / checkpoint, weights_only=True) for run in (one, other))
        assert_same(a, b, checkpoint)
    a, b = (json.loads((run / "summary.json").read_text()) for run in (one, other))
    assert_same(a, b, "summary.json")
    assert_same(curves(one), curves(other), "events")
    lines = (other / "metrics.csv").read_text().splitlines()
    assert [line.partition(",")[0] for line in lines] == ["epoch", "1", "2", "3"]


def curves(run: Path) -> dict[str, Any]:
    """TensorBoard's, each with its steps: every epoch once."""
    events: Any = EventAccumulator(str(run)).Reload()
    scalars = {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert all([step for step, _ in c] == [1, 2, 3] for tag, c in scalars.items() if tag[:5] != "best/"), scalars
    return scalars


def assert_same(one: Any, other: Any, where: str) -> None:
    """Tensors, numbers and texts, in whatever dictionaries and lists."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif where.endswith(UNREAD):
        pass
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
