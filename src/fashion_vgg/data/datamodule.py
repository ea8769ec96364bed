"""The LightningDataModule: bytes in the device's memory, sliced by whole batches, resized and scaled there."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import resize

from fashion_vgg.data import augment, fashion_mnist
from fashion_vgg.data.seeds import reseed, seed_at
from fashion_vgg.errors import UserError

Batch = tuple[Tensor, Tensor]


class BatchSampler(DistributedSampler[Tensor]):
    """The indices of an epoch's batches, int64 ``(batch_size,)`` each; the last one may be smaller.

    With ``shuffle`` their order is a function of the seed and the epoch alone, and images that the processes cannot
    share equally are left out, others in each epoch; without, every image comes once, in the data set's order.
    Lightning leaves a `DistributedSampler` alone, and would deal out any other's batches to the processes once more.
    The first ``batches_done()`` of an epoch are left out, for a training that is resumed within it.
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
        shared = len(dataset) - len(dataset) % processes if shuffle else len(dataset)
        self._mine = slice(rank, shared, processes)

    def __len__(self) -> int:
        return -(-len(range(self._mine.stop)[self._mine]) // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        indices = self._shuffled() if self.shuffle else torch.arange(self._mine.stop)
        left = indices[self._mine][self.batches_done() * self.batch_size :]
        return iter(torch.split(left.to(self.device), self.batch_size))

    def _shuffled(self) -> Tensor:
        generator = torch.Generator().manual_seed(seed_at(self.seed, self.epoch))
        return torch.randperm(len(self.dataset), generator=generator)  # type: ignore[arg-type]


class ResumableLoader(DataLoader[Any]):
    """Begins an epoch when its first batch is asked for.

    Lightning makes the iterator of a resumed training before it knows in which epoch, and at which batch, that is.
    """

    def __iter__(self) -> Any:
        yield from super().__iter__()


class FashionMNISTDataModule(L.LightningDataModule):
    """Fashion-MNIST, resized to ``image_size`` on the device that trains.

    A batch is a pair: images, float32 ``(N, channels, image_size, image_size)``, in [0, 1] unless they are normalised,
    and labels, int64 ``(N,)``. On the CPU the images equal those of the seed's transforms, ``Resize(image_size)`` and
    ``ToTensor()``, to the last bit at 224 px and every other multiple of 32 up to 256; at an odd size a few pixels in a
    hundred differ by 1/255.

    Args:
        root: folder of the raw files; they are fetched into it if they are nowhere yet (see `fashion_mnist`).
        image_size: height and width in pixels.
        batch_size: images a step, over all processes together.
        channels: equal ones, for a network that expects colours.
        mean: taken from every pixel, which is then divided by ``std``.
        std: see ``mean``.
        val_size: images held out of the training set for validation, each class alike. At 0, the seed's protocol, the
            whole training set trains, and the test set is scored after every epoch.
        seed: of the order in which images are trained on, a function of the seed and the epoch alone; and of each
            step's random numbers, the augmentation's and dropout's, a function of the seed and the step alone (and of
            the process, where there are several).
        split_seed: of the choice of validation images.
        flip: probability with which a training image is flipped, left to right.
        shift: pixels, of 28, by which a training image is moved at most in each direction.
        erase: side in pixels of a square made black in each training image.
        num_workers: loader processes; the slicing is so quick that none is needed. With any, the images stay in the
            host's memory, and a batch's bytes travel to the device.
        worker_timeout: seconds after which a loader process that gives no batch ends the training.
    """

    def __init__(
        self,
        root: str,
        image_size: int,
        batch_size: int,
        channels: int = 1,
        mean: float = 0.0,
        std: float = 1.0,
        val_size: int = 0,
        seed: int = 0,
        split_seed: int = 0,
        flip: float = 0.0,
        shift: int = 0,
        erase: int = 0,
        num_workers: int = 0,
        worker_timeout: float = 60,
    ) -> None:
        super().__init__()
        self.root = Path(root).expanduser()
        self.image_size = image_size
        self.batch_size = batch_size
        self.channels = channels
        self.mean = mean
        self.std = std
        self.val_size = val_size
        self.seed = seed
        self.split_seed = split_seed
        self.flip = flip
        self.shift = shift
        self.erase = erase
        self.num_workers = num_workers
        self.worker_timeout = worker_timeout

    @property
    def eval_stage(self) -> Literal["val", "test"]:
        """What is scored after every epoch."""
        return "val" if self.val_size else "test"

    def share_of_batch(self, processes: int) -> int:
        """Images a step of each of so many processes.

        Raises:
            UserError: they cannot share the batch equally.
        """
        if self.batch_size % processes:
            raise UserError(
                f"batch_size={self.batch_size} cannot be shared equally by {processes} processes: "
                f"use a multiple of {processes}."
            )
        return self.batch_size // processes

    def prepare_data(self) -> None:
        fashion_mnist.fetch(self.root)

    def setup(self, stage: str) -> None:
        if hasattr(self, "train_set"):
            return
        images, labels = fashion_mnist.load(self.root, "train")
        train, val = stratified_split(labels, self.val_size, self.split_seed)
        self.train_set = self._stored(images[train], labels[train])
        self.val_set = self._stored(images[val], labels[val])
        self.test_set = self._stored(*fashion_mnist.load(self.root, "test"))

    def train_dataloader(self) -> DataLoader[Any]:
        return self._loader(self.train_set, shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return self._loader(self.val_set if self.val_size else self.test_set, shuffle=False)

    def test_dataloader(self) -> DataLoader[Any]:
        return self._loader(self.test_set, shuffle=False)

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        if self.trainer and self.trainer.training:  # the first thing that happens to a batch
            step = self.trainer.fit_loop.total_batch_idx + 1
            reseed(seed_at(self.seed, step, self.trainer.global_rank), self.trainer.strategy.root_device)
        return batch

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        images, labels = batch
        if self.trainer and self.trainer.training:
            images = self.augmented(images)
        return self.as_input(images), labels

    def augmented(self, images: Tensor) -> Tensor:
        """Training images, uint8 ``(N, 28, 28)``, changed at random as the settings say."""
        if self.flip:
            images = augment.flip(images, self.flip)
        if self.shift:
            images = augment.shift(images, self.shift)
        if self.erase:
            images = augment.erase(images, self.erase)
        return images

    def as_input(self, images: Tensor) -> Tensor:
        """uint8 ``(N, 28, 28)`` to what the network takes, on the images' own device."""
        scaled = to_input(images, self.image_size)
        if (self.mean, self.std) != (0.0, 1.0):
            scaled.sub_(self.mean).div_(self.std)
        return scaled.expand(-1, self.channels, -1, -1)

    def _stored(self, images: Tensor, labels: Tensor) -> TensorDataset:
        return TensorDataset(images.to(self._store), labels.to(self._store))

    def _loader(self, dataset: TensorDataset, shuffle: bool) -> DataLoader[Any]:
        processes, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        done = self._batches_done if shuffle else lambda: 0
        return ResumableLoader(
            dataset,
            # Each index that it gives is a tensor, which takes a whole batch out of the data set's tensors.
            sampler=BatchSampler(dataset, self.share_of_batch(processes), processes, rank, shuffle, self.seed, done),
            batch_size=None,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            timeout=self.worker_timeout if self.num_workers else 0,
            worker_init_fn=_prepare_worker,
            # Its own, so that making a loader leaves the random state of the training alone.
            generator=torch.Generator(),
        )

    def _batches_done(self) -> int:
        """Of the epoch that the Trainer is in: none but where it was resumed within one."""
        if self.trainer and self.trainer.training:
            return self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
        return 0

    @property
    def _store(self) -> torch.device:
        """Where the images lie: on the device that trains, so that no step waits for a transfer."""
        return self.trainer.strategy.root_device if self.trainer and not self.num_workers else torch.device("cpu")


def _prepare_worker(worker: int) -> None:
    # A signal may come to every process of a job, and the training may still want a batch to end its step.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _ignore_once)  # a second one is torch's, to one that does not end
    if hasattr(signal, "SIGUSR1"):  # no Windows
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    # Handed over by file descriptors, a batch of a worker that hangs would be waited for without a timeout.
    torch.multiprocessing.set_sharing_strategy("file_system")  # type: ignore[no-untyped-call]


def _ignore_once(signum: int, frame: FrameType | None) -> None:
    signal.signal(signum, signal.SIG_DFL)


def to_input(images: Tensor, size: int) -> Tensor:
    """uint8 ``(N, 28, 28)`` to float32 ``(N, 1, size, size)`` in [0, 1], on the images' own device.

    The images are resized as bytes, as PIL does it: resized as floats they differ by up to 1/255. Four are taken as the
    channels of one, since a processor resizes four interleaved channels in the time of one.
    """
    height, width = images.shape[1:]
    fours = F.pad(images, (0, 0, 0, 0, 0, -len(images) % 4)).reshape(-1, 4, height, width)
    resized = resize(fours, [size, size], InterpolationMode.BILINEAR, antialias=True)
    scaled: Tensor = resized.contiguous().flatten(0, 1)[: len(images)].unsqueeze(1).float().div_(255)
    return scaled


def stratified_split(labels: Tensor, val_size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of the training and of the validation images, ``(len(labels) - val_size,)`` and ``(val_size,)``.

    The classes must be equally frequent, as Fashion-MNIST's are; their counts in a part differ by one at most.
    """
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    by_class = shuffled[labels[shuffled].argsort(stable=True)]
    in_turn = by_class.reshape(len(torch.unique(labels)), -1).T.flatten()  # one of each class, again and again
    return in_turn[val_size:].sort().values, in_turn[:val_size].sort().values
