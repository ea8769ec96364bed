"""VGG on Fashion-MNIST at 224 px: a Lightning experiment composed by Hydra."""

__version__ = "0.1.0"
