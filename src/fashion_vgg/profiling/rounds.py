"""Loops measured side by side: in rounds, one after another in each, so that a busy moment strikes them alike.

Each loop has a process of its own, which waits while the others have their turn: how memory is handed out, and its
peak, are a whole process's.
"""

import contextlib
import gc
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch

from fashion_vgg.errors import UserError
from fashion_vgg.profiling import memory
from fashion_vgg.profiling.loops import Loop
from fashion_vgg.profiling.roofline import Ceilings, best_of, measure_ceilings
from fashion_vgg.training import allocator
from fashion_vgg.training.build import configure_lightning_logging

WARMUP = {"cpu": 1, "cuda": 5}
"""Steps before the time is taken: memory is claimed, and on a GPU kernels are chosen, compiled and recorded."""
MOST_STEPS = 400


@dataclass
class Result:
    """What a loop did, round by round."""

    loop: Loop
    steps: int = 1
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

    Raises:
        UserError: an epoch is too short to be timed, or a loop's process was killed.
    """
    for loop in loops:
        if loop.epoch <= WARMUP[device.type]:
            raise UserError(f"batch_size={loop.batch_size}: an epoch has too few steps to be timed; use a smaller one.")
    results = [Result(loop) for loop in loops]
    dtypes = list(dict.fromkeys(loop.dtype for loop in loops))
    ceilings = {dtype: measure_ceilings(device, dtype) for dtype in dtypes}
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(_process()) for _ in loops]
        for number in range(1, rounds + 1):
            for process, result in zip(processes, results, strict=True):
                _take_turn(process, result, block_seconds, device)
                speed = result.loop.batch_size / result.step_seconds[-1]
                print(f"round {number}/{rounds}  {result.loop.name:<24}{speed:>10,.1f} images/s", flush=True)
            for dtype in dtypes:
                ceilings[dtype] = best_of(ceilings[dtype], measure_ceilings(device, dtype))
    return Results(results, ceilings)


def joined(parts: Sequence[Results]) -> Results:
    """Several measurements of the same device as one."""
    ceilings: dict[torch.dtype, Ceilings] = {}
    for dtype, found in (item for part in parts for item in part.ceilings.items()):
        ceilings[dtype] = best_of(ceilings.get(dtype, found), found)
    return Results([result for part in parts for result in part.loops], ceilings)


def _process() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), configure_lightning_logging)


def _take_turn(process: ProcessPoolExecutor, result: Result, block_seconds: float, device: torch.device) -> None:
    def turn() -> tuple[float, int, int]:
        try:
            return process.submit(_turn, result.loop, WARMUP[device.type], result.steps, device).result()
        except BrokenProcessPool as error:
            raise UserError(
                f"{result.loop.name}: its process was killed, as the system does when memory runs out: "
                "use a smaller batch_size or image_size."
            ) from error

    figures = turn()
    within_an_epoch = min(MOST_STEPS, result.loop.epoch - WARMUP[device.type])  # its end is not part of a step
    if not result.step_seconds:  # the very first step says how many there are in a turn
        result.steps = max(1, min(within_an_epoch, round(block_seconds / figures[0])))
        figures = turn() if result.steps > 1 else figures
    seconds, host_bytes, device_bytes = figures
    result.step_seconds.append(seconds / result.steps)
    result.host_bytes = max(result.host_bytes, host_bytes)
    result.device_bytes = max(result.device_bytes, device_bytes)


def _turn(loop: Loop, warmup: int, steps: int, device: torch.device) -> tuple[float, int, int]:
    """In the loop's own process, which gives its memory back for the others' turns."""
    seconds = loop.seconds(warmup, steps)
    gc.collect()
    allocator.release()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return seconds, memory.host_peak(), memory.device_peak(device)
