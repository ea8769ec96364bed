"""The log file of a run."""

import logging


class LogFile(logging.FileHandler):
    """Raises the error of a line that cannot be written, for which `logging` would print a traceback."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: D102, N802
        raise  # in the handler of the error
