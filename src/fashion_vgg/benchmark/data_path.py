"""A batch's way from memory to the network's input, on one core: ours, and the seed's transform."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate

from fashion_vgg import allocator, seed
from fashion_vgg.benchmark import memory
from fashion_vgg.data import FashionMNISTDataModule, to_input

BATCH_SIZE = 128
ROUNDS = 7


def compare(root: Path, datamodule: FashionMNISTDataModule, image_size: int) -> dict[str, Any]:
    """Seconds of a batch of 128 in both ways, alternating, medians; and whether the images are equal to the last bit.

    Args:
        root: where torchvision finds the files.
        datamodule: one that is set up without a validation split.
        image_size: in pixels.
    """
    dataset, chosen = seed.training_set(root, image_size), torch.arange(BATCH_SIZE)

    def ours() -> Tensor:
        return to_input(datamodule.train_set[chosen][0], image_size)

    def seeds() -> Tensor:
        images: Tensor = default_collate([dataset[index] for index in chosen.tolist()])[0]
        return images

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        equal = torch.equal(ours(), seeds())
        times = [(_seconds(ours), _seconds(seeds)) for _ in range(ROUNDS)]
    finally:
        torch.set_num_threads(threads)
    return {
        "image_size": image_size,
        "seconds": median(t[0] for t in times),
        "seed_seconds": median(t[1] for t in times),
        "times_faster": median(t[1] / t[0] for t in times),
        "equal_to_the_last_bit": equal,
        "host_bytes": _host_bytes(datamodule.root, image_size),
    }


def _host_bytes(root: Path, image_size: int) -> int:
    """The peak of a process of its own that loads the data and makes ten batches, above what it took to start."""
    command = [sys.executable, "-m", __name__, str(root), str(image_size)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _use(root: str, image_size: str) -> None:
    allocator.keep_freed_memory()
    before = memory.host_now()
    datamodule = FashionMNISTDataModule(root, int(image_size), BATCH_SIZE)
    datamodule.setup("fit")
    for batch, _ in zip(datamodule.train_dataloader(), range(10), strict=False):
        datamodule.on_after_batch_transfer(batch, 0)
    print(memory.host_peak() - before)


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    _use(*sys.argv[1:])
