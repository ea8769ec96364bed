"""Which images form each batch, and a DataLoader that resumes within an epoch."""

import math
import signal
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler, SequentialSampler, TensorDataset

from fashion_vgg.data.seeds import derive_seed


class BatchSampler(DistributedSampler[Tensor]):
    """Yields one int64 tensor of indices ``(batch_size,)`` per batch; the last batch may be smaller.

    Shuffled batches depend only on the seed and the epoch. If the number of processes does not divide the data set,
    each shuffled epoch drops the remainder, different images each time. Without shuffling, the order is the data set's
    and every image is used exactly once.

    A `DistributedSampler`, because Lightning replaces any other sampler when several processes train.

    Args:
        dataset: the images and labels.
        batch_size: images per batch in this process.
        batches_done: called when an epoch begins; returns the number of its batches to skip, for a training that was
            interrupted within the epoch.
        distributed: ``num_replicas``, ``rank``, ``shuffle`` and ``seed`` of `DistributedSampler`.
    """

    def __init__(
        self, dataset: TensorDataset, batch_size: int, batches_done: Callable[[], int] = lambda: 0, **distributed: Any
    ) -> None:
        super().__init__(dataset, **distributed)
        self.batch_size, self.batches_done = batch_size, batches_done
        self.device = dataset.tensors[0].device
        dropped = len(dataset) % self.num_replicas if self.shuffle else 0
        self._own = range(self.rank, len(dataset) - dropped, self.num_replicas)

    def __len__(self) -> int:
        return math.ceil(len(self._own) / self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        order = self._shuffled() if self.shuffle else torch.arange(self._own.stop)
        own = order[self._own.start : self._own.stop : self._own.step]
        remaining = own[self.batches_done() * self.batch_size :]
        return iter(torch.split(remaining.to(self.device), self.batch_size))

    def _shuffled(self) -> Tensor:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, self.epoch))
        return torch.randperm(len(self.dataset), generator=generator)  # type: ignore[arg-type]


class SequentialBatchSampler(BatchSampler, SequentialSampler):
    """A `BatchSampler` without shuffling, of the type that Lightning's ``overfit_batches`` requires."""


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
    signal.signal(signal.SIGTERM, lambda signum, _: signal.signal(signum, signal.SIG_DFL))
    if hasattr(signal, "SIGUSR1"):  # not on Windows
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    # With file descriptors, receiving a batch from a worker that hangs blocks without a timeout.
    torch.multiprocessing.set_sharing_strategy("file_system")  # type: ignore[no-untyped-call]


def stratified_split(labels: Tensor, val_size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return sorted indices of the training and validation images, ``(len(labels) - val_size,)`` and ``(val_size,)``.

    The classes must be equally frequent, as they are in Fashion-MNIST. In each part, the class counts differ by at most
    one.
    """
    if not val_size:
        return torch.arange(len(labels)), torch.arange(0)
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    by_class = shuffled[labels[shuffled].argsort(stable=True)]
    interleaved = by_class.reshape(len(torch.unique(labels)), -1).T.flatten()  # one image of each class in turn
    return interleaved[val_size:].sort().values, interleaved[:val_size].sort().values
