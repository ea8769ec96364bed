"""AlexNet (Krizhevsky et al., 2012) in plain ``torch.nn``, as in the book, for comparison with VGG."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from fashion_vgg.models.vgg import dense_head, divide_channels, init_xavier


class _Conv(NamedTuple):
    channels: int
    kernel: int
    stride: int
    padding: int


_BLOCKS = (
    (_Conv(96, kernel=11, stride=4, padding=1),),
    (_Conv(256, kernel=5, stride=1, padding=2),),
    (_Conv(384, 3, 1, 1), _Conv(384, 3, 1, 1), _Conv(256, 3, 1, 1)),
)
_POOL, _POOL_STRIDE = 3, 2
_MIN_IMAGE_SIZE = 65
"""The last pooling layer then has an output of one pixel."""


class AlexNet(nn.Module):
    """Five convolutions with kernel sizes 11, 5 and 3 in three blocks, and the dense head of `VGG`.

    These are the layers of *Dive into Deep Learning* (d2l.ai), section 8.1. Initialization and memory format are those
    of `VGG`, so that the two networks differ only in their layers.

    Args:
        in_channels: channels of the images.
        num_classes: number of logits.
        image_size: height and width of the images in pixels, 65 or more.
        ratio: divides the channels of every convolution.
        hidden: width of the two hidden fully connected layers.
        dropout: dropout probability in the head.

    Shapes: ``(N, in_channels, image_size, image_size)`` to logits ``(N, num_classes)``.

    Raises:
        ValueError: the image size or the ratio is invalid.
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 10,
        image_size: int = 224,
        ratio: int = 1,
        hidden: int = 4096,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if image_size < _MIN_IMAGE_SIZE:
            raise ValueError(
                f"image_size={image_size} is too small for AlexNet's strides: use {_MIN_IMAGE_SIZE} or more."
            )
        widths = iter(divide_channels([conv.channels for block in _BLOCKS for conv in block], ratio))
        side = image_size
        self.blocks = nn.Sequential()
        for block in _BLOCKS:
            layers: list[nn.Module] = []
            for conv in block:
                width = next(widths)
                layers.append(nn.Conv2d(in_channels, width, conv.kernel, conv.stride, conv.padding))
                layers.append(nn.ReLU())
                in_channels, side = width, (side + 2 * conv.padding - conv.kernel) // conv.stride + 1
            # Before the last ReLU, which gives the same result; see `vgg_block`.
            layers.insert(-1, nn.MaxPool2d(_POOL, _POOL_STRIDE))
            side = (side - _POOL) // _POOL_STRIDE + 1
            self.blocks.append(nn.Sequential(*layers))
        self.head = dense_head(in_channels * side * side, hidden, num_classes, dropout)
        self.apply(init_xavier)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of images; see the class for shapes."""
        logits: Tensor = self.head(self.blocks(images))
        return logits
