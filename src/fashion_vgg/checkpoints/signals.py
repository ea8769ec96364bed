"""Signals that stop a command: Ctrl-C, SIGTERM, and SIGUSR1, which SLURM can send before a job's time limit.

A signal raises `Stopped` at once, so that every ``finally`` runs. During training it is deferred to the end of the
step, where a checkpoint is saved; a second signal raises at once.
"""

import signal
import threading
from types import FrameType

from fashion_vgg.errors import Stopped

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]  # no Windows

_received = 0
_exception: type[BaseException] = Stopped
_deferred = False


def listen(exception: type[BaseException] = Stopped) -> None:
    """Install the handlers, also in place of Lightning's, which a fit installs.

    Args:
        exception: what a signal raises; Ray's own waiting is ended by a `KeyboardInterrupt` alone.
    """
    global _exception
    _exception = exception
    if threading.current_thread() is threading.main_thread():
        for signum in _SIGNALS:
            signal.signal(signum, _handle)


def defer() -> None:
    """Only remember the first signal from now on (see `received`)."""
    global _deferred
    listen(_exception)
    _deferred = True


def undefer() -> None:
    """Raise on a signal from now on, and on one that was deferred."""
    global _deferred
    _deferred = False
    if _received:
        raise Stopped(_received)


def received() -> int:
    """The signal that was received, 0 if none was."""
    return _received


def _handle(signum: int, frame: FrameType | None) -> None:
    global _received
    again, _received = _received, signum
    if again or not _deferred:
        raise _exception(signum)
