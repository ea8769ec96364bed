"""Peaks of memory."""

from pathlib import Path

import torch


def host_peak() -> int:
    """Bytes of this process at the most, without processes that it started; 0, unknown, where this is not Linux."""
    return _status("VmHWM")


def host_now() -> int:
    """Bytes of this process."""
    return _status("VmRSS")


def device_peak(device: torch.device) -> int:
    """Bytes of tensors on the GPU at the most; 0 for a CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0


def _status(field: str) -> int:
    path = Path("/proc/self/status")
    if not path.exists():
        return 0
    [line] = [line for line in path.read_text().splitlines() if line.startswith(f"{field}:")]
    return int(line.split()[1]) * 1024
