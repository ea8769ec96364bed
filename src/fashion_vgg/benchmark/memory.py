"""Peaks of memory."""

import gc
from pathlib import Path

import torch

from fashion_vgg import allocator

_SELF = Path("/proc/self")  # Linux's; elsewhere the peak stays 0, unknown


def reset_peaks(device: torch.device) -> None:
    """Forget the peaks so far, and give back what is free, so that the next peaks are those of what runs next."""
    gc.collect()
    allocator.release()
    if (_SELF / "clear_refs").exists():
        (_SELF / "clear_refs").write_text("5")
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def host_peak() -> int:
    """Bytes of this process, without the loader's processes, at the most since `reset_peaks`."""
    return _status("VmHWM")


def host_now() -> int:
    """Bytes of this process."""
    return _status("VmRSS")


def device_peak(device: torch.device) -> int:
    """Bytes of tensors on the GPU at the most since `reset_peaks`."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0


def _status(field: str) -> int:
    path = _SELF / "status"
    if not path.exists():
        return 0
    [line] = [line for line in path.read_text().splitlines() if line.startswith(f"{field}:")]
    return int(line.split()[1]) * 1024
