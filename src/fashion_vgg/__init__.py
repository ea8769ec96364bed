"""VGG on Fashion-MNIST at 224 px: a Lightning experiment composed by Hydra."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fashion_vgg.data import FashionMNISTDataModule
    from fashion_vgg.inference.predictor import load
    from fashion_vgg.models import VGG
    from fashion_vgg.training import ImageClassifier

__version__ = "0.1.0"
__all__ = ["VGG", "FashionMNISTDataModule", "ImageClassifier", "load"]

_MODULES = {
    "VGG": "models",
    "FashionMNISTDataModule": "data",
    "ImageClassifier": "training",
    "load": "inference.predictor",
}


def __getattr__(name: str) -> Any:
    # Lazy: help and mistakes on the command line do without torch.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
