"""VGG (Simonyan and Zisserman, 2015) in plain ``torch.nn``.

"The book" is *Dive into Deep Learning* (d2l.ai), section 8.2, "Networks Using Blocks (VGG)".
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from fashion_vgg.models.torchvision_weights import from_torchvision, torchvision_names
from fashion_vgg.models.whitening import WhiteningConv2d

Convs = int | Sequence[int | str]
"""The layers of a block: the number of 3x3 convolutions, or a list of kernel sizes and ``lrn``."""


def vgg_block(
    convs: Convs,
    in_channels: int,
    out_channels: int,
    batch_norm: bool = False,
    pool_before_norm: bool = False,
    relu_between: bool = True,
) -> nn.Sequential:
    """Build convolutions, each followed by a ReLU, and a 2x2 max-pooling: the book's ``vgg_block``.

    Shapes: ``(N, in_channels, H, W)`` to ``(N, out_channels, H // 2, W // 2)``. The options are those of `VGG`.

    Raises:
        ValueError: a kernel size is even, so no padding preserves the map's size.
    """
    kernels = kernel_sizes(convs)
    layers: list[nn.Module] = []
    for index, kernel in enumerate(kernels):
        if kernel == "lrn":
            # As in section 3.3 of Krizhevsky et al. (2012), which the paper cites. Torch divides alpha by the size.
            layers.append(nn.LocalResponseNorm(size=5, alpha=5 * 1e-4, beta=0.75, k=2.0))
            continue
        side = int(kernel)
        if side % 2 == 0:
            raise ValueError(f"A kernel size of {side} is even: no padding preserves the map's size; use an odd one.")
        layers.append(nn.Conv2d(in_channels, out_channels, side, padding=side // 2))
        in_channels = out_channels
        if batch_norm:
            layers.append(nn.BatchNorm2d(out_channels))
        if relu_between or set(kernels[index + 1 :]) <= {"lrn"}:  # no convolution follows
            layers.append(nn.ReLU())
    # The book pools after the last ReLU. Pooling before it has bit-identical outputs and gradients, and the ReLU then
    # works on a quarter of the values.
    layers_after_pool = 0 if kernels[-1] == "lrn" else 2 if batch_norm and pool_before_norm else 1
    layers.insert(len(layers) - layers_after_pool, nn.MaxPool2d(kernel_size=2, stride=2))
    return nn.Sequential(*layers)


def kernel_sizes(convs: Convs) -> list[int | str]:
    """The layers of a block as a list, with the 3x3 convolutions that a number stands for."""
    return [3] * convs if isinstance(convs, int) else list(convs)


def whitening_block(convs: Convs, in_channels: int, out_channels: int) -> nn.Sequential:
    """Build a first block of one `WhiteningConv2d`, a 2x2 max-pooling and a ReLU; shapes as in `vgg_block`.

    Raises:
        ValueError: there is more than one convolution, or the number of channels does not fit.
    """
    kernels = kernel_sizes(convs)
    if len(kernels) != 1:
        raise ValueError(f"A whitening block has one convolution, not {len(kernels)}.")
    layer = WhiteningConv2d(in_channels, out_channels, int(kernels[0]))
    return nn.Sequential(layer, nn.MaxPool2d(kernel_size=2, stride=2), nn.ReLU())


class VGG(nn.Module):
    """Blocks of convolutions (`vgg_block`) followed by fully connected layers.

    These are the networks of table 1 in Simonyan and Zisserman (2015), "Very Deep Convolutional Networks for
    Large-Scale Image Recognition", and of section 8.2 of the book.

    Weights are drawn from Xavier's uniform distribution, as in the book; with PyTorch's default initialization the
    book's network stays at a loss of ln 10. Biases keep PyTorch's default. The parameters are in the book's order and
    use the channels-last memory format, which is faster for convolutions.

    Args:
        conv_arch: one pair (convolutions, output channels) per block, as in a column of the paper's table 1. The
            convolutions are a number of 3x3 convolutions or a list of kernel sizes; ``lrn`` in the list is the local
            response normalization of column A-LRN.
        in_channels: channels of the images; 1 for grey images.
        num_classes: number of logits.
        image_size: height and width of the images in pixels. Each block halves the map, so the dense head requires a
            multiple of ``2 ** len(conv_arch)``, which is 32 for five blocks.
        ratio: divides the channels of every block; 4 in the book's narrow network.
        batch_norm: insert a batch norm after every convolution.
        pool_before_norm: pool before the last batch norm of a block, which needs less work but computes another
            function. Ignored if the block ends with ``lrn``.
        relu_between: if false, only the last convolution of a block has a ReLU.
        whitening: the first block is a `WhiteningConv2d` with pooling and ReLU, without batch norm. Its filters are
            zero until `whiten` sets them from training images, as the callback ``Whitening`` does.
        head: ``dense`` is the paper's: three fully connected layers on the whole map. ``compact`` has one hidden layer
            with batch norm. ``light`` is global max-pooling and one fully connected layer. The last two take any
            ``image_size`` of at least ``2 ** len(conv_arch)``.
        hidden: width of the hidden layers of the dense or compact head.
        dropout: dropout probability in the head.

    Shapes: ``(N, in_channels, image_size, image_size)`` to logits ``(N, num_classes)``.

    Raises:
        ValueError: the image size, the ratio, a kernel size, the whitening layer or the head is invalid.
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
        whitening: bool = False,
        head: Literal["dense", "compact", "light"] = "dense",
        hidden: int = 4096,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        widths = divide_channels([width for _, width in conv_arch], ratio)
        unit = 2 ** len(conv_arch)
        _check_image_size(image_size, unit, multiples_only=head == "dense")

        self.blocks = nn.Sequential()
        for (convs, _), width in zip(conv_arch, widths, strict=True):
            if whitening and not self.blocks:
                block = whitening_block(convs, in_channels, width)
            else:
                block = vgg_block(convs, in_channels, width, batch_norm, pool_before_norm, relu_between)
            self.blocks.append(block)
            in_channels = width
        in_features = in_channels * (image_size // unit) ** 2
        if head == "dense":
            self.head = dense_head(in_features, hidden, num_classes, dropout)
        elif head == "compact":
            first, norm = nn.Linear(in_features, hidden), nn.BatchNorm1d(hidden)
            last = nn.Linear(hidden, num_classes)
            self.head = nn.Sequential(nn.Flatten(), first, norm, nn.ReLU(), nn.Dropout(dropout), last)
        elif head == "light":
            linear = nn.Linear(in_channels, num_classes)
            self.head = nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Dropout(dropout), linear)
        else:
            raise ValueError(f"head={head} is unknown: use dense, compact or light.")
        self.apply(init_xavier)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of images; see the class for shapes."""
        logits: Tensor = self.head(self.blocks(images))
        return logits

    def load_torchvision(self, state_dict: Mapping[str, Tensor]) -> None:
        """Load the weights of the corresponding network of torchvision, ``vgg11`` to ``vgg19_bn``.

        At 224 px the outputs then equal torchvision's. If this network has one input channel, the first layer's weights
        are summed over the input channels: the outputs equal torchvision's for the grey channel repeated.

        Raises:
            ValueError: this network pools before a batch norm, which no VGG of torchvision does.
            RuntimeError: a tensor is missing, unexpected, or has another shape.
        """
        self.load_state_dict(from_torchvision(state_dict, self))

    def torchvision_state_dict(self) -> dict[str, Tensor]:
        """Return the weights with torchvision's names and order: the inverse of `load_torchvision`, with its errors."""
        names = torchvision_names(self)
        return {names[name]: value.contiguous() for name, value in self.state_dict().items()}


def dense_head(in_features: int, hidden: int, num_classes: int, dropout: float) -> nn.Sequential:
    """Three fully connected layers on the flattened map, with ReLU and dropout after the first two."""
    return nn.Sequential(
        nn.Flatten(),
        *(nn.Linear(in_features, hidden), nn.ReLU(), nn.Dropout(dropout)),
        *(nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout)),
        nn.Linear(hidden, num_classes),
    )


def init_xavier(module: nn.Module) -> None:
    """Initialize the weights of a convolution or fully connected layer as the book does; for `nn.Module.apply`."""
    if isinstance(module, nn.Conv2d | nn.Linear) and not isinstance(module, WhiteningConv2d):
        nn.init.xavier_uniform_(module.weight)


def divide_channels(widths: Sequence[int], ratio: int) -> list[int]:
    """Divide channel counts by ``ratio``, rounding down; a ratio that leaves no channel is a `ValueError`."""
    if not 1 <= ratio <= min(widths):
        raise ValueError(f"ratio={ratio} leaves a block no channel: use 1 to {min(widths)}.")
    return [width // ratio for width in widths]


def _check_image_size(size: int, unit: int, multiples_only: bool) -> None:
    if size < unit:
        raise ValueError(f"image_size={size} is too small for the network's pooling layers: use {unit} or more.")
    if multiples_only and size % unit:
        below = size - size % unit
        multiples = f"a multiple of {unit}, such as {below} or {below + unit}"
        raise ValueError(f"image_size={size} does not fit: each block halves the image, so use {multiples}.")
