"""A batch's way from memory to the network's input, on one core: ours, and the seed's transform."""

import multiprocessing
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate

from fashion_vgg.data import fashion_mnist
from fashion_vgg.data.datamodule import FashionMNISTDataModule
from fashion_vgg.data.transforms import resize_batch
from fashion_vgg.profiling import memory
from fashion_vgg.reference import d2l
from fashion_vgg.training import allocator

BATCH_SIZE = 128
ROUNDS = 15


def compare(root: Path, image_size: int) -> dict[str, Any]:
    """Measure both, each in a process of its own; and the memory that ours takes.

    Args:
        root: folder of the raw files.
        image_size: in pixels.
    """
    figures: dict[str, Any] = {}
    for measurement in (times, peak):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            figures |= process.submit(measurement, root, image_size).result()
    return figures


def times(root: Path, image_size: int) -> dict[str, Any]:
    """Seconds of a batch of 128 in both ways, in turn, medians; and whether the images are equal to the last bit."""
    torch.set_num_threads(1)
    allocator.keep_freed_memory()
    chosen = torch.arange(BATCH_SIZE)
    datamodule = FashionMNISTDataModule(str(root), image_size, BATCH_SIZE)
    datamodule.setup("fit")
    with tempfile.TemporaryDirectory() as plain:
        fashion_mnist.unpack(root, Path(plain))
        dataset = d2l.training_set(Path(plain), image_size)

    def ours() -> Tensor:
        return resize_batch(datamodule.train_set[chosen][0], image_size)

    def seeds() -> Tensor:
        images: Tensor = default_collate([dataset[index] for index in chosen.tolist()])[0]
        return images

    equal = torch.equal(ours(), seeds())
    rounds = [(_seconds(ours), _seconds(seeds)) for _ in range(ROUNDS)]
    return {
        "image_size": image_size,
        "seconds": median(a for a, _ in rounds),
        "seed_seconds": median(b for _, b in rounds),
        "times_faster": median(b / a for a, b in rounds),
        "equal_to_the_last_bit": equal,
    }


def peak(root: Path, image_size: int) -> dict[str, Any]:
    """Bytes of the host's memory that loading the data and making ten batches takes at the most."""
    allocator.keep_freed_memory()
    before = memory.host_now()
    datamodule = FashionMNISTDataModule(str(root), image_size, BATCH_SIZE)
    datamodule.setup("fit")
    for batch, _ in zip(datamodule.train_dataloader(), range(10), strict=False):
        datamodule.on_after_batch_transfer(batch, 0)
    return {"host_bytes": memory.host_peak() - before}


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
