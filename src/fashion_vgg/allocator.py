"""How the C library hands out memory to the tensors of a CPU; only glibc is told, others do as they do."""

import ctypes
import platform

# From glibc's malloc.h.
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
M_MMAP_MAX = -4


def keep_freed_memory() -> None:
    """Let the process keep the memory that tensors free, for the next ones.

    By default glibc returns the large blocks to the system, which hands them out again page by page, each one zeroed:
    a third of a step's time at 224 px on a CPU. The price is that the process stays at its peak.
    """
    _tell(M_MMAP_MAX, 0)  # everything from the heap
    _tell(M_TRIM_THRESHOLD, -1)  # whose end is never given back


def return_freed_memory() -> None:
    """Go back to glibc's habit, as it is once a program has freed large blocks: its thresholds at their upper ends."""
    _tell(M_MMAP_MAX, 65_536)
    _tell(M_MMAP_THRESHOLD, 32 * 2**20)
    _tell(M_TRIM_THRESHOLD, 64 * 2**20)


def release() -> None:
    """Return what is free at this moment."""
    if _is_glibc():
        ctypes.CDLL(None).malloc_trim(0)


def _tell(parameter: int, value: int) -> None:
    if _is_glibc():
        ctypes.CDLL(None).mallopt(parameter, value)


def _is_glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"
