"""Peak memory of a process and of a GPU."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch


def own_process(initializer: Callable[[], None] | None = None) -> ProcessPoolExecutor:
    """A new process, so that its peak memory is that of the work submitted to it."""
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer)


def process_bytes() -> int:
    """Memory of this process without its children; 0 if unknown, on systems other than Linux."""
    return _status("VmRSS")


def process_peak() -> int:
    """The largest `process_bytes` so far. Unlike ``ru_maxrss``, it is not inherited from the parent process."""
    return _status("VmHWM")


def gpu_peak(device: torch.device) -> int:
    """The most bytes that tensors occupied on the GPU; 0 for a CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0


def _status(key: str) -> int:
    path = Path("/proc/self/status")
    lines = path.read_text().splitlines() if path.exists() else []
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))
