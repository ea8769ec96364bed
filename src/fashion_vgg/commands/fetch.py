"""``fashion-vgg fetch``: download Fashion-MNIST to the folder that `train` reads, and verify every file."""

import hydra
from omegaconf import DictConfig

from fashion_vgg.config import validation
from fashion_vgg.config.app import CONF
from fashion_vgg.config.error_messages import reported_errors


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="fetch")
@reported_errors("fetch")
def main(cfg: DictConfig) -> None:
    validation.check(cfg)
    from fashion_vgg.data import download, fashion_mnist

    root = download.fetch(cfg.data.root)
    splits: tuple[fashion_mnist.Split, ...] = ("train", "test")
    for split in splits:
        images, _ = fashion_mnist.load(root, split)
        print(f"{split}: {len(images):,} images in {fashion_mnist.find(root)}")
