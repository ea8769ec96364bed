"""VGG (Simonyan and Zisserman, 2015) in plain ``torch.nn``, as the seed writes it."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from fashion_vgg.models.torchvision_weights import renamed, torchvision_names

Convs = int | Sequence[int | str]
"""A block's layers: how many 3x3 convolutions, or the kernel size of each, with ``lrn`` where it is normalised."""


def vgg_block(
    convs: Convs,
    in_channels: int,
    out_channels: int,
    batch_norm: bool = False,
    pool_before_norm: bool = False,
    relu_between: bool = True,
) -> nn.Sequential:
    """Convolutions, each followed by a ReLU, and a 2x2 max-pooling (the seed's `vgg_block`).

    Shapes: ``(N, in_channels, H, W)`` to ``(N, out_channels, H // 2, W // 2)``. With ``batch_norm`` the output of each
    convolution is normalised before its ReLU; with ``pool_before_norm`` the last one is pooled before that, which is
    another function, and a cheaper one; a block that ends in ``lrn`` is pooled after all. Without ``relu_between`` only
    the last convolution has a ReLU.

    Raises:
        ValueError: a kernel's size is even, so that no padding keeps the map's size.
    """
    kernels = [3] * convs if isinstance(convs, int) else list(convs)
    layers: list[nn.Module] = []
    for place, kernel in enumerate(kernels):
        if kernel == "lrn":
            layers.append(_local_response_norm())
            continue
        layers.append(_same_size_conv(in_channels, out_channels, int(kernel)))
        in_channels = out_channels
        if batch_norm:
            layers.append(nn.BatchNorm2d(out_channels))
        if relu_between or set(kernels[place + 1 :]) <= {"lrn"}:
            layers.append(nn.ReLU())
    # The seed pools after the last ReLU. The two commute, in outputs and gradients to the last bit, and a pooled map
    # leaves a quarter of the ReLU's work.
    after_pool = 0 if kernels[-1] == "lrn" else 2 if batch_norm and pool_before_norm else 1
    layers.insert(len(layers) - after_pool, nn.MaxPool2d(kernel_size=2, stride=2))
    return nn.Sequential(*layers)


class VGG(nn.Module):
    """A stack of `vgg_block` with a head of dense layers.

    Weights are drawn from Xavier's uniform distribution, as the seed's trainer does: under PyTorch's own initialisation
    the seed's network does not leave a loss of ln 10. Biases keep PyTorch's. Parameters come in the seed's order, block
    by block, then the head. They lie in memory with the channels last, which convolutions work on faster.

    Args:
        conv_arch: a pair (convolutions, output channels) a block, as in the columns of the paper's table 1; the
            convolutions are a number of 3x3 ones, or a list of kernel sizes, in which ``lrn`` stands for the local
            response normalisation of column A-LRN.
        in_channels: channels of the images; 1 for grey ones.
        num_classes: number of logits.
        image_size: height and width of the images in pixels. Each block halves the map, so the dense head takes the
            multiples of ``2 ** len(conv_arch)``, 32 for five blocks, and its first layer follows the size.
        ratio: divides the channels of every block; 4 in the seed's narrow network.
        batch_norm: normalise the output of every convolution.
        pool_before_norm: pool before a block's last batch norm, not after it.
        relu_between: a ReLU after every convolution, not after the last one of each block alone.
        head: ``dense`` is the paper's, three dense layers on the whole map; ``light`` is one dense layer on the largest
            value of each channel, and takes any image of at least ``2 ** len(conv_arch)`` pixels.
        hidden: width of the dense head's two hidden layers.
        dropout: probability with which the head drops a unit.

    Shapes: ``(N, in_channels, image_size, image_size)`` to ``(N, num_classes)`` logits.

    Raises:
        ValueError: the image size does not fit, the ratio leaves a block no channel, a kernel is even, or the head is
            neither of the two.
    """

    def __init__(
        self,
        conv_arch: Sequence[tuple[Convs, int]],
        in_channels: int = 1,
        num_classes: int = 10,
        image_size: int = 224,
        ratio: int = 1,
        batch_norm: bool = False,
        pool_before_norm: bool = False,
        relu_between: bool = True,
        head: Literal["dense", "light"] = "dense",
        hidden: int = 4096,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        widths = divided([width for _, width in conv_arch], ratio)
        _check_image_size(image_size, unit=2 ** len(conv_arch), only_multiples=head == "dense")
        side = image_size // 2 ** len(conv_arch)

        self.blocks = nn.Sequential()
        for (convs, _), width in zip(conv_arch, widths, strict=True):
            self.blocks.append(vgg_block(convs, in_channels, width, batch_norm, pool_before_norm, relu_between))
            in_channels = width
        match head:
            case "dense":
                self.head = dense_head(in_channels * side * side, hidden, num_classes, dropout)
            case "light":
                self.head = _light_head(in_channels, num_classes, dropout)
            case _:
                raise ValueError(f"head={head} is unknown: use dense or light.")
        self.apply(init_xavier)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images; see the class for the shapes."""
        logits: Tensor = self.head(self.blocks(images))
        return logits

    def load_torchvision(self, state_dict: Mapping[str, Tensor]) -> None:
        """Take the weights of torchvision's VGG of the same columns, ``torchvision.models.vgg11`` to ``vgg19_bn``.

        At 224 px the outputs are torchvision's. A network of one input channel gets the first layer's weights summed
        over the colours: a grey image then gives what its three equal channels give there.

        Raises:
            ValueError: the network pools before a norm, which none of torchvision's does.
            RuntimeError: a tensor is missing, left over, or of another shape.
        """
        self.load_state_dict(renamed(state_dict, self))

    def torchvision_state_dict(self) -> dict[str, Tensor]:
        """The weights under torchvision's names, the way back of `load_torchvision`, in the order of its own.

        Raises:
            ValueError: as there.
        """
        names = torchvision_names(self)
        return {names[name]: value.contiguous() for name, value in self.state_dict().items()}


def dense_head(features: int, hidden: int, num_classes: int, dropout: float) -> nn.Sequential:
    """Three dense layers, a ReLU and a dropout between them: ``(N, C, H, W)`` of ``features`` numbers to logits."""
    return nn.Sequential(
        nn.Flatten(),
        *(nn.Linear(features, hidden), nn.ReLU(), nn.Dropout(dropout)),
        *(nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout)),
        nn.Linear(hidden, num_classes),
    )


def _light_head(channels: int, num_classes: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(channels, num_classes))


def init_xavier(module: nn.Module) -> None:
    """Draw the weights of a convolution or dense layer as the seed's trainer does; for `torch.nn.Module.apply`."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)


def _same_size_conv(in_channels: int, out_channels: int, kernel: int) -> nn.Conv2d:
    if kernel % 2 == 0:
        raise ValueError(f"A kernel of {kernel} pixels does not fit: no padding keeps the map's size; use an odd one.")
    return nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2)


def _local_response_norm() -> nn.LocalResponseNorm:
    # Krizhevsky et al., 2012, section 3.3, which the paper refers to; torch divides alpha by the size.
    return nn.LocalResponseNorm(size=5, alpha=5 * 1e-4, beta=0.75, k=2.0)


def divided(widths: Sequence[int], ratio: int) -> list[int]:
    """The widths divided by the ratio.

    Raises:
        ValueError: the ratio leaves one no channel, or is none.
    """
    if not 1 <= ratio <= min(widths):
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
