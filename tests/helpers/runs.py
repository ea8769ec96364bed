"""Reads the folder of a run, and writes folders as `fashion-vgg train` does."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from fashion_vgg.checkpoints import run_folder
from fashion_vgg.data import FashionMNISTDataModule
from tests.processes.command import Command


def only(folder: Path, pattern: str) -> Path:
    """The one path that matches."""
    [path] = folder.glob(pattern)
    return path


def trained(fashion_vgg: Command, folders: pytest.TempPathFactory, *overrides: str) -> Path:
    """The folder of a training that has finished."""
    root = folders.mktemp("run")
    done = fashion_vgg("train", *overrides, root=root)
    assert done.returncode == 0, done.stderr
    return only(root, "outputs/train/*/*")


def read_summary(run: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((run / run_folder.SUMMARY).read_text())
    return summary


def weights(run: Path, checkpoint: str = "last.ckpt") -> dict[str, torch.Tensor]:
    """The network's part of a checkpoint's state dict, without the prefix ``net.``."""
    state = torch.load(run / checkpoint, weights_only=True)["state_dict"]
    return {name.removeprefix("net."): value for name, value in state.items() if name.startswith("net.")}


def accuracy_by_hand(run: Path, checkpoint: str) -> float:
    """A checkpoint's accuracy on the whole test set, computed without Lightning."""
    cfg = OmegaConf.load(run / run_folder.CONFIG)
    net = instantiate(cfg.model)
    net.load_state_dict(weights(run, checkpoint))
    datamodule: FashionMNISTDataModule = instantiate(cfg.data)
    datamodule.setup("test")
    images, labels = datamodule.on_after_batch_transfer(datamodule.test_set[:], 0)
    with torch.no_grad():
        return float((net.eval()(images).argmax(1) == labels).double().mean())


def leave(folder: Path, overrides: Sequence[str], rows: Sequence[dict[str, float]] = (), **summary: Any) -> Path:
    """Write a run's folder; the run is unfinished if no ``summary`` is passed."""
    (folder / ".hydra").mkdir(parents=True)
    OmegaConf.save(OmegaConf.create(list(overrides)), folder / run_folder.OVERRIDES)
    (folder / run_folder.CONFIG).write_text("{}")
    if rows:
        with (folder / run_folder.METRICS).open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    if summary:
        (folder / run_folder.SUMMARY).write_text(
            json.dumps({"epochs": len(rows), "overrides": list(overrides), **summary})
        )
    return folder


def finish(folder: Path, overrides: Sequence[str], accuracy: float, seconds: float = 20.0) -> Path:
    """Write a finished run of two epochs without a validation split, whose first epoch was the better one."""
    rows = [
        {"epoch": 1, "train/loss": 0.9, "test/loss": 0.5, "test/acc": accuracy + 0.01, "images_per_sec": 900.0},
        {"epoch": 2, "train/loss": 0.7, "test/loss": 1 - accuracy, "test/acc": accuracy, "images_per_sec": 1100.0},
    ]
    return leave(
        folder, overrides, rows, final=rows[1], best=rows[0], wall_seconds=seconds, images_per_sec=1000 * seconds
    )
