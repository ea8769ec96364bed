"""Atomic file writes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_SUFFIX = ".part"


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
        temporary.unlink(missing_ok=True)


def write(path: Path, content: str | bytes | bytearray) -> None:
    """Write a file atomically; see `writing`."""
    with writing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def sweep(folder: Path) -> None:
    """Delete the temporary files of killed processes. No other process may be writing to the folder."""
    for leftover in folder.glob(f".*{_SUFFIX}"):
        leftover.unlink()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
