"""The callback that fits a whitening layer to the training images."""

from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from fashion_vgg.models import VGG
from fashion_vgg.models.whitening import WhiteningConv2d
from fashion_vgg.training import ImageClassifier, Muon, Whitening
from fashion_vgg.training.callbacks.whitening import IMAGES
from tests.helpers import small_datamodule, trainer_for


def filters_after_training(net: VGG, data_root: Path, folder: Path) -> Tensor:
    trainer, _ = trainer_for(folder, Whitening(), limit_train_batches=2, limit_val_batches=0)
    trainer.fit(ImageClassifier(net, partial(Muon, lr=0.1)), small_datamodule(data_root))
    return net.get_parameter("blocks.0.0.weight")


def small_net() -> VGG:
    return VGG([(1, 8), (1, 8)], image_size=28, head="light", batch_norm=True, whitening=True)


def test_the_filters_whiten_the_first_training_images_and_are_not_trained(data_root: Path, tmp_path: Path) -> None:
    datamodule = small_datamodule(data_root)
    datamodule.setup("fit")
    layer = WhiteningConv2d(1, 8, 3)
    layer.fit(datamodule.preprocess(datamodule.train_set[:IMAGES][0]))
    assert torch.equal(filters_after_training(small_net(), data_root, tmp_path), layer.weight)


def test_filters_that_were_loaded_stay(data_root: Path, tmp_path: Path) -> None:
    net = small_net()
    loaded = torch.randn(8, 1, 3, 3)
    net.load_state_dict(net.state_dict() | {"blocks.0.0.weight": loaded})
    assert torch.equal(filters_after_training(net, data_root, tmp_path), loaded)
