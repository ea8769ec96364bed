"""The exceptions that are shown to the user as their message alone, without a traceback."""

import signal


class UserError(Exception):
    """A mistake or a circumstance that the user can mend: the message says what was wrong, where, and what to do."""

    status = 2


class TrainingError(UserError):
    """A training that went wrong though its settings are valid: it diverged, or a process of it died."""

    status = 1


class DivergedError(TrainingError):
    """The loss is no number any more."""


class PrunedError(TrainingError):
    """A search gave up a training that is worse than others were by then."""


class Stopped(BaseException):
    """A signal asked the command to stop.

    Not an `Exception`, so that nothing on the way, a sweep's next job least of all, takes it for a failure and goes on.

    Args:
        signum: the signal; 0 in the further processes of a training, which end without a word when the first one stops.
    """

    def __init__(self, signum: int, message: str = "") -> None:
        super().__init__(message)
        self.signum = signum

    @property
    def status(self) -> int:
        """The exit status by the shell's rule: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.signum if self.signum else 0

    def __str__(self) -> str:
        said = super().__str__()
        return said or (f"Stopped by {signal.Signals(self.signum).name}." if self.signum else "")
