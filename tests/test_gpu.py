"""What needs an NVIDIA GPU; scripts/gpu_check.sh runs these."""

import json
from pathlib import Path

import pytest
import torch

from fashion_vgg.data.datamodule import FashionMNISTDataModule
from fashion_vgg.data.transforms import resize_batch
from fashion_vgg.models.vgg import VGG
from fashion_vgg.reference import d2l
from tests.conftest import Command

pytestmark = pytest.mark.gpu


def test_a_batch_resized_on_the_gpu_is_within_a_rounding_of_the_cpus(data_root: Path) -> None:
    datamodule = FashionMNISTDataModule(str(data_root), image_size=224, batch_size=128)
    datamodule.setup("test")
    images = datamodule.test_set.tensors[0][:128]
    difference = (resize_batch(images.cuda(), 224).cpu() - resize_batch(images, 224)).abs()
    # A byte is rounded from a sum that the two devices add up in different orders.
    assert difference.max() <= 1.001 / 255
    assert (difference > 0).double().mean() < 0.01


def test_losses_on_the_gpu_follow_the_cpus() -> None:
    generator = torch.Generator().manual_seed(1)
    x, y = torch.rand(40, 1, 96, 96, generator=generator), torch.randint(10, (40,), generator=generator)
    losses = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        net = VGG(d2l.VGG11, ratio=4, image_size=96, dropout=0.0).to(device)
        batches = list(zip(x.to(device).split(8), y.to(device).split(8), strict=True))
        losses.append(d2l.train(net, batches, lr=0.05)[0])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_the_recipe_trains_on_the_gpu_that_it_finds(fashion_vgg: Command, data_root: Path, tmp_path: Path) -> None:
    few = ["trainer.max_epochs=1", "trainer.limit_train_batches=20", "trainer.limit_val_batches=2"]
    done = fashion_vgg("train", "experiment=d2l", f"data.root={data_root}", *few, root=tmp_path)
    assert done.returncode == 0, done.stderr
    [summary] = tmp_path.glob("outputs/train/*/*/summary.json")
    assert json.loads(summary.read_text())["device"] == "cuda:0"
    assert "examples/sec on cuda:0" in done.stdout


def test_a_deterministic_training_gives_the_same_bits_again_and_after_a_stop(
    fashion_vgg: Command, data_root: Path, tmp_path: Path
) -> None:
    small = [f"data.root={data_root}", "trainer.deterministic=true", "trainer.precision=bf16-mixed", "model.ratio=8"]
    small += ["image_size=64", "batch_size=32", "trainer.limit_train_batches=10", "trainer.limit_val_batches=2"]
    small += ["data.flip=0.5", "data.shift=2", "data.erase=6", "checkpoint.every_minutes=0"]
    for name, epochs in (("one", 2), ("two", 2), ("stopped", 1)):
        run = [f"hydra.run.dir={tmp_path / name}", f"trainer.max_epochs={epochs}"]
        done = fashion_vgg("train", *small, *run, root=tmp_path)
        assert done.returncode == 0, done.stderr
    done = fashion_vgg("train", f"resume={tmp_path / 'stopped'}", "trainer.max_epochs=2", root=tmp_path)
    assert done.returncode == 0, done.stderr
    one, *others = (
        torch.load(tmp_path / name / "last.ckpt", weights_only=True)["state_dict"] for name in ("one", "two", "stopped")
    )
    for other in others:
        assert all(torch.equal(value, other[name]) for name, value in one.items())
