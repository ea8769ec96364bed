"""Random changes of images for training, each image its own, on the device that they lie on.

All take and give bytes ``(N, H, W)``, before the images are resized: so they cost next to nothing at any size.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def flip(images: Tensor, probability: float) -> Tensor:
    """Left and right exchanged, with this probability."""
    chosen = torch.rand(len(images), 1, 1, device=images.device) < probability
    return torch.where(chosen, images.flip(2), images)


def shift(images: Tensor, pixels: int) -> Tensor:
    """Moved by up to so many pixels down or up and to the right or left; black comes in from the edges."""
    count, height, width = images.shape
    rows, columns = _places(count, 2 * pixels, images.device)
    padded = F.pad(images, (pixels,) * 4)
    image = torch.arange(count, device=images.device)[:, None, None]
    return padded[image, rows + _range(height, images.device, 1), columns + _range(width, images.device, 2)]


def erase(images: Tensor, side: int) -> Tensor:
    """A square of ``side`` pixels made black, wherever it fits whole."""
    count, height, width = images.shape
    top, left = _places(count, height - side, images.device)
    row, column = _range(height, images.device, 1), _range(width, images.device, 2)
    inside = (row >= top) & (row < top + side) & (column >= left) & (column < left + side)
    return images.masked_fill(inside, 0)


def _places(count: int, most: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Two integers from 0 to ``most`` for each image, ``(N, 1, 1)``."""
    rows, columns = torch.randint(most + 1, (2, count, 1, 1), device=device)
    return rows, columns


def _range(length: int, device: torch.device, dimension: int) -> Tensor:
    shape = [1, 1, 1]
    shape[dimension] = length
    return torch.arange(length, device=device).reshape(shape)
