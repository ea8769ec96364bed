"""Turns out-of-memory and DataLoader failures into one-line errors."""

import gc
import multiprocessing
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import connection
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from torch.utils.data import dataloader

from fashion_vgg.data import FashionMNISTDataModule
from fashion_vgg.errors import ProcessError, UserError


@contextmanager
def friendly_errors(trainer: L.Trainer, module: Any, data: FashionMNISTDataModule) -> Iterator[None]:
    """Raise ProcessError if a DataLoader worker fails, UserError with a batch size that fits if memory runs out."""
    try:
        yield
        return
    except (RuntimeError, ConnectionError, EOFError) as error:
        if cause := _loader_failure(error):
            _kill_children()
            raise ProcessError(f"{cause} (data.num_workers={data.num_workers}).") from error
        if not is_out_of_memory(error):
            raise
    # After the handler: its error holds on to the step's tensors.
    size = _fitting_batch_size(trainer, module, data)
    suggestion = f"use batch_size={size}, which fits" if size else "not even one image fits"
    raise UserError(
        f"batch_size={data.batch_size} at image_size={data.image_size} does not fit into the memory of "
        f"{trainer.strategy.root_device}: {suggestion}."
    )


def _loader_failure(error: BaseException) -> str | None:
    """How a DataLoader worker failed, if the error comes from that."""
    if str(error).startswith("DataLoader"):
        return str(error).partition(". ")[0].strip().removesuffix(".")
    modules = {frame.f_globals.get("__name__") for frame, _ in traceback.walk_tb(error.__traceback__)}
    if isinstance(error, ConnectionError | EOFError) and {dataloader.__name__, connection.__name__} <= modules:
        return "DataLoader worker exited unexpectedly"  # while it passed a batch on
    return None


def _kill_children() -> None:
    """Kill the DataLoader workers: the program would wait at its end for one that hangs."""
    for worker in multiprocessing.active_children():
        with suppress(RuntimeError):  # which torch's handler of SIGCHLD raises for each that is killed
            worker.kill()
            worker.join()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch says that a device, or the host, has no memory left."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def _fitting_batch_size(trainer: L.Trainer, module: Any, data: FashionMNISTDataModule) -> int | None:
    """The first of 1/2, 1/4, ... of the batch size for which two steps of a batch 25 % larger fit."""
    size, world_size = data.batch_size, trainer.world_size
    while size := size // 2 // world_size * world_size:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        try:
            for _ in range(2):
                _step(trainer, module, data, size + size // 4)
            return size
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
    return None


def _step(trainer: L.Trainer, module: Any, data: FashionMNISTDataModule, size: int) -> None:
    device = trainer.strategy.root_device
    module.to(device).train()
    images, labels = data.on_after_batch_transfer(data.train_set[: size // trainer.world_size], 0)
    with trainer.precision_plugin.forward_context():
        loss = F.cross_entropy(module(images.to(device)), labels.to(device))
    torch.autograd.backward(loss)
