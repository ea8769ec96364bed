"""Files that are whole or absent."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_PART = ".part"


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """A file beside ``path``, which takes its name when it is whole and on the disk.

    A reader sees the old file or the new one, never half of it, whatever ends the process or the power. What a killed
    process leaves has a name of its own (see `sweep`).

    Raises:
        OSError: it could not be written; its ``filename`` is ``path``.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}{_PART}")
    try:
        with beside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        _sync(path.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        beside.unlink(missing_ok=True)


def write(path: Path, content: str | bytes | bytearray) -> None:
    """Write the content of a file whole or not at all (see `writing`)."""
    with writing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def sweep(folder: Path) -> None:
    """Delete what killed processes left half-written; no other process may be writing into the folder."""
    for leftover in folder.glob(f".*{_PART}"):
        leftover.unlink()


def _sync(folder: Path) -> None:
    """Put a renaming on the disk: until then the old name may come back after a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
