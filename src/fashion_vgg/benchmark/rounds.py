"""Loops measured side by side: in rounds, one after another in each, so that a busy moment strikes them alike."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch

from fashion_vgg.benchmark import memory
from fashion_vgg.benchmark.limit import Ceilings, measure_ceilings
from fashion_vgg.benchmark.loops import Loop

WARMUP = {"cpu": 1, "cuda": 5}
"""Steps before the time is taken: memory is claimed, and on a GPU kernels are chosen, compiled and recorded."""
MOST_STEPS = 400  # within an epoch, whose end is not part of a step


@dataclass
class Result:
    """What a loop did, round by round."""

    loop: Loop
    step_seconds: list[float] = field(default_factory=list)
    host_bytes: int = 0
    device_bytes: int = 0

    def times_faster(self, other: "Result") -> float:
        """Images a second over another's: the median of the ratios in the same round."""
        ratios = zip(self.step_seconds, other.step_seconds, strict=True)
        return median(theirs / ours for ours, theirs in ratios) * self.loop.batch_size / other.loop.batch_size

    def to_dict(self, ceilings: Ceilings) -> dict[str, Any]:
        """Medians over the rounds; the spread is half of the way from the slowest to the fastest."""
        batch_size, dtype = self.loop.batch_size, self.loop.dtype
        speed = batch_size / median(self.step_seconds)
        limit = batch_size / self.loop.work.least_seconds(batch_size, ceilings, dtype.itemsize)
        return {
            "name": self.loop.name,
            "batch_size": batch_size,
            "images_per_sec": speed,
            "images_per_sec_spread": batch_size * (1 / min(self.step_seconds) - 1 / max(self.step_seconds)) / 2,
            "step_seconds": self.step_seconds,
            "host_bytes": self.host_bytes,
            "device_bytes": self.device_bytes,
            "gflop_an_image": self.loop.work.flop_an_image() / 1e9,
            "least_mb_an_image": self.loop.work.bytes_an_image(batch_size, dtype.itemsize) / 1e6,
            "limit_images_per_sec": limit,
            "share_of_limit": speed / limit,
        }


@dataclass
class Results:
    """All loops', and the ceilings of the hardware by type of number."""

    loops: list[Result]
    ceilings: dict[torch.dtype, Ceilings]

    def to_dict(self) -> dict[str, Any]:
        """For the JSON."""
        return {
            "ceilings": {str(dtype).rpartition(".")[2]: c._asdict() for dtype, c in self.ceilings.items()},
            "loops": [result.to_dict(self.ceilings[result.loop.dtype]) for result in self.loops],
        }


def measure(loops: Sequence[Loop], rounds: int, block_seconds: float, device: torch.device) -> Results:
    """Time every loop in each round, for about so many seconds of steps but one step at least.

    The ceilings are measured before the first and after each round, and the best counts.
    """
    results = [Result(loop) for loop in loops]
    dtypes = {loop.dtype for loop in loops}
    ceilings = {dtype: measure_ceilings(device, dtype) for dtype in dtypes}
    steps: dict[str, int] = {}
    for number in range(1, rounds + 1):
        for loop, result in zip(loops, results, strict=True):
            if loop.name not in steps:
                steps[loop.name] = _steps_in(block_seconds, loop, device)
            memory.reset_peaks(device)
            seconds = loop.seconds(WARMUP[device.type], steps[loop.name])
            result.step_seconds.append(seconds / steps[loop.name])
            result.host_bytes = max(result.host_bytes, memory.host_peak())
            result.device_bytes = max(result.device_bytes, memory.device_peak(device))
            speed = loop.batch_size / result.step_seconds[-1]
            print(f"round {number}/{rounds}  {loop.name:<24}{speed:>10,.1f} images/s", flush=True)
        for dtype in dtypes:
            again = measure_ceilings(device, dtype)
            ceilings[dtype] = Ceilings(*map(max, ceilings[dtype], again))
    return Results(results, ceilings)


def _steps_in(seconds: float, loop: Loop, device: torch.device) -> int:
    return max(1, min(MOST_STEPS, round(seconds / loop.seconds(WARMUP[device.type], 1))))
