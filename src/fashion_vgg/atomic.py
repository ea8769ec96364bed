"""Files that are whole or absent."""

import os
from pathlib import Path


def write(path: Path, content: str | bytes | bytearray) -> None:
    """Write beside ``path``, then rename: a reader sees the old file or the new one, never half of it."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
