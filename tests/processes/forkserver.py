"""Starts programs by fork, which takes 0.1 s instead of the 5 s that `import torch, lightning` takes.

`tests.processes.process.ForkServer` runs this file as a script. The server imports what `fashion-vgg train` imports,
except this project's modules: each child imports those from the files as they are then. The server starts no thread,
computes nothing and handles no signal, so that a child begins as a new interpreter does. A child becomes
``python -m <module> <arguments>`` or ``python -c <code> <arguments>``, in a session of its own.
"""

import atexit
import contextlib
import gc
import importlib
import json
import logging
import os
import runpy
import select
import signal
import socket
import sys
import tempfile
import threading
import types
from typing import Any

MODULES = (
    *("hydra", "hydra._internal.core_plugins.basic_sweeper", "hydra.core.override_parser.overrides_parser"),
    *("lightning", "torch._dynamo", "torch.utils.tensorboard", "torchmetrics.classification", "torchvision.models"),
    *("torchvision.transforms.v2", "matplotlib.figure", "matplotlib.backends.backend_agg"),
    *("matplotlib.backends.backend_svg", "tensorboard.plugins.custom_scalar.layout_pb2"),
    *("tensorboard.plugins.hparams.summary_v2", "safetensors.torch"),
)
POLL_SECONDS = 0.01


def preload() -> dict[str, str]:
    """Import the modules and return the environment variables that they set."""
    before = dict(os.environ)
    # Lightning's loggers propagate to the root logger only if it has a handler then, as it has in a command.
    logging.getLogger().addHandler(handler := logging.NullHandler())
    for name in MODULES:
        importlib.import_module(name)
    logging.getLogger().removeHandler(handler)
    gc.collect()
    gc.freeze()  # a collection in a child would write to, and so copy, the memory of every object
    return {name: value for name, value in os.environ.items() if before.get(name) != value}


def serve(control: socket.socket) -> dict[str, Any] | None:
    """Fork for each request; return the request in the child, and None in the server once the client closed `control`.

    A request comes with four file descriptors: a connection, stdin, stdout and stderr. The server answers on the
    connection with the pid, and with the exit status when the child has ended. The child stays a zombie until the
    client closes the connection, so that no other process gets a pid to which the client may still send a signal.
    """
    running: dict[int, int] = {}  # pid: connection
    ended: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([control.fileno(), *ended.values()], [], [], POLL_SECONDS if running else None)
        for pid in [pid for pid, connection in ended.items() if connection in ready]:
            os.waitpid(pid, 0)
            os.close(ended.pop(pid))
        for pid in list(running):
            if result := os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                status = result.si_status if result.si_code == os.CLD_EXITED else -result.si_status
                ended[pid] = running.pop(pid)
                with contextlib.suppress(OSError):  # the client closed the connection before
                    os.write(ended[pid], str(status).encode())
        if control.fileno() not in ready:
            continue
        message, fds, _, _ = socket.recv_fds(control, 1 << 20, 4)
        if not message:
            for pid in running:
                os.killpg(pid, signal.SIGKILL)
            return None
        pid = os.fork()
        if pid == 0:
            os.setsid()
            for stream, fd in enumerate(fds[1:]):
                os.dup2(fd, stream)
            for fd in (*fds, *running.values(), *ended.values()):
                os.close(fd)
            return dict(json.loads(message))
        running[pid] = fds[0]
        os.write(fds[0], str(pid).encode())
        for fd in fds[1:]:
            os.close(fd)


def run(request: dict[str, Any], search_path: list[str]) -> None:
    """Be the requested program; returns or raises as that does."""
    flag, program, *args = request["argv"]
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.path[:] = [request["cwd"] if flag == "-m" else "", *python_path(), *search_path]
    importlib.invalidate_caches()
    sys.argv, sys.orig_argv = [flag, *args], [sys.executable, flag, program, *args]
    sys.stdout.reconfigure(line_buffering=os.isatty(1))  # type: ignore[union-attr]
    tempfile.tempdir = None  # read TMPDIR again
    if threads := os.environ.get("OMP_NUM_THREADS"):
        import torch

        torch.set_num_threads(int(threads))
    if flag == "-m":
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    else:
        sys.modules["__main__"] = main = types.ModuleType("__main__")
        exec(program, main.__dict__)  # noqa: S102


def run_and_exit(request: dict[str, Any], search_path: list[str]) -> None:
    """End this process as Python does, except that the modules are not torn down, which takes 1.5 s."""
    status = 0
    try:
        run(request, search_path)
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(status)


def python_path() -> list[str]:
    """The folders that PYTHONPATH names."""
    return [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]


def main() -> None:
    # Without the script's folder and PYTHONPATH: a child has its own.
    del sys.path[0]
    search_path = sys.path[len(python_path()) :]
    set_by_imports = preload()
    with socket.socket(fileno=int(sys.argv[1])) as control:
        request = serve(control)
    if request:
        request["env"] |= set_by_imports
        run_and_exit(request, search_path)
    os._exit(0)


if __name__ == "__main__":
    main()
