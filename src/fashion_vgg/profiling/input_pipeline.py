"""Compares the preprocessing of a batch with the book's transforms, on one CPU core."""

import tempfile
from pathlib import Path
from statistics import median
from timeit import timeit
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate

from fashion_vgg.data import FashionMNISTDataModule, fashion_mnist
from fashion_vgg.data.transforms import resize_batch
from fashion_vgg.profiling import memory
from fashion_vgg.reference import d2l
from fashion_vgg.training import allocator

BATCH_SIZE = 128
ROUNDS = 15


def compare(root: Path, image_size: int) -> dict[str, Any]:
    """Time both, and measure the memory that the DataModule needs; to be called in `memory.own_process`.

    Args:
        root: folder of the raw files.
        image_size: in pixels.
    """
    torch.set_num_threads(1)
    allocator.keep_freed_memory()
    before = memory.process_bytes()
    datamodule = FashionMNISTDataModule(str(root), image_size, BATCH_SIZE)
    datamodule.setup("fit")
    for batch, _ in zip(datamodule.train_dataloader(), range(10), strict=False):
        datamodule.on_after_batch_transfer(batch, 0)
    host_bytes = memory.process_peak() - before

    indices = torch.arange(BATCH_SIZE)
    with tempfile.TemporaryDirectory() as raw:
        fashion_mnist.unpack(root, Path(raw))
        dataset = d2l.training_set(Path(raw), image_size)

    def ours() -> Tensor:
        return resize_batch(datamodule.train_set[indices][0], image_size)

    def book() -> Tensor:
        images: Tensor = default_collate([dataset[index] for index in indices.tolist()])[0]
        return images

    bit_equal = torch.equal(ours(), book())
    rounds = [(timeit(ours, number=1), timeit(book, number=1)) for _ in range(ROUNDS)]
    return {
        "batch_size": BATCH_SIZE,
        "image_size": image_size,
        "seconds": median(ours for ours, _ in rounds),
        "book_seconds": median(book for _, book in rounds),
        "times_faster": median(book / ours for ours, book in rounds),
        "bit_equal": bit_equal,
        "host_bytes": host_bytes,
    }
