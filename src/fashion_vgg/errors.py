"""Errors that the user sees as one or two lines, without a traceback, and the characters that such a line may have."""

import logging
import signal


class UserError(Exception):
    """A mistake that the user can correct: the message says what is wrong, where, and what to do."""

    status = 2


class LockedError(UserError):
    """Another process works in the folder."""


class CheckpointError(UserError):
    """A checkpoint is not one of the training that is to be resumed."""


class TrainingError(UserError):
    """A training failed although its settings are valid: it diverged, or one of its processes died."""

    status = 1


class ProcessError(TrainingError):
    """A process of a training died or hangs: resumed, the training may succeed."""


class DivergedError(TrainingError):
    """The loss is NaN or infinite."""


class PrunedError(TrainingError):
    """Optuna pruned the trial."""


class Stopped(BaseException):
    """A signal stopped the command.

    It derives from `BaseException`, so that no handler for failures catches it and starts a sweep's next job.

    Args:
        signum: the signal.
        message: by default the name of the signal.
    """

    def __init__(self, signum: int, message: str = "") -> None:
        super().__init__(message or f"Stopped by {signal.Signals(signum).name}.")
        self.signum = signum

    @property
    def status(self) -> int:
        """The exit status that shells use: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.signum


def printable(text: str) -> str:
    """Escape what a terminal or a page would act on instead of showing it: controls, line breaks, direction marks."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def printable_lines(text: str) -> str:
    """`printable`, except for the line breaks and the tabs of a text."""
    return "".join(char if char in "\n\t" else printable(char) for char in text)


class PrintableFormatter(logging.Formatter):
    """Formats log records of printable characters. The configs of Hydra's logging name it."""

    def format(self, record: logging.LogRecord) -> str:
        """The lines of a record."""
        return printable_lines(super().format(record))
