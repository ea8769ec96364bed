"""Which images form each batch, and which images are held out for validation."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DistributedSampler, TensorDataset

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
        processes: number of processes.
        rank: index of this process.
        shuffle: whether to shuffle.
        seed: of the shuffling.
        batches_done: called when an epoch begins; returns the number of its batches to skip, for a training that was
            interrupted within the epoch.
    """

    def __init__(
        self,
        dataset: TensorDataset,
        batch_size: int,
        processes: int,
        rank: int,
        shuffle: bool,
        seed: int,
        batches_done: Callable[[], int] = lambda: 0,
    ) -> None:
        super().__init__(dataset, processes, rank, shuffle, seed)
        self.batch_size = batch_size
        self.batches_done = batches_done
        self.device = dataset.tensors[0].device
        used = len(dataset) - len(dataset) % processes if shuffle else len(dataset)
        self._own = range(rank, used, processes)

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


def stratified_split(labels: Tensor, val_size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return sorted indices of the training and validation images, ``(len(labels) - val_size,)`` and ``(val_size,)``.

    The classes must be equally frequent, as they are in Fashion-MNIST. In each part, the class counts differ by at most
    one.
    """
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    by_class = shuffled[labels[shuffled].argsort(stable=True)]
    interleaved = by_class.reshape(len(torch.unique(labels)), -1).T.flatten()  # one image of each class in turn
    return interleaved[val_size:].sort().values, interleaved[:val_size].sort().values
