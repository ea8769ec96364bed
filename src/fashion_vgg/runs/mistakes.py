"""How the commands that are not Hydra's end where the user can mend something."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from fashion_vgg.errors import UserError


@contextmanager
def told() -> Iterator[None]:
    """A line instead of a traceback, and exit status 2; nothing at all where the reader has gone, as `head` does."""
    try:
        yield
        sys.stdout.flush()
    except UserError as error:
        sys.exit(_say(str(error), error.status))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python flushes into the pipe once more
    except OSError as error:
        sys.exit(_say(f"{error.filename}: {error.strerror}. Use another file or folder.", UserError.status))


def _say(message: str, status: int) -> int:
    print(message, file=sys.stderr)
    return status
