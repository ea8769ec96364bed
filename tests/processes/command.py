"""Starts `fashion-vgg`, by fork or in a new interpreter."""

import itertools
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import CompletedProcess

from tests.processes.process import ForkServer, Process

COMMAND = ("-m", "fashion_vgg")


class Command:
    """``fashion-vgg``: a call runs a command to its end, `start` returns at once."""

    def __init__(self, folder: Path, server: ForkServer) -> None:
        self._folder, self._server = folder, server
        self._numbers = itertools.count()
        self._started: list[Process] = []

    def __call__(
        self,
        *args: str,
        root: Path | None = None,
        env: Mapping[str, str | None] | None = None,
        fork: bool = True,
        timeout: float = 240,
        without: str | None = None,
    ) -> CompletedProcess[str]:
        """Run a command to its end, with the arguments of `start`; as if the package ``without`` were not installed."""
        code = f"import sys; sys.modules[{without!r}] = None; from fashion_vgg.__main__ import main; main()"
        program = ("-c", code) if without else COMMAND
        return self.start(*args, root=root, env=env, program=program, fork=fork).result(timeout)

    def start(
        self,
        *args: str,
        root: Path | None = None,
        env: Mapping[str, str | None] | None = None,
        program: Sequence[str] = COMMAND,
        fork: bool = True,
        stdout: int | None = None,
    ) -> Process:
        """Start a command.

        Args:
            args: its name and its arguments.
            root: the working directory, which gets ``outputs/``; None for a new one.
            env: environment variables that differ from this process's; None deletes one.
            program: Python's own arguments, such as ``-c <code>`` for a program instead of a command.
            fork: start it through the fork server; otherwise in a new interpreter, as a user does.
            stdout: a file descriptor, instead of `Process.stdout`.
        """
        folder = self._folder / str(next(self._numbers))
        folder.mkdir()
        root = root or folder / "root"
        root.mkdir(parents=True, exist_ok=True)
        merged = {**os.environ, "FASHION_VGG_ROOT": str(root), **(env or {})}
        variables = {name: value for name, value in merged.items() if value is not None}
        argv = [*program, *args]
        with (
            Path(os.devnull).open("rb") as nothing,
            (folder / "stdout").open("wb") as out,
            (folder / "stderr").open("wb") as err,
        ):
            streams = (nothing.fileno(), out.fileno() if stdout is None else stdout, err.fileno())
            handle = self._server.start(argv, variables, root, streams) if fork else new(argv, variables, root, streams)
        self._started.append(process := Process(argv, handle, folder))
        return process

    def kill_all(self) -> None:
        """Kill what still runs."""
        while self._started:
            self._started.pop().kill()


def new(
    argv: Sequence[str], env: Mapping[str, str], cwd: Path, streams: tuple[int, int, int]
) -> "subprocess.Popen[bytes]":
    """Start ``python <argv>`` in a new interpreter."""
    stdin, stdout, stderr = streams
    line = [sys.executable, *argv]
    return subprocess.Popen(line, env=env, cwd=cwd, stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True)
