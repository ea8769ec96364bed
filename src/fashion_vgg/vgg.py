"""VGG (Simonyan and Zisserman, 2015) in plain ``torch.nn``, as the seed writes it."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn


def vgg_block(
    num_convs: int, in_channels: int, out_channels: int, batch_norm: bool = False, pool_before_norm: bool = False
) -> nn.Sequential:
    """``num_convs`` 3x3 convolutions, each followed by a ReLU, and a 2x2 max-pooling (the seed's `vgg_block`).

    Shapes: ``(N, in_channels, H, W)`` to ``(N, out_channels, H // 2, W // 2)``. With ``batch_norm`` the output of each
    convolution is normalised before its ReLU; with ``pool_before_norm`` the last one is pooled before that, which is
    another function, and a cheaper one.
    """
    layers: list[nn.Module] = []
    for channels in [in_channels] + [out_channels] * (num_convs - 1):
        layers.append(nn.Conv2d(channels, out_channels, kernel_size=3, padding=1))
        if batch_norm:
            layers.append(nn.BatchNorm2d(out_channels))
        layers.append(nn.ReLU())
    # The seed pools after the last ReLU. The two commute, in outputs and gradients to the last bit, and a pooled map
    # leaves a quarter of the ReLU's work.
    layers.insert(len(layers) - (2 if batch_norm and pool_before_norm else 1), nn.MaxPool2d(kernel_size=2, stride=2))
    return nn.Sequential(*layers)


class VGG(nn.Module):
    """A stack of `vgg_block` with a head of dense layers.

    Weights are drawn from Xavier's uniform distribution, as the seed's trainer does: under PyTorch's own initialisation
    the seed's network does not leave a loss of ln 10. Biases keep PyTorch's. Parameters come in the seed's order, block
    by block, then the head. They lie in memory with the channels last, which convolutions work on faster.

    Args:
        conv_arch: a pair (number of convolutions, output channels) a block, as in the paper's table 1.
        in_channels: channels of the images; 1 for grey ones.
        num_classes: number of logits.
        image_size: height and width of the images in pixels. Each block halves the map, so the dense head takes the
            multiples of ``2 ** len(conv_arch)``, 32 for five blocks, and its first layer follows the size.
        ratio: divides the channels of every block; 4 in the seed's narrow network.
        batch_norm: normalise the output of every convolution.
        pool_before_norm: pool before a block's last batch norm, not after it.
        head: ``dense`` is the paper's, three dense layers on the whole map; ``light`` is one dense layer on the largest
            value of each channel, and takes any image of at least ``2 ** len(conv_arch)`` pixels.
        hidden: width of the dense head's two hidden layers.
        dropout: probability with which the head drops a unit.

    Shapes: ``(N, in_channels, image_size, image_size)`` to ``(N, num_classes)`` logits.

    Raises:
        ValueError: the image size does not fit, the ratio leaves a block no channel, or the head is neither of the two.
    """

    def __init__(
        self,
        conv_arch: Sequence[tuple[int, int]],
        in_channels: int = 1,
        num_classes: int = 10,
        image_size: int = 224,
        ratio: int = 1,
        batch_norm: bool = False,
        pool_before_norm: bool = False,
        head: Literal["dense", "light"] = "dense",
        hidden: int = 4096,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        widths = _divide_widths([width for _, width in conv_arch], ratio)
        _check_image_size(image_size, unit=2 ** len(conv_arch), only_multiples=head == "dense")
        side = image_size // 2 ** len(conv_arch)

        self.blocks = nn.Sequential()
        for (num_convs, _), width in zip(conv_arch, widths, strict=True):
            self.blocks.append(vgg_block(num_convs, in_channels, width, batch_norm, pool_before_norm))
            in_channels = width
        match head:
            case "dense":
                self.head = _dense_head(in_channels * side * side, hidden, num_classes, dropout)
            case "light":
                self.head = _light_head(in_channels, num_classes, dropout)
            case _:
                raise ValueError(f"head={head} is unknown: use dense or light.")
        self.apply(_init_xavier)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images; see the class for the shapes."""
        logits: Tensor = self.head(self.blocks(images))
        return logits


def _dense_head(features: int, hidden: int, num_classes: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(),
        *(nn.Linear(features, hidden), nn.ReLU(), nn.Dropout(dropout)),
        *(nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout)),
        nn.Linear(hidden, num_classes),
    )


def _light_head(channels: int, num_classes: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(channels, num_classes))


def _init_xavier(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)


def _divide_widths(widths: Sequence[int], ratio: int) -> list[int]:
    if ratio > min(widths):
        raise ValueError(f"ratio={ratio} leaves a block no channel: use 1 to {min(widths)}.")
    return [width // ratio for width in widths]


def _check_image_size(size: int, unit: int, only_multiples: bool) -> None:
    if size < unit:
        raise ValueError(f"image_size={size} is too small for the network's halvings: use {unit} or more.")
    if only_multiples and size % unit:
        below = size - size % unit
        raise ValueError(
            f"image_size={size} does not fit: the network halves the image to whole pixels, "
            f"so use a multiple of {unit}, such as {below} or {below + unit}."
        )
