"""Tests that need an NVIDIA GPU; scripts/gpu_check.sh runs them."""

import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from fashion_vgg.data.datamodule import FashionMNISTDataModule
from fashion_vgg.data.transforms import resize_batch
from fashion_vgg.models.vgg import VGG
from fashion_vgg.reference import d2l
from tests.helpers import only, read_summary, weights
from tests.processes.command import Command

pytestmark = pytest.mark.gpu

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def train(fashion_vgg: Command, data_root: Path, tmp_path: Path) -> Run:
    """Runs `fashion-vgg train` in a new interpreter: CUDA does not survive a fork."""
    return partial(fashion_vgg, "train", f"data.root={data_root}", root=tmp_path, fork=False)


def test_resizing_on_the_gpu_matches_the_cpu(data_root: Path) -> None:
    datamodule = FashionMNISTDataModule(str(data_root), image_size=224, batch_size=128)
    datamodule.setup("test")
    images = datamodule.test_set.tensors[0][:128]
    difference = (resize_batch(images.cuda(), 224).cpu() - resize_batch(images, 224)).abs()
    # A byte is rounded from a sum that the two devices add up in different orders.
    assert difference.max() <= 1.001 / 255
    assert (difference > 0).double().mean() < 0.01


def test_losses_on_the_gpu_match_the_cpu() -> None:
    generator = torch.Generator().manual_seed(1)
    x, y = torch.rand(40, 1, 96, 96, generator=generator), torch.randint(10, (40,), generator=generator)
    losses = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        net = VGG(d2l.VGG11, ratio=4, image_size=96, dropout=0.0).to(device)
        batches = list(zip(x.to(device).split(8), y.to(device).split(8), strict=True))
        losses.append(d2l.train(net, batches, lr=0.05)[0])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)  # cuDNN's convolutions round factors to TF32, 2^-11


def test_a_training_finds_the_gpu(train: Run, tmp_path: Path) -> None:
    few = ["trainer.max_epochs=1", "trainer.limit_train_batches=20", "trainer.limit_val_batches=2"]
    done = train("experiment=d2l", *few)
    assert done.returncode == 0, done.stderr
    assert read_summary(only(tmp_path, "outputs/train/*/*"))["device"] == "cuda:0"
    assert "examples/sec on cuda:0" in done.stdout


def test_a_deterministic_training_repeats_and_resumes_exactly(train: Run, tmp_path: Path) -> None:
    small = ["trainer.deterministic=true", "trainer.precision=bf16-mixed", "model.ratio=8", "image_size=64"]
    small += ["batch_size=32", "trainer.limit_train_batches=10", "trainer.limit_val_batches=2"]
    small += ["data.flip=0.5", "data.shift=2", "data.erase=6", "checkpoint.every_minutes=0"]
    for name, epochs in (("one", 2), ("two", 2), ("stopped", 1)):
        done = train(*small, f"hydra.run.dir={tmp_path / name}", f"trainer.max_epochs={epochs}")
        assert done.returncode == 0, done.stderr
    done = train(f"resume={tmp_path / 'stopped'}", "trainer.max_epochs=2")
    assert done.returncode == 0, done.stderr
    one, *others = (weights(tmp_path / name) for name in ("one", "two", "stopped"))
    for other in others:
        assert all(torch.equal(value, other[name]) for name, value in one.items())
