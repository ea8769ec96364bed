"""The standard streams, which the caller may have closed, redirected to a full disk, or given an ASCII encoding."""

import io
import logging
import os
import select
import sys
from contextlib import suppress


def prepare() -> None:
    """Make every standard stream usable, and ignore errors of log handlers.

    A closed stream becomes the null device; characters that an encoding lacks are escaped. A training continues without
    its terminal: it has a log file and checkpoints.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:  # the lowest free number: that of a closed stream
        pass
    os.close(descriptor)
    for number, (name, mode) in enumerate({"stdin": "r", "stdout": "w", "stderr": "w"}.items()):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with suppress(OSError):  # of a file that was replaced by a terminal, which has no position
                stream.reconfigure(errors="backslashreplace")
    logging.raiseExceptions = False


def has_reader() -> bool:
    """Whether stdout is no pipe, or one whose reader has not gone."""
    poll = select.poll()
    poll.register(1, 0)
    return not any(event & select.POLLERR for _, event in poll.poll(0))


def flush() -> OSError | None:
    """Flush stdout; if it cannot be written, discard the output and return the error."""
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python writes once more at its end
        return error
    return None
