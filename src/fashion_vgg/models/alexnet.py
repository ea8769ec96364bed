"""AlexNet (Krizhevsky et al., 2012) in plain ``torch.nn``, as in the book, for comparison with VGG."""

import torch
from torch import Tensor, nn

from fashion_vgg.models.vgg import dense_head, divide_channels, init_xavier

BLOCKS = ([(96, 11, 4, 1)], [(256, 5, 1, 2)], [(384, 3, 1, 1), (384, 3, 1, 1), (256, 3, 1, 1)])
"""The convolutions of each block: output channels, kernel size, stride, padding."""


class AlexNet(nn.Module):
    """Five convolutions with kernel sizes 11, 5 and 3 in three blocks, and the dense head of `VGG`.

    These are the layers of *Dive into Deep Learning* (d2l.ai), section 8.1. Initialization and memory format are those
    of `VGG`, so that the two networks differ only in their layers.

    The arguments are those of `VGG`; ``image_size`` is 65 or more, and ``ratio`` divides the channels of every
    convolution.

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
        if image_size < 65:  # the last pooling layer would have no output
            raise ValueError(f"image_size={image_size} is too small for AlexNet's strides: use 65 or more.")
        side = image_size
        self.blocks = nn.Sequential()
        for block in BLOCKS:
            widths = divide_channels([channels for channels, *_ in block], ratio)
            layers: list[nn.Module] = []
            for width, (_, kernel, stride, padding) in zip(widths, block, strict=True):
                layers += [nn.Conv2d(in_channels, width, kernel, stride, padding), nn.ReLU()]
                in_channels, side = width, (side + 2 * padding - kernel) // stride + 1
            layers.insert(-1, nn.MaxPool2d(3, stride=2))  # before the last ReLU, with the same result; see `vgg_block`
            side = (side - 3) // 2 + 1
            self.blocks.append(nn.Sequential(*layers))
        self.head = dense_head(in_channels * side * side, hidden, num_classes, dropout)
        self.apply(init_xavier)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of images; see the class for shapes."""
        logits: Tensor = self.head(self.blocks(images))
        return logits
