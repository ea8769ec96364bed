"""The network, data loader and training loop of *Dive into Deep Learning* (d2l.ai), section 8.2, as a reference.

Written from the book's text. Tests compare our network and training with it, and the benchmark compares the speed. The
loader and the loop are the book's ``load_data_fashion_mnist`` and ``train_ch6``: images resized one at a time in four
worker processes, Xavier-uniform weights, plain SGD, and training metrics summed over the epoch with dropout on.
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


def vgg(conv_arch: Sequence[tuple[int, int]], image_size: int = 224, hidden: int = 4096) -> nn.Sequential:
    """Build the book's network, ``(N, 1, image_size, image_size)`` to logits ``(N, 10)``.

    ``conv_arch`` has a pair (number of convolutions, output channels) for each of the five blocks.
    """
    blocks, channels = [], 1
    for num_convs, out_channels in conv_arch:
        layers: list[nn.Module] = []
        for _ in range(num_convs):
            layers += [nn.Conv2d(channels, out_channels, kernel_size=3, padding=1), nn.ReLU()]
            channels = out_channels
        blocks.append(nn.Sequential(*layers, nn.MaxPool2d(kernel_size=2, stride=2)))
    side = image_size // 32
    first = (nn.Linear(channels * side * side, hidden), nn.ReLU(), nn.Dropout(0.5))
    second = (nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(0.5))
    net = nn.Sequential(*blocks, nn.Flatten(), *first, *second, nn.Linear(hidden, 10))
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(module.weight)
    return net


def training_set(root: Path, image_size: int = 224) -> datasets.FashionMNIST:
    """Return torchvision's data set of the files under ``root``; it resizes each image when it is read."""
    resized = transforms.Compose([transforms.Resize(image_size), transforms.ToTensor()])
    return datasets.FashionMNIST(root, train=True, transform=resized)


def loader(root: Path, batch_size: int, image_size: int = 224) -> DataLoader[Any]:
    """Return the book's loader of shuffled training batches."""
    return DataLoader(training_set(root, image_size), batch_size, shuffle=True, num_workers=4)


def steps(
    net: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], lr: float, device: torch.device | str = "cpu"
) -> Iterator[tuple[float, float, int]]:
    """Train on each batch, and yield its summed loss, its number of correct predictions, and its number of images."""
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
            loss_sum, correct = loss * len(y), (logits.argmax(dim=1) == y).sum()
        yield float(loss_sum), float(correct), len(y)  # synchronizes with the device, as the book does


def train(net: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], lr: float) -> tuple[list[float], float]:
    """Train on each batch, and return the mean loss of each step and the accuracy over all steps."""
    losses, correct, images = zip(*steps(net, batches, lr), strict=True)
    return [loss / count for loss, count in zip(losses, images, strict=True)], sum(correct) / sum(images)
