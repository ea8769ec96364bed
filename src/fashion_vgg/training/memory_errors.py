"""What ends a training from outside, told in a line: memory that runs out, a loader process that dies or hangs."""

import gc
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F

from fashion_vgg.data.datamodule import FashionMNISTDataModule
from fashion_vgg.errors import TrainingError, UserError


@contextmanager
def told(trainer: L.Trainer, module: Any, data: FashionMNISTDataModule) -> Iterator[None]:
    """Make a line of what these failures raise within.

    Raises:
        TrainingError: a loader process was killed, or gave nothing for `data.worker_timeout`.
        UserError: memory ran out; names a batch size that a trial step had room for.
    """
    try:
        yield
        return
    except RuntimeError as error:
        if str(error).startswith("DataLoader"):
            _end_workers()
            cause = str(error).partition(". ")[0].strip().removesuffix(".")
            raise TrainingError(f"A loader process failed: {cause} (data.num_workers={data.num_workers}).") from error
        if not is_out_of_memory(error):
            raise
    # Outside of the handler, whose error holds on to the step's tensors.
    fitting = largest_that_fits(trainer, module, data)
    way_out = f"batch_size={fitting} fitted in a trial" if fitting else "not even one image fits"
    raise UserError(
        f"batch_size={data.batch_size} at image_size={data.image_size} does not fit into the memory of "
        f"{trainer.strategy.root_device}: {way_out}."
    )


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a device, or the host, had no memory left."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def largest_that_fits(trainer: L.Trainer, module: Any, data: FashionMNISTDataModule) -> int | None:
    """Half the batch size that was tried, or a quarter and so on: the first with room for a quarter more in a trial."""
    size = data.batch_size // 2
    while size:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        try:
            for _ in range(2):
                _step(trainer, module, data, size + size // 4)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        else:
            return size
        size //= 2
    return None


def _step(trainer: L.Trainer, module: Any, data: FashionMNISTDataModule, size: int) -> None:
    device = trainer.strategy.root_device
    module.to(device).train()
    images, labels = data.on_after_batch_transfer(data.train_set[: size // trainer.world_size], 0)
    with trainer.precision_plugin.forward_context():
        loss = F.cross_entropy(module(images.to(device)), labels.to(device))
    torch.autograd.backward(loss)


def _end_workers() -> None:
    # One that hangs would be waited for at the end of the program.
    for child in multiprocessing.active_children():
        child.kill()
