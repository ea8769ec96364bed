"""Fashion-MNIST: verified raw files, batches, augmentation."""

from fashion_vgg.data.datamodule import FashionMNISTDataModule

__all__ = ["FashionMNISTDataModule"]
