"""Signals that ask a command to stop: Ctrl-C, SIGTERM, and SIGUSR1, with which SLURM can announce the end of a job.

A signal ends a command at once, by an exception that lets every ``finally`` run. A training puts it off to the end of
the step under way, to save a checkpoint; a second signal then ends it at once all the same.
"""

import signal
import threading
from collections.abc import Callable
from types import FrameType

from fashion_vgg.errors import Stopped

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]  # no Windows

_received = 0
_raised: Callable[[int], BaseException] = Stopped
_put_off = False


def listen() -> None:
    """Take over the signals, also from Lightning, which does when a fit begins."""
    if threading.current_thread() is threading.main_thread():
        for signum in _SIGNALS:
            signal.signal(signum, _handle)


def listen_beside_ray() -> None:
    """Take over the signals from Ray, too, whose waiting is ended by a `KeyboardInterrupt` alone."""
    global _raised
    listen()
    _raised = KeyboardInterrupt


def put_off() -> None:
    """From now on a first signal is only remembered (see `received`)."""
    global _put_off
    listen()
    _put_off = True


def at_once() -> None:
    """From now on a signal ends the command at once.

    Raises:
        Stopped: there was one.
    """
    global _put_off
    _put_off = False
    if _received:
        raise Stopped(_received)


def received() -> int:
    """The signal that asked to stop, 0 where there was none."""
    return _received


def _handle(signum: int, frame: FrameType | None) -> None:
    global _received
    again, _received = _received, signum
    if again or not _put_off:
        raise _raised(signum)
