"""Turns errors into one or two lines on stderr and an exit status, for every command."""

import errno
import io
import os
import re
import shutil
import sys
import traceback
from contextlib import ContextDecorator
from pathlib import Path
from typing import Any

from fashion_vgg import streams
from fashion_vgg.checkpoints import signals
from fashion_vgg.config import launch
from fashion_vgg.errors import Stopped, UserError, printable_lines


class reported_errors(ContextDecorator):  # noqa: N801 # named like the context managers of contextlib
    """Print the message of an error that the user can correct, and exit.

    The exit status is 2 for a mistake, 1 for a training that failed, and 128 plus the signal's number after a signal.
    An error without a message (see `explain`) is raised, and so are all errors if ``HYDRA_FULL_ERROR`` is set. The jobs
    of a multirun raise theirs to Hydra, which runs the other jobs first.

    A class, since Hydra's launchers pickle the functions that it decorates.
    """

    def __init__(self, command: str) -> None:
        self.command = command

    def __enter__(self) -> None:
        self.tracebacks_wanted = _tracebacks_wanted()

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> bool:
        if signals.received() and not isinstance(error, Stopped | SystemExit):  # a library caught or replaced it
            stopped = Stopped(signals.received())
            stopped.__notes__ = getattr(error, "__notes__", [])
            error = stopped
        read, unwritten = streams.has_reader(), streams.flush()
        if error is None or (isinstance(error, BrokenPipeError) and not read):
            if unwritten is None or not read:  # a reader may go before the end, as `head` does
                return True
            error = UserError(f"The output cannot be written: {unwritten.strerror}.")
        if isinstance(error, Stopped):
            if launch.is_rank_zero():
                signals.report(with_notes(error, str(error)).replace("\n", " "))
            sys.exit(error.status)
        if self.tracebacks_wanted or _in_sweep() or (message := explain(error, self.command)) is None:
            return False
        signals.report(with_notes(error, message))
        sys.exit(error.status if isinstance(error, UserError) else UserError.status)


def with_notes(error: BaseException, message: str) -> str:
    """The message, and below it the notes that were added to the error."""
    return printable_lines("\n".join([message, *getattr(error, "__notes__", ())]))


def explain(error: BaseException, command: str) -> str | None:
    """One or two lines about an error that the user can correct, None for any other error."""
    match error:
        case UserError():
            return str(error)
        case MemoryError() | OSError() | ImportError() | RuntimeError() if _is_out_of_memory(error):
            return "The memory does not suffice: end other programs, or raise the limit (ulimit -v)."
        case RecursionError():
            return "A value is nested too deeply, or refers to itself."
        case OSError(errno=errno.ENOSPC | errno.EDQUOT | errno.EROFS | errno.EFBIG):
            path = error.filename or _open_file(error)
            free = f" ({_free_space(Path(path))})" if path and error.errno == errno.ENOSPC else ""
            return f"{path or 'A file'} cannot be written: {error.strerror}{free}. Use another folder or disk."
        case OSError(errno=int(), filename=str(file)):
            return f"{file}: {error.strerror}. Use another file or folder."
    if "hydra" in sys.modules:  # `runs` and `report` do without
        from fashion_vgg.config import hydra_errors

        return hydra_errors.explain(error, command)
    return None


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether the operating system refused memory to Python, to the dynamic linker, to torch, or for a thread."""
    refused = r"annot allocate memory|can't allocate memory|failed to map segment|can't start new thread|std::bad_alloc"
    return isinstance(error, MemoryError) or re.search(refused, str(error)) is not None


def _tracebacks_wanted() -> bool:
    """Whether the user set HYDRA_FULL_ERROR; otherwise set it, so that Hydra raises errors instead of printing them."""
    ours = "FASHION_VGG_SET_FULL_ERROR"  # read by the processes that this one starts
    if "HYDRA_FULL_ERROR" not in os.environ:
        os.environ |= {"HYDRA_FULL_ERROR": "1", ours: "1"}
    return ours not in os.environ


def _in_sweep() -> bool:
    if "hydra" not in sys.modules:
        return False
    from fashion_vgg.config.app import in_sweep

    return in_sweep()


def _open_file(error: OSError) -> str | None:
    """The file that the innermost frame has open: an error of a write does not name it."""
    for frame, _ in reversed([*traceback.walk_tb(error.__traceback__)]):
        for value in frame.f_locals.values():
            name = getattr(value, "name", None) if isinstance(value, io.IOBase) else None
            if isinstance(name, str | bytes) and Path(os.fsdecode(name)).exists():  # not "<stdout>"
                return os.fsdecode(name)
    return None


def _free_space(path: Path) -> str:
    existing = next(folder for folder in path.absolute().parents if folder.exists())
    return f"{shutil.disk_usage(existing).free / 1e6:,.1f} MB are free"
