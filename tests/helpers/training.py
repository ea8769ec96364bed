"""Trainings in this process: a small network, the data module and a Trainer, built without configs."""

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch.optim import SGD

from fashion_vgg.data import FashionMNISTDataModule
from fashion_vgg.data.seeds import derive_seed
from fashion_vgg.models import VGG
from fashion_vgg.training import History, ImageClassifier, Throughput


def trainer_for(folder: Path, *callbacks: L.Callback, **settings: Any) -> tuple[L.Trainer, History]:
    history = History(str(folder))
    settings = {"max_epochs": 1, "logger": False, "enable_checkpointing": True} | settings
    trainer = L.Trainer(
        accelerator="cpu",
        devices=1,
        callbacks=[history, Throughput(), *callbacks],
        default_root_dir=folder,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        **settings,
    )
    return trainer, history


def small_datamodule(data_root: Path, **settings: Any) -> FashionMNISTDataModule:
    return FashionMNISTDataModule(str(data_root), **({"image_size": 28, "batch_size": 32} | settings))


def small_classifier(dropout: float = 0.5, **settings: Any) -> ImageClassifier:
    net = VGG([(1, 4), (1, 8)], image_size=28, hidden=16, dropout=dropout)
    return ImageClassifier(net, **({"optimizer": partial(SGD, lr=0.05)} | settings))


def each_reseeded(batches: Iterable[Any], run_seed: int = 0) -> Iterator[Any]:
    """Seed the generator before each step as a training does, so that dropout draws the same numbers."""
    for step, batch in enumerate(batches):
        torch.manual_seed(derive_seed(run_seed, step, 0))
        yield batch
