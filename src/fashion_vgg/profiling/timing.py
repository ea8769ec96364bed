"""Times training loops in alternating rounds, so that other load on the machine affects all of them alike.

Each loop has its own process, because the allocator's state and the peak memory belong to a process.
"""

import contextlib
import gc
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch

from fashion_vgg.errors import UserError
from fashion_vgg.profiling import memory
from fashion_vgg.profiling.loops import Loop
from fashion_vgg.profiling.roofline import Ceilings, measure_ceilings, min_seconds
from fashion_vgg.training import allocator
from fashion_vgg.training.build import configure_lightning_logging

# Untimed steps at the start of a turn: they allocate memory, and on a GPU they choose and compile kernels. On a CPU the
# allocator requests the last pages from the system in the third step.
WARMUP = {"cpu": 3, "cuda": 5}


@dataclass
class Result:
    """The measurements of a loop."""

    loop: Loop
    steps: int = 1  # per turn
    step_seconds: list[float] = field(default_factory=list)  # of each round
    host_bytes: int = 0
    device_bytes: int = 0

    def speedup_over(self, other: "Result") -> float:
        """Ratio of the images/s, the median over the rounds."""
        rounds = zip(self.step_seconds, other.step_seconds, strict=True)
        images: float = self.loop.batch_size / other.loop.batch_size  # ratio per step
        return images * median(theirs / ours for ours, theirs in rounds)

    def share_of_limit(self, ceilings: Ceilings) -> float:
        """The least time of a step, over its median time."""
        return min_seconds(self.loop.passes, ceilings) / median(self.step_seconds)

    def to_dict(self, ceilings: Ceilings) -> dict[str, Any]:
        """Medians over the rounds; the spread is half the difference between the fastest and the slowest round.

        A share of the limit above 1 is None: the limit was measured too low.
        """
        batch_size, passes, share = self.loop.batch_size, self.loop.passes, self.share_of_limit(ceilings)
        return {
            "name": self.loop.name,
            "image_size": self.loop.image_size,
            "batch_size": batch_size,
            "dtype": str(self.loop.dtype).removeprefix("torch."),
            "images_per_sec": batch_size / median(self.step_seconds),
            "images_per_sec_spread": batch_size * (1 / min(self.step_seconds) - 1 / max(self.step_seconds)) / 2,
            "step_seconds": self.step_seconds,
            "host_bytes": self.host_bytes,
            "device_bytes": self.device_bytes,
            "gflop_per_image": sum(each.flop for each in passes) / batch_size / 1e9,
            "min_mb_per_image": sum(each.bytes_moved for each in passes) / batch_size / 1e6,
            "limit_images_per_sec": batch_size / min_seconds(passes, ceilings),
            "share_of_limit": share if share <= 1 else None,
        }


@dataclass
class Benchmark:
    """Loops timed on one device, and the ceilings of the device for each dtype."""

    device: torch.device
    rounds: int
    turn_seconds: float  # approximately: a turn has at least one step
    results: list[Result] = field(default_factory=list)
    ceilings: dict[torch.dtype, Ceilings] = field(default_factory=dict)

    def measure(self, *loops: Loop) -> list[Result]:
        """Time the loops in turn, and measure the ceilings before the first round and after each one.

        A loop that is faster than its limit shows that other programs slowed the measurement of the ceilings: they are
        measured once more.

        Raises UserError if an epoch is too short to be timed, or the process of a loop was killed.
        """
        for loop in loops:
            if loop.steps_per_epoch <= WARMUP[self.device.type]:
                raise UserError(f"batch_size={loop.batch_size}: an epoch has too few steps to time; use a smaller one.")
        results = [Result(loop) for loop in loops]
        self._measure_ceilings(results)
        with contextlib.ExitStack() as stack:
            processes = [stack.enter_context(memory.own_process(configure_lightning_logging)) for _ in loops]
            for number in range(1, self.rounds + 1):
                for process, result in zip(processes, results, strict=True):
                    self._take_turn(process, result)
                    speed = result.loop.batch_size / result.step_seconds[-1]
                    print(f"round {number}/{self.rounds}  {result.loop.name:<18}{speed:>10,.1f} images/s", flush=True)
                self._measure_ceilings(results)
        if any(result.share_of_limit(self.ceilings[result.loop.dtype]) > 1 for result in results):
            self._measure_ceilings(results)
        self.results += results
        return results

    def to_dict(self) -> dict[str, Any]:
        """All results, for JSON."""
        return {
            "ceilings": {str(dtype).removeprefix("torch."): c._asdict() for dtype, c in self.ceilings.items()},
            "loops": [result.to_dict(self.ceilings[result.loop.dtype]) for result in self.results],
        }

    def _measure_ceilings(self, results: list[Result]) -> None:
        for dtype in dict.fromkeys(result.loop.dtype for result in results):
            measured = measure_ceilings(self.device, dtype)
            self.ceilings[dtype] = Ceilings(*map(max, measured, self.ceilings.get(dtype, measured)))

    def _take_turn(self, process: ProcessPoolExecutor, result: Result) -> None:
        loop, warmup = result.loop, WARMUP[self.device.type]
        try:
            seconds, *peaks = process.submit(_turn, loop, warmup, result.steps, self.device).result()
            if not result.step_seconds:  # the first step determines the number of steps per turn
                within_epoch = loop.steps_per_epoch - warmup  # the end of an epoch is not part of a step
                result.steps = max(1, min(within_epoch, round(self.turn_seconds / seconds)))
                if result.steps > 1:
                    seconds, *peaks = process.submit(_turn, loop, warmup, result.steps, self.device).result()
        except BrokenProcessPool as error:
            problem = f"{loop.name}: its process was killed, probably because memory ran out"
            raise UserError(f"{problem}: use a smaller batch_size or image_size.") from error
        result.step_seconds.append(seconds / result.steps)
        result.host_bytes, result.device_bytes = peaks  # since the start of the process


def _turn(loop: Loop, warmup: int, steps: int, device: torch.device) -> tuple[float, int, int]:
    """Time a loop in its own process, then free its memory for the other loops."""
    seconds = loop.time_steps(warmup, steps)
    gc.collect()
    allocator.release_freed_memory()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return seconds, memory.process_memory("VmHWM"), memory.gpu_peak(device)
