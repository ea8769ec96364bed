"""Programs that run beside the tests: the fork server that starts them, and a handle to wait and to send signals."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from subprocess import CompletedProcess
from typing import NoReturn

from tests.processes import forkserver

SERVER_ENDED = "The fork server ended before its child: look for its error message on stderr."
READ_ONCE = ("PYTHON", "SLURM_", "TORCHELASTIC_", "RANK", "LOCAL_RANK")
"""Variables that Python and Lightning read when they start or are imported: a fork has its server's."""


def read_once(env: Mapping[str, str]) -> dict[str, str]:
    return {name: env[name] for name in env if name.startswith(READ_ONCE) and name != "PYTHONPATH"}


class Forked:
    """A child of the fork server, with the methods of `subprocess.Popen` that `Process` uses."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._returncode: int | None = None
        self.pid = int(self._receive(timeout=120))

    def wait(self, timeout: float | None = None) -> int:
        if self._returncode is None:
            self._returncode = int(self._receive(timeout))
            self._connection.close()
        return self._returncode

    def poll(self) -> int | None:
        try:
            return self.wait(0)
        except BlockingIOError:
            return None

    def _receive(self, timeout: float | None) -> bytes:
        self._connection.settimeout(timeout)
        if message := self._connection.recv(32):
            return message
        raise RuntimeError(SERVER_ENDED)


class ForkServer:
    """The client of `tests.processes.forkserver`."""

    def __init__(self) -> None:
        self._read_once = read_once(os.environ)
        # The first two would be the children's for good; with one thread, NumPy's library starts none.
        env = {name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, forkserver.__file__, str(theirs.fileno())],
                # The second is what `train` sets for several processes.
                env=env | {"OPENBLAS_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"},
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    def start(self, argv: Sequence[str], env: Mapping[str, str], cwd: Path, streams: Sequence[int]) -> Forked:
        """Start ``python <argv>``, where argv begins with ``-m`` or ``-c``.

        Raises:
            ValueError: the program needs a new interpreter, because of a variable in ``env``.
        """
        if read_once(env) != self._read_once:
            raise ValueError(
                f"A fork cannot change {read_once(env).items() ^ self._read_once.items()}: use fork=False."
            )
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        request = json.dumps({"argv": list(argv), "env": dict(env), "cwd": str(cwd)})
        with theirs:
            try:
                socket.send_fds(self._control, [request.encode()], [theirs.fileno(), *streams])
            except BrokenPipeError:
                raise RuntimeError(SERVER_ENDED) from None
        return Forked(ours)

    def close(self) -> None:
        self._control.close()
        self._process.wait(30)


class Process:
    """A started program. Its output goes to files, so that nobody has to read it while it runs."""

    def __init__(self, argv: Sequence[str], handle: "Forked | subprocess.Popen[bytes]", folder: Path) -> None:
        self.argv, self.pid = argv, handle.pid
        self._handle, self._folder = handle, folder

    @property
    def stdout(self) -> str:
        """The output so far."""
        return (self._folder / "stdout").read_text()

    @property
    def stderr(self) -> str:
        """The error output so far."""
        return (self._folder / "stderr").read_text()

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while the program runs."""
        return self._handle.poll()

    def send_signal(self, signum: int) -> None:
        """Send a signal unless the program has ended."""
        if self.poll() is None:
            os.kill(self.pid, signum)

    def kill(self) -> None:
        """Kill the program with all processes of its session, unless it has ended."""
        if self.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
            self._handle.wait()

    def wait_until(self, moment: Callable[[], bool], timeout: float = 240) -> None:
        """Wait for a moment that comes before the program ends.

        Raises:
            TimeoutError: the moment did not come in time, and the program was killed.
        """
        self.wait_until_or_end(moment, timeout)
        assert moment(), self.result()

    def wait_until_or_end(self, moment: Callable[[], bool], timeout: float = 240) -> None:
        """Wait for a moment, or for the end if that comes first."""
        deadline = time.monotonic() + timeout
        while not moment() and self.poll() is None:
            if time.monotonic() > deadline:
                self._give_up(timeout)
            time.sleep(0.002)

    def result(self, timeout: float = 240) -> CompletedProcess[str]:
        """Wait for the end.

        Raises:
            TimeoutError: the program took longer, and was killed.
        """
        try:
            status = self._handle.wait(timeout)
        except (TimeoutError, subprocess.TimeoutExpired):
            self._give_up(timeout)
        return CompletedProcess(self.argv, status, self.stdout, self.stderr)

    def _give_up(self, timeout: float) -> NoReturn:
        self.kill()
        raise TimeoutError(f"{self.argv} took more than {timeout} s: {self.stdout}{self.stderr}") from None
