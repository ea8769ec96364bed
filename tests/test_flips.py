"""`scripts/flips.py`: the accuracy with mirror images."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

import fashion_vgg as package
from fashion_vgg.data import FashionMNISTDataModule
from tests.conftest import Command
from tests.helpers import read_summary, trained

SCRIPT = Path(__file__).parents[1] / "scripts" / "flips.py"


@pytest.mark.long
def test_both_accuracies_are_those_of_the_split_that_the_run_evaluates(
    fashion_vgg: Command, tiny: list[str], tmp_path_factory: pytest.TempPathFactory, data_root: Path
) -> None:
    overrides = "data.val_size=1280", "trainer.limit_val_batches=1.0", "trainer.precision=32-true"
    run = trained(fashion_vgg, tmp_path_factory, *tiny, *overrides)
    done = subprocess.run([sys.executable, SCRIPT, run], capture_output=True, text=True, check=True)
    plain, both = (float(line.split("|")[2]) for line in done.stdout.splitlines()[2:])
    assert plain == pytest.approx(read_summary(run)["best"]["val/acc"], abs=5e-5)

    datamodule = FashionMNISTDataModule(str(data_root), image_size=28, batch_size=128, val_size=1280)
    datamodule.setup("fit")
    images, labels = datamodule.val_set.tensors
    network = package.load(run)

    def logits(each: Tensor) -> Tensor:
        return network.net(each[:, None].float() / 255)  # type: ignore[no-any-return]

    with torch.no_grad():
        correct = (logits(images) + logits(images.flip(2))).argmax(dim=1) == labels
    assert both == pytest.approx(correct.double().mean().item(), abs=1e-3)  # other batches round otherwise
