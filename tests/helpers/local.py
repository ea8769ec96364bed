"""Ports, waiting, commands on the PATH, and the memory of this process."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fashion_vgg.profiling.memory import process_memory


def free_ports(number: int) -> list[int]:
    """Ports of this machine that no server has, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def wait_until(reached: Callable[[], object], seconds: float) -> None:
    """Wait for a condition; it fails after a time."""
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, f"waited {seconds} s in vain"
        time.sleep(0.05)


@contextmanager
def memory_growth_below(limit: float) -> Iterator[None]:
    """Fails if the memory of this process grows by ``limit`` bytes or more at any moment within the block."""
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak, which an earlier test may have raised
    before = process_memory()
    yield
    assert process_memory("VmHWM") - before < limit


def path_with_srun(folder: Path) -> str:
    """A PATH with a command `srun` in the folder, which Lightning advises to use wherever it is on the PATH."""
    srun = folder / "srun"
    srun.write_text("#!/bin/sh\n")
    srun.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"
