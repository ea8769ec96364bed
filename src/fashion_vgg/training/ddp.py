"""Training in several processes, which ends in one line if one of them dies or hangs."""

import re
import signal
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import lightning as L
from lightning.pytorch import strategies
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from torch.distributed import DistError

from fashion_vgg.checkpoints import signals
from fashion_vgg.config import launch
from fashion_vgg.errors import ProcessError, Stopped


class DDPStrategy(strategies.DDPStrategy):
    """Lightning's strategy, with a limit on waiting, and an error that names the process that died.

    Args:
        timeout_minutes: how long a process waits for the others.
        kwargs: of Lightning's strategy and of torch's `DistributedDataParallel`.
    """

    def __init__(self, timeout_minutes: float, **kwargs: Any) -> None:
        super().__init__(timeout=timedelta(minutes=timeout_minutes), **kwargs)

    def _configure_launcher(self) -> None:
        environment: Any = self.cluster_environment
        self._launcher = _Launcher(environment, self.num_processes, self.num_nodes)


class _Launcher(_SubprocessScriptLauncher):
    """Starts the other ranks, unless torchrun or SLURM did, and ends them with rank 0.

    Lightning's kills the first process, too, when another one dies.
    """

    def launch(self, function: Callable[..., Any], *args: Any, trainer: L.Trainer | None = None, **kwargs: Any) -> Any:
        if not self.cluster_environment.creates_processes_externally:
            self._call_children_scripts()
            signals.children += self.procs
            threading.Thread(target=self._observe, name="observer", daemon=True).start()
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            failure = self._explain(error)
            for process in self.procs:
                process.kill()  # or it reports that it lost the connection
            raise failure from error

    def _observe(self) -> None:
        """End the training if a process died and this one waits for it."""
        while not (failure := self._died()):
            time.sleep(0.5)
        signals.end_after(signals.SECONDS, failure)

    def _explain(self, error: BaseException) -> BaseException:
        """The death of another process, if that is the reason of the error; otherwise the error."""
        if not isinstance(error, DistError) and not (isinstance(error, RuntimeError) and "gloo" in str(error)):
            return error
        for _ in range(20):  # the connection is closed before the process ends
            if failure := self._died():
                return failure
            time.sleep(0.1)
        if launch.is_nonzero_rank():
            return SystemExit(1)  # the first one reports it, or whatever started them
        reason = re.sub(r"^\[[^]]*\] ", "", str(error).splitlines()[0]).partition(". ")[0]
        return ProcessError(f"Another process of the training died or hangs: {reason}.")

    def _died(self) -> Stopped | ProcessError | None:
        for rank, process in enumerate(self.procs, start=1):
            if status := process.poll():
                signum = -status if status < 0 else status - 128
                if signum in signals.SIGNALS:
                    return Stopped(signum)
                end = f"was killed by {signal.Signals(signum).name}" if status < 0 else f"ended with status {status}"
                return ProcessError(f"Process {rank} of the training {end}.")
        return None
