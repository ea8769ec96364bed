"""Signals that stop a command: Ctrl-C, SIGTERM, and SIGUSR1 or SIGUSR2, which SLURM sends before a time limit.

A signal raises `Stopped` at once, so that every ``finally`` runs. During training it is deferred to the end of the
step, where a checkpoint is saved; a second signal raises at once.

Python calls no handler while the main thread runs C code, such as a collective that waits for a process that hangs, and
a library may catch the exception. Therefore a thread ends the command if the main thread does not.
"""

import multiprocessing
import os
import signal
import socket
import sys
import threading
from types import FrameType
from typing import Any, NoReturn

from fashion_vgg.config import launch
from fashion_vgg.errors import Stopped, UserError

_NAMES = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2")
SIGNALS = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]  # Windows lacks some
SECONDS, SECONDS_AGAIN = 20, 5
"""The time that the main thread has to end the command, after a signal and after a further one."""

children: list[Any] = []
"""Further processes of the training, which are killed if the main thread does not end the command."""
hint = ""
"""How to resume, once there is a run."""

_received = 0
_exception: type[BaseException] = Stopped
_deferred = _reported = False
_wakeup = -1


def listen(exception: type[BaseException] = Stopped) -> None:
    """Install the handlers, also in place of Lightning's, which a fit installs.

    Args:
        exception: what a signal raises; Ray's own waiting is ended by a `KeyboardInterrupt` alone.
    """
    global _exception, _wakeup
    _exception = exception
    if threading.current_thread() is not threading.main_thread():
        return
    for signum in SIGNALS:
        signal.signal(signum, _handle)
    if _wakeup < 0:
        numbers, written = socket.socketpair()
        written.setblocking(False)
        _wakeup = written.detach()  # open until the process ends
        if hasattr(os, "register_at_fork"):  # a forked process would write its own signals into it
            os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
        threading.Thread(target=_watch, args=[numbers], name="signals", daemon=True).start()
    signal.set_wakeup_fd(_wakeup, warn_on_full_buffer=False)  # it receives each signal's number at once


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
        stop(_received)


def received() -> int:
    """The signal that was received, 0 if none was."""
    return _received


def stop(signum: int, message: str = "") -> NoReturn:
    """Raise `Stopped` for a signal that was deferred, by this process or another one of the training."""
    end_after(SECONDS, Stopped(signum))
    raise Stopped(signum, message)


def report(message: str) -> None:
    """Print how the command ends, once: a signal that comes later changes nothing."""
    global _reported
    before, _reported = _reported, True
    if not before:
        print(message, file=sys.stderr, flush=True)


def end_after(seconds: float, error: Stopped | UserError) -> None:
    """End the command some seconds later, with a message and an exit status, unless the main thread has ended it."""
    timer = threading.Timer(seconds, _end, [error])
    timer.daemon = True
    timer.start()


def _handle(signum: int, frame: FrameType | None) -> None:
    global _received
    again, _received = _received, signum
    if (again or not _deferred) and not _reported:
        raise _exception(signum)


def _watch(numbers: socket.socket) -> None:
    again = False
    while received := numbers.recv(1):
        if received[0] in SIGNALS:
            if again or not _deferred:
                end_after(SECONDS_AGAIN if again else SECONDS, Stopped(received[0]))
            again = True


def _end(error: Stopped | UserError) -> None:
    if launch.is_rank_zero() or not isinstance(error, Stopped):
        report(f"{error} {hint}".strip())
    for process in [*children, *multiprocessing.active_children()]:
        process.kill()
    os._exit(error.status)
