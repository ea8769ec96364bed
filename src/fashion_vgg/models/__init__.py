"""Networks in plain ``torch.nn``."""

from fashion_vgg.models.alexnet import AlexNet
from fashion_vgg.models.vgg import VGG

__all__ = ["VGG", "AlexNet"]
