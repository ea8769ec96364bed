"""The seed's network, loader and loop, written from its text in as few lines as they take: what we are held against.

The loader and the loop are the book's `load_data_fashion_mnist` and `train_ch6`: images resized one by one in four
loader processes, Xavier-uniform weights, plain SGD, running sums over the epoch with dropout on.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

VGG11 = [(1, 64), (1, 128), (2, 256), (2, 512), (2, 512)]
NARROW = [(convs, channels // 4) for convs, channels in VGG11]


def vgg(conv_arch: Sequence[tuple[int, int]], image_size: int = 224) -> nn.Sequential:
    """``(N, 1, image_size, image_size)`` to ``(N, 10)`` logits; pairs of convolutions and channels, a block each."""
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


def training_set(root: Path, image_size: int = 224) -> datasets.FashionMNIST:
    """Images resized as one takes them, from files in torchvision's place under ``root``."""
    resized = transforms.Compose([transforms.Resize(image_size), transforms.ToTensor()])
    return datasets.FashionMNIST(root, train=True, transform=resized)


def loader(root: Path, batch_size: int, image_size: int = 224) -> DataLoader[Any]:
    """Shuffled batches of the training set."""
    return DataLoader(training_set(root, image_size), batch_size, shuffle=True, num_workers=4)


def steps(
    net: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], lr: float, device: torch.device | str = "cpu"
) -> Iterator[tuple[float, float, int]]:
    """Train on batch after batch; after each, the sum of its losses, its right answers, its images."""
    optimizer = torch.optim.SGD(net.parameters(), lr=lr)
    net.train()
    for images, labels in batches:
        optimizer.zero_grad()
        x, y = images.to(device), labels.to(device)
        logits = net(x)
        loss = nn.CrossEntropyLoss()(logits, y)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            figures = loss * len(y), (logits.argmax(dim=1) == y).sum()
        yield float(figures[0]), float(figures[1]), len(y)  # the device is waited for, as in the book


def train(net: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], lr: float) -> tuple[list[float], float]:
    """Losses of the steps, and the accuracy over all of them."""
    figures = list(steps(net, batches, lr))
    return [loss / count for loss, _, count in figures], sum(f[1] for f in figures) / sum(f[2] for f in figures)
