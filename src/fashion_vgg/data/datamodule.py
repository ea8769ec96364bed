"""The LightningDataModule: uint8 images in the memory of the device that trains, transformed there batch by batch."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from fashion_vgg.data import download, fashion_mnist, transforms
from fashion_vgg.data.loader import (
    BatchSampler,
    ResumableLoader,
    SequentialBatchSampler,
    init_worker,
    stratified_split,
)
from fashion_vgg.errors import UserError

Batch = tuple[Tensor, Tensor]


@dataclass(eq=False, repr=False)
class FashionMNISTDataModule(L.LightningDataModule):
    """Fashion-MNIST, resized to ``image_size`` on the device that trains.

    A batch is a pair: images, float32 ``(N, channels, image_size, image_size)``, in [0, 1] unless normalized; and
    labels, int64 ``(N,)``. On the CPU the images equal those of the book's transforms, ``Resize(image_size)`` and
    ``ToTensor()``, bit for bit if ``image_size`` is 28 or a multiple of 32 up to 256. At other sizes a few percent of
    the pixels differ, by at most 2/255.

    Args:
        root: folder of the raw files; missing files are downloaded into it.
        image_size: height and width in pixels.
        batch_size: images per step, over all processes together.
        channels: number of times the grey channel is repeated; 3 for a network trained on RGB images.
        mean: subtracted from every pixel.
        std: divides every pixel after ``mean`` is subtracted.
        val_size: number of training images held out for validation, stratified by class. With 0, as in the book, all
            training images are trained on and the test set is evaluated after every epoch.
        seed: of the shuffling, which depends only on the seed and the epoch.
        split_seed: of the choice of validation images.
        flip: probability of a horizontal flip of a training image.
        shift: largest random shift of a training image in each direction, in pixels of 28.
        erase: side in pixels of the random square set to black in each training image.
        num_workers: DataLoader worker processes. Slicing is fast, so 0 is best. With workers the images stay in the
            host's memory, and each batch's bytes are copied to the device.
        worker_timeout: seconds to wait for a batch from a worker before the training fails.
    """

    root: str
    image_size: int
    batch_size: int
    channels: int = 1
    mean: float = 0.0
    std: float = 1.0
    val_size: int = 0
    seed: int = 0
    split_seed: int = 0
    flip: float = 0.0
    shift: int = 0
    erase: int = 0
    num_workers: int = 0
    worker_timeout: float = 60

    def __post_init__(self) -> None:
        super().__init__()
        self.folder = Path(self.root).expanduser()
        self.preprocess = transforms.Preprocess(self.image_size, self.channels, self.mean, self.std)

    @property
    def eval_stage(self) -> Literal["val", "test"]:
        """The split that is evaluated after every epoch."""
        return "val" if self.val_size else "test"

    def local_batch_size(self, processes: int) -> int:
        """Images per step in each process; a batch size that they cannot share equally is a `UserError`."""
        if self.batch_size % processes:
            problem = f"batch_size={self.batch_size} cannot be shared equally by {processes} processes"
            raise UserError(f"{problem}: use a multiple of {processes}.")
        return self.batch_size // processes

    def prepare_data(self) -> None:
        download.fetch(self.folder)

    def setup(self, stage: str) -> None:
        if hasattr(self, "train_set"):
            return
        images, labels = fashion_mnist.load(self.folder, "train")
        train, val = stratified_split(labels, self.val_size, self.split_seed)
        self.train_set = self._to_dataset(images[train], labels[train])
        self.val_set = self._to_dataset(images[val], labels[val])
        self.test_set = self._to_dataset(*fashion_mnist.load(self.folder, "test"))

    def train_dataloader(self) -> DataLoader[Any]:
        overfit = getattr(self.trainer, "overfit_batches", 0)  # the same batches in every epoch
        return self._loader(self.train_set, self._batches_done, shuffle=not overfit)

    def val_dataloader(self) -> DataLoader[Any]:
        return self._loader(self.val_set if self.val_size else self.test_set)

    def test_dataloader(self) -> DataLoader[Any]:
        return self._loader(self.test_set)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        images, labels = batch
        if self.trainer and self.trainer.training:
            images = self.augment(images)
        return self.preprocess(images), labels

    def augment(self, images: Tensor) -> Tensor:
        """Apply the configured random augmentations to training images, uint8 ``(N, 28, 28)``."""
        if self.flip:
            images = transforms.flip(images, self.flip)
        if self.shift:
            images = transforms.shift(images, self.shift)
        if self.erase:
            images = transforms.erase(images, self.erase)
        return images

    def _to_dataset(self, images: Tensor, labels: Tensor) -> TensorDataset:
        """Store a split on the device that trains, unless worker processes have to read it."""
        device = self.trainer.strategy.root_device if self.trainer and not self.num_workers else "cpu"
        return TensorDataset(images.to(device), labels.to(device))

    def _loader(
        self, dataset: TensorDataset, batches_done: Callable[[], int] = lambda: 0, shuffle: bool = False
    ) -> DataLoader[Any]:
        processes, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        distributed = {"num_replicas": processes, "rank": rank, "shuffle": shuffle, "seed": self.seed}
        sampler = BatchSampler if shuffle else SequentialBatchSampler
        return ResumableLoader(
            dataset,
            # The sampler yields index tensors, so indexing the data set once returns a whole batch.
            sampler=sampler(dataset, self.local_batch_size(processes), batches_done, **distributed),
            batch_size=None,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            timeout=self.worker_timeout if self.num_workers else 0,
            worker_init_fn=init_worker,
            # A generator of its own, or each new iterator would draw from the global one.
            generator=torch.Generator(),
        )

    def _batches_done(self) -> int:
        """Batches of this epoch that were trained on before an interruption; else 0."""
        if self.trainer and self.trainer.training:
            return self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
        return 0
