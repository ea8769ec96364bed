"""The cost of preprocessing a batch, and of being resumable."""

import tempfile
from pathlib import Path
from statistics import median
from timeit import timeit
from typing import Any

import torch
from hydra.utils import instantiate
from lightning.pytorch.profilers import SimpleProfiler
from omegaconf import DictConfig
from torch import Tensor
from torch.utils.data import default_collate

from fashion_vgg.data import FashionMNISTDataModule, fashion_mnist
from fashion_vgg.data.transforms import resize_batch
from fashion_vgg.profiling import memory
from fashion_vgg.profiling.loops import short_training
from fashion_vgg.reference import d2l
from fashion_vgg.training import DivergenceGuard, History, allocator
from fashion_vgg.training.build import build_classifier, build_trainer, configure_lightning_logging

BATCH_SIZE = 128
ROUNDS = 15
STEPS = 6


def preprocessing_cost(root: Path, image_size: int) -> dict[str, Any]:
    """Compare the preprocessing of a batch with the book's transforms on one CPU core, and measure its memory.

    ``root`` is the folder of the raw files, ``image_size`` is in pixels. To be called in `memory.own_process`.
    """
    torch.set_num_threads(1)
    allocator.keep_freed_memory()
    before = memory.process_memory()
    datamodule = FashionMNISTDataModule(str(root), image_size, BATCH_SIZE)
    datamodule.setup("fit")
    for batch, _ in zip(datamodule.train_dataloader(), range(10), strict=False):
        datamodule.on_after_batch_transfer(batch, 0)
    host_bytes = memory.process_memory("VmHWM") - before

    indices = torch.arange(BATCH_SIZE)
    with tempfile.TemporaryDirectory() as raw:
        fashion_mnist.unpack(root, Path(raw))
        dataset = d2l.training_set(Path(raw), image_size)

    def ours() -> Tensor:
        return resize_batch(datamodule.train_set[indices][0], image_size)

    def book() -> Any:
        return default_collate([dataset[index] for index in range(BATCH_SIZE)])[0]

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


def checkpoint_cost(cfg: DictConfig, step_seconds: float) -> dict[str, Any]:
    """The share of the training time that being resumable takes: seeds, checks and checkpoints.

    Lightning's profiler records the durations in a few steps. Comparing the speeds of two trainings would not show
    the share: they differ more from run to run.
    """
    configure_lightning_logging()
    with tempfile.TemporaryDirectory() as folder:
        short: Any = short_training(cfg, folder, STEPS)
        short.callbacks = short.logger = None
        guard, checkpoints, profiler = DivergenceGuard(), instantiate(short.checkpoint), SimpleProfiler()
        trainer = build_trainer(short, History(folder), guard, checkpoints)
        trainer.profiler = profiler  # type: ignore[attr-defined]
        trainer.fit(build_classifier(short), instantiate(short.data))
        size = Path(folder, "last.ckpt").stat().st_size
    hooks = ["[LightningModule]ImageClassifier.on_before_batch_transfer"]  # seeds the step
    hooks += [f"[Callback]{callback.state_key}.on_train_batch_end" for callback in (guard, checkpoints)]
    durations, minutes = profiler.recorded_durations, cfg.checkpoint.every_minutes
    per_step, per_checkpoint = sum(median(durations[hook]) for hook in hooks), max(durations["save_checkpoint"])
    return {
        "seconds_per_step": per_step,
        "checkpoint_seconds": per_checkpoint,
        "checkpoint_bytes": size,
        "every_minutes": minutes,
        "share": per_step / step_seconds + (per_checkpoint / (60 * minutes) if minutes else float("inf")),
    }
