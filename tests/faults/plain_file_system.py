"""A FUSE file system as some network storage is: a folder without hard links, locks, and synced folders.

Run as a script: ``python plain_file_system.py <folder> <mount point>``; it ends when it is unmounted.
"""

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mfusepy  # type: ignore[import-not-found, unused-ignore]


def at(function: Callable[..., Any]) -> Callable[..., Any]:
    """An operation on the file of that path in the folder."""
    return lambda self, path, *args: function(self.root + path, *args)


def of_open_file(function: Callable[..., Any]) -> Callable[..., Any]:
    """An operation on an open file, which is the last argument."""
    return lambda self, path, *args: function(args[-1], *args[:-1])


def refused(number: int) -> Callable[..., Any]:
    """An operation that the file system lacks."""

    def refuse(*args: Any) -> None:
        raise mfusepy.FuseOSError(number)

    return refuse


def status(path: str, *_: Any) -> dict[str, int]:
    found = os.lstat(path)
    names = ("st_mode", "st_nlink", "st_size", "st_uid", "st_gid")
    return {name: getattr(found, name) for name in names} | {"st_mtime": found.st_mtime_ns}


class Plain(mfusepy.Operations):  # type: ignore[misc, unused-ignore]
    """Passes every operation on to a folder, except those that it lacks."""

    use_ns = True

    def __init__(self, root: str) -> None:
        self.root = root

    chmod, chown, mkdir, rmdir, unlink = at(os.chmod), at(os.chown), at(os.mkdir), at(os.rmdir), at(os.unlink)
    getattr, readdir = at(status), at(lambda path, *_: [".", "..", *os.listdir(path)])  # noqa: PTH208
    open, create = at(os.open), at(lambda path, mode, *_: os.open(path, os.O_RDWR | os.O_CREAT, mode))
    truncate = at(lambda path, length, *_: os.truncate(path, length))
    read, write = of_open_file(os.pread), of_open_file(os.pwrite)
    release, fsync = of_open_file(os.close), of_open_file(lambda file, *_: os.fsync(file))
    link, flock, lock, fsyncdir = (
        refused(errno.EPERM),
        refused(errno.ENOLCK),
        refused(errno.ENOLCK),
        refused(errno.EINVAL),
    )

    def rename(self, old: str, new: str) -> None:
        Path(self.root + old).replace(self.root + new)


if __name__ == "__main__":
    mfusepy.FUSE(Plain(str(Path(sys.argv[1]).resolve())), sys.argv[2], foreground=True, nothreads=True)
