"""Three ways to train: the seed's loop, our network in a bare loop, and Lightning's Trainer around our classes."""

import contextlib
import itertools
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import lightning as L
import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict

from fashion_vgg.data import fashion_mnist
from fashion_vgg.data.datamodule import FashionMNISTDataModule
from fashion_vgg.errors import UserError
from fashion_vgg.profiling.roofline import Work, count_work
from fashion_vgg.reference import d2l
from fashion_vgg.training import allocator
from fashion_vgg.training.build import build_classifier, build_network, build_trainer, network
from fashion_vgg.training.callbacks import History

TRAINING_IMAGES = 60_000
AUTOCAST = {"32-true": None, "bf16-mixed": torch.bfloat16}
"""The precisions that the bare loop knows, and what each one's arithmetic is cast to."""


class Loop(Protocol):
    """A way to train, begun anew with every call, in a process that does nothing else.

    ``work`` is what a step asks of the hardware, in numbers of ``dtype``; ``epoch`` is how many steps one has.
    """

    name: str
    batch_size: int
    epoch: int
    work: Work
    dtype: torch.dtype

    def seconds(self, warmup: int, steps: int) -> float:
        """The time of ``steps`` steps, after ``warmup`` others, with new weights."""


class ReferenceLoop:
    """The seed's network, loader and loop, in float32.

    Args:
        root: folder of the raw files.
        settings: ``image_size``, ``batch_size`` and ``lr``.
        device: the one that trains.
    """

    name = "the seed's loop"

    def __init__(self, root: Path, settings: DictConfig, device: torch.device) -> None:
        self.root, self.device = root, device
        self.image_size, self.batch_size, self.lr = settings.image_size, settings.batch_size, settings.lr
        self.epoch = TRAINING_IMAGES // self.batch_size
        with torch.device("meta"):
            net = d2l.vgg(d2l.NARROW, self.image_size)
        self.work = count_work(net, (1, self.image_size, self.image_size), momentum=False)
        self.dtype = torch.float32

    def seconds(self, warmup: int, steps: int) -> float:
        net = d2l.vgg(d2l.NARROW, self.image_size).to(self.device)
        with warnings.catch_warnings(), tempfile.TemporaryDirectory() as root:
            warnings.filterwarnings("ignore", ".*worker processes")  # four, as in the book, on however many cores
            warnings.filterwarnings("ignore", ".*multi-threaded, use of fork")  # the loader's own way to start them
            fashion_mnist.unpack(self.root, Path(root))
            loader = d2l.loader(Path(root), self.batch_size, self.image_size)
            batches = itertools.chain.from_iterable(itertools.repeat(loader))
            return _timed(d2l.steps(net, batches, self.lr, self.device), warmup, steps, self.device)


class _OurLoop:
    """What the two loops around the configured network have in common.

    Raises:
        UserError: a precision other than those of ``AUTOCAST``.
    """

    name = ""

    def __init__(self, cfg: DictConfig, device: torch.device, name: str | None = None) -> None:
        self.cfg, self.device = cfg, device
        self.name = name or self.name
        self.batch_size = cfg.batch_size
        self.epoch = (TRAINING_IMAGES - cfg.data.val_size) // self.batch_size
        if cfg.trainer.precision not in AUTOCAST:
            raise UserError(f"trainer.precision={cfg.trainer.precision}: bench knows {' and '.join(AUTOCAST)}.")
        self.autocast = AUTOCAST[cfg.trainer.precision]
        self.dtype = self.autocast or torch.float32
        with torch.device("meta"):
            net = network(cfg.model)
        size = (cfg.model.get("in_channels", 1), cfg.image_size, cfg.image_size)
        self.work = count_work(net, size, momentum=cfg.optimizer.get("momentum", 0) > 0)


class BareLoop(_OurLoop):
    """The configured network, optimizer and data, in as few lines of torch as train them."""

    name = "our network, bare loop"

    def seconds(self, warmup: int, steps: int) -> float:
        allocator.keep_freed_memory()
        datamodule = instantiate(self.cfg.data)
        datamodule.setup("fit")
        return _timed(self._steps(datamodule, warmup + steps), warmup, steps, self.device)

    def _steps(self, datamodule: FashionMNISTDataModule, total: int) -> Iterator[None]:
        net = build_network(self.cfg).to(self.device).train()
        optimizer = instantiate(self.cfg.optimizer)(net.parameters())
        scheduler = self.cfg.get("scheduler") and instantiate(self.cfg.scheduler)(optimizer, total_steps=total)
        images, labels = (tensor.to(self.device) for tensor in datamodule.train_set.tensors)
        while True:
            order = torch.randperm(len(labels), device=self.device)
            for chosen in torch.split(order, self.batch_size):
                optimizer.zero_grad()
                x = datamodule.preprocess(datamodule.augment(images[chosen]))
                with self._precision():
                    logits = net(x).float()
                loss = F.cross_entropy(logits, labels[chosen], label_smoothing=self.cfg.classifier.label_smoothing)
                torch.autograd.backward(loss)
                optimizer.step()
                if scheduler:
                    scheduler.step()
                yield

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        return torch.autocast(self.device.type, self.autocast) if self.autocast else contextlib.nullcontext()


class TrainerLoop(_OurLoop):
    """``Trainer.fit`` as `fashion-vgg train` composes it: classes, callbacks and loggers; without evaluation."""

    name = "Trainer.fit"

    def seconds(self, warmup: int, steps: int) -> float:
        allocator.keep_freed_memory()
        with tempfile.TemporaryDirectory() as folder:
            cfg: Any = OmegaConf.merge(
                self.cfg,
                {
                    "output_dir": folder,
                    "trainer": {"max_epochs": 1, "limit_val_batches": 0, "devices": 1, "enable_progress_bar": False},
                },
            )
            cfg.trainer.limit_train_batches = warmup + steps
            with open_dict(cfg):
                (cfg.get("callbacks") or {}).pop("slow_run_notice", None)  # it comes before the first step
            stopwatch = Stopwatch(warmup, warmup + steps, self.device)
            trainer = build_trainer(cfg, History(folder), instantiate(cfg.checkpoint), stopwatch)
            trainer.fit(build_classifier(cfg), instantiate(cfg.data))
        return stopwatch.seconds


class Stopwatch(L.Callback):
    """Takes the time from the end of the step before ``first`` to the end of the step before ``last``."""

    def __init__(self, first: int, last: int, device: torch.device) -> None:
        self.first, self.last, self.device = first, last, device

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self.first:
            _wait_for(self.device)
            self._start = time.perf_counter()
        if trainer.global_step == self.last:
            _wait_for(self.device)
            self.seconds = time.perf_counter() - self._start


def _timed(training: Iterator[Any], warmup: int, steps: int, device: torch.device) -> float:
    for _ in range(warmup):
        next(training)
    _wait_for(device)
    start = time.perf_counter()
    for _ in range(steps):
        next(training)
    _wait_for(device)
    return time.perf_counter() - start


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
