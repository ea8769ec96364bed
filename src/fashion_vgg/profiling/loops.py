"""Three training loops: the book's, the configured network in a bare PyTorch loop, and Lightning's Trainer."""

import itertools
import multiprocessing
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from lightning.pytorch.callbacks import LambdaCallback
from omegaconf import DictConfig, OmegaConf

from fashion_vgg.data import FashionMNISTDataModule, fashion_mnist
from fashion_vgg.errors import UserError
from fashion_vgg.profiling.roofline import clock, step_passes
from fashion_vgg.reference import d2l
from fashion_vgg.training import History, allocator, schedules
from fashion_vgg.training.build import build_classifier, build_network, build_trainer

TRAINING_IMAGES = 60_000
AUTOCAST = {"32-true": None, "bf16-mixed": torch.bfloat16}  # precisions of the bare loop, dtypes of their autocast


class ReferenceLoop:
    """The book's network, loader and loop, in float32; the settings are ``image_size``, ``batch_size`` and ``lr``."""

    name = "the book's loop"
    dtype = torch.float32

    def __init__(self, root: Path, settings: DictConfig, device: torch.device) -> None:
        self.root, self.device, self.lr = root, device, settings.lr
        self.image_size, self.batch_size = settings.image_size, settings.batch_size
        self.steps_per_epoch = TRAINING_IMAGES // self.batch_size
        with torch.device("meta"):
            net = d2l.vgg(d2l.NARROW, self.image_size)
        size = (1, self.image_size, self.image_size)
        self.passes = step_passes(net, size, self.batch_size, self.dtype, momentum=False)

    def time_steps(self, warmup: int, steps: int) -> float:
        net = d2l.vgg(d2l.NARROW, self.image_size).to(self.device)
        with warnings.catch_warnings(), tempfile.TemporaryDirectory() as root:
            warnings.filterwarnings("ignore", ".*worker processes")  # four as in the book, even on fewer cores
            warnings.filterwarnings("ignore", ".*multi-threaded, use of fork")  # how DataLoader starts them on Linux
            multiprocessing.set_start_method(None, force=True)  # the default, which this spawned process does not have
            fashion_mnist.unpack(self.root, Path(root))
            loader = d2l.loader(Path(root), self.batch_size, self.image_size)
            batches = itertools.chain.from_iterable(itertools.repeat(loader))
            return _time(d2l.steps(net, batches, self.lr, self.device), warmup, steps, self.device)


class _ConfiguredLoop:
    """Trains the configured network; raises UserError if the bare loop does not support the precision."""

    def __init__(self, cfg: DictConfig, device: torch.device) -> None:
        if cfg.trainer.precision not in AUTOCAST:
            raise UserError(f"trainer.precision={cfg.trainer.precision}: bench supports {' and '.join(AUTOCAST)}.")
        if cfg.trainer.accumulate_grad_batches != 1:
            raise UserError(f"trainer.accumulate_grad_batches={cfg.trainer.accumulate_grad_batches}: bench supports 1.")
        self.cfg, self.device = cfg, device
        self.image_size, self.batch_size = cfg.image_size, cfg.batch_size
        datamodule = instantiate(cfg.data)
        datamodule.setup("fit")
        self.steps_per_epoch = len(datamodule.train_set) // self.batch_size
        self.autocast = AUTOCAST[cfg.trainer.precision]
        self.dtype = self.autocast or torch.float32
        with torch.device("meta"):
            net = instantiate(cfg.model)
        size, momentum = (cfg.in_channels, cfg.image_size, cfg.image_size), cfg.optimizer.get("momentum", 0)
        self.passes = step_passes(net, size, self.batch_size, self.dtype, momentum > 0)


class BareLoop(_ConfiguredLoop):
    """The configured network, optimizer, scheduler and data in a loop of plain PyTorch."""

    name = "bare PyTorch loop"

    def time_steps(self, warmup: int, steps: int) -> float:
        allocator.keep_freed_memory()
        datamodule = instantiate(self.cfg.data)
        datamodule.setup("fit")
        return _time(self._steps(datamodule, warmup + steps), warmup, steps, self.device)

    def _steps(self, datamodule: FashionMNISTDataModule, total: int) -> Iterator[None]:
        net = build_network(self.cfg).to(self.device).train()
        optimizer = instantiate(self.cfg.optimizer, _convert_="all")(net.parameters())
        schedule = instantiate(self.cfg.scheduler, _convert_="all")
        interval = self.cfg.classifier.scheduler_interval or (schedule and schedules.default_interval(schedule))
        scheduler = schedules.create(schedule, optimizer, total) if schedule and interval == "step" else None
        images, labels = (tensor.to(self.device) for tensor in datamodule.train_set.tensors)
        while True:
            order = torch.randperm(len(labels), device=self.device)
            for batch in torch.split(order, self.batch_size):
                optimizer.zero_grad()
                x = datamodule.preprocess(datamodule.augment(images[batch]))
                with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
                    logits = net(x).float()
                loss = F.cross_entropy(logits, labels[batch], label_smoothing=self.cfg.classifier.label_smoothing)
                torch.autograd.backward(loss)
                optimizer.step()
                if scheduler:
                    scheduler.step()
                yield


class TrainerLoop(_ConfiguredLoop):
    """``Trainer.fit`` with the classes, callbacks and loggers of ``fashion-vgg train``, without evaluation."""

    name = "Trainer.fit"  # and the precision, for a second one

    def time_steps(self, warmup: int, steps: int) -> float:
        allocator.keep_freed_memory()
        ends: list[float] = []  # of the last warm-up step and of the last step

        def end_step(trainer: L.Trainer, *_: Any) -> None:
            if trainer.global_step in (warmup, warmup + steps):
                ends.append(clock(self.device))

        with tempfile.TemporaryDirectory() as folder:
            cfg = short_training(self.cfg, folder, warmup + steps)
            stopwatch = LambdaCallback(on_train_batch_end=end_step)
            trainer = build_trainer(cfg, History(folder), instantiate(cfg.checkpoint), stopwatch)
            trainer.fit(build_classifier(cfg), instantiate(cfg.data))
        return ends[1] - ends[0]


Loop = ReferenceLoop | BareLoop | TrainerLoop
"""``time_steps`` trains a new network for ``warmup`` steps, then returns the seconds of ``steps`` more; ``passes`` are
those of one step, ``dtype`` is that of the operands of products."""


def short_training(cfg: DictConfig, folder: str, steps: int) -> DictConfig:
    """The configuration of a training of a few steps without evaluation, which writes to ``folder``.

    Callbacks that monitor a metric are left out.
    """
    limits: dict[str, Any] = {"max_epochs": 1, "limit_train_batches": steps, "limit_val_batches": 0, "devices": 1}
    limits |= {"max_steps": -1, "max_time": None, "fast_dev_run": False, "overfit_batches": 0.0}
    monitors = [name for name, node in (cfg.get("callbacks") or {}).items() if node and "monitor" in node]
    changes = {"output_dir": folder, "trainer": limits | {"enable_progress_bar": False}}
    changes["callbacks"] = dict.fromkeys(monitors)
    return OmegaConf.merge(cfg, changes)  # type: ignore[return-value]


def _time(training: Iterator[Any], warmup: int, steps: int, device: torch.device) -> float:
    for _ in range(warmup):
        next(training)
    start = clock(device)
    for _ in range(steps):
        next(training)
    return clock(device) - start
