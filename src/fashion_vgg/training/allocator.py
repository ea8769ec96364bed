"""How the C library hands out memory to the tensors of a CPU."""

import ctypes
import platform

# From glibc's malloc.h.
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4


def keep_freed_memory() -> None:
    """Let the process keep the memory that tensors free, for the next ones; only glibc is told, others do as they do.

    By default glibc returns the large blocks to the system, which hands them out again page by page, each one zeroed:
    a third of a step's time at 224 px on a CPU. The price is that the process stays at its peak.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)  # everything from the heap
        libc.mallopt(M_TRIM_THRESHOLD, -1)  # whose end is never given back


def release() -> None:
    """Give back what is free at this moment."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
