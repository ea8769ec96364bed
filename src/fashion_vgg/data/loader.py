"""The DataLoader: resumable within an epoch, with worker processes that survive the signals of a job."""

import signal
from types import FrameType
from typing import Any

import torch
from torch.utils.data import DataLoader


class ResumableLoader(DataLoader[Any]):
    """Starts an epoch when the first batch is requested, not when the iterator is created.

    When a training resumes, Lightning creates the iterator before it restores the epoch and the batch index.
    """

    def __iter__(self) -> Any:
        yield from super().__iter__()


def init_worker(worker: int) -> None:
    """Prepare a worker process: ignore interrupts, and share tensors by file; a DataLoader's ``worker_init_fn``."""
    # A scheduler may signal every process of a job, while the training still needs batches to finish its step.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Only the first SIGTERM: with a second one torch ends a worker that does not exit.
    signal.signal(signal.SIGTERM, _ignore_once)
    if hasattr(signal, "SIGUSR1"):  # not on Windows
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    # With file descriptors, receiving a batch from a worker that hangs blocks without a timeout.
    torch.multiprocessing.set_sharing_strategy("file_system")  # type: ignore[no-untyped-call]


def _ignore_once(signum: int, frame: FrameType | None) -> None:
    signal.signal(signum, signal.SIG_DFL)
