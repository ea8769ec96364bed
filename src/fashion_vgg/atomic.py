"""Atomic file writes, and what the file system must have for them and for locks."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_SUFFIX = ".fashion-vgg.part"
_LEFTOVER = re.compile(rf"\..+\.\d+{re.escape(_SUFFIX)}")


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces ``path`` when the block ends without an error.

    Readers see the previous file or the complete new one, also after a crash or a power failure: the content and the
    rename are synced to the disk. A killed process leaves a temporary file behind, which `sweep` deletes.

    Raises:
        OSError: the file could not be written; its ``filename`` is ``path``.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{_SUFFIX}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)  # or a power failure may undo the renaming
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with suppress(OSError):  # of a name that is too long, or if the folder has become read-only
            temporary.unlink()


def write(path: Path, content: str | bytes | bytearray) -> None:
    """Write a file atomically; see `writing`."""
    with writing(path) as file:
        file.write(content.encode(errors="backslashreplace") if isinstance(content, str) else content)


def sweep(folder: Path) -> None:
    """Delete the temporary files of killed processes. No other process may be writing to the folder."""
    for path in folder.iterdir():
        if _LEFTOVER.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            path.unlink()


def lacks_locks(error: OSError) -> bool:
    """Whether an error says that a file could be opened, but that its file system has no locks."""
    return error.filename is None and error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems sync files alone
            raise
    finally:
        os.close(descriptor)
