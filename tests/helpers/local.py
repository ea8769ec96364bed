"""Servers of this machine, and what is awaited of them."""

import socket
import time
from collections.abc import Callable
from contextlib import ExitStack


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
