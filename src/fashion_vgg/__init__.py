"""VGG on Fashion-MNIST at 224 px: a Lightning experiment composed by Hydra."""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Lazy: help and mistakes on the command line do without torch.
    if name == "load":
        from fashion_vgg.inference.predictor import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
