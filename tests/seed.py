"""The seed's network and trainer, written from its text in as few lines as they take: what the project is held against.

The trainer is the book's `train_ch6`: Xavier-uniform weights, plain SGD, running sums over the epoch with dropout on.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

VGG11 = [(1, 64), (1, 128), (2, 256), (2, 512), (2, 512)]
NARROW = [(convs, channels // 4) for convs, channels in VGG11]


def vgg(conv_arch: Sequence[tuple[int, int]], image_size: int = 224) -> nn.Sequential:
    blocks, channels = [], 1
    for num_convs, out_channels in conv_arch:
        layers: list[nn.Module] = []
        for _ in range(num_convs):
            layers += [nn.Conv2d(channels, out_channels, kernel_size=3, padding=1), nn.ReLU()]
            channels = out_channels
        blocks.append(nn.Sequential(*layers, nn.MaxPool2d(kernel_size=2, stride=2)))
    side = image_size // 32
    net = nn.Sequential(
        *blocks,
        nn.Flatten(),
        nn.Linear(channels * side * side, 4096),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(4096, 4096),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(4096, 10),
    )
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(module.weight)
    return net


def train(net: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], lr: float) -> tuple[list[float], float]:
    """Losses of the steps, and the accuracy over all of them."""
    optimizer = torch.optim.SGD(net.parameters(), lr=lr)
    losses, right, images = [], 0, 0
    net.train()
    for x, y in batches:
        optimizer.zero_grad()
        logits = net(x)
        loss = nn.CrossEntropyLoss()(logits, y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        right += int((logits.argmax(dim=1) == y).sum())
        images += len(y)
    return losses, right / images
