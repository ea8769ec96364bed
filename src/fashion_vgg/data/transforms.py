"""Transforms of a whole batch on the device that stores it: random augmentation, then resizing and scaling.

The augmentations keep uint8 ``(N, 28, 28)`` and draw new random numbers for every image. They run before the images are
resized, so their cost does not depend on the network's image size.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import resize


def resize_batch(images: Tensor, size: int) -> Tensor:
    """Resize uint8 ``(N, H, W)`` to float32 ``(N, 1, size, size)``, scaled to [0, 1].

    Bilinear with antialiasing, on bytes, as PIL does it; floats would differ from PIL's result by up to 1/255.
    """
    height, width = images.shape[1:]
    # Groups of four images become the channels of one, because a CPU resizes four channels as fast as one.
    groups = F.pad(images, (0, 0, 0, 0, 0, -len(images) % 4)).reshape(-1, 4, height, width)
    resized = resize(groups, [size, size], InterpolationMode.BILINEAR, antialias=True)
    scaled: Tensor = resized.contiguous().flatten(0, 1)[: len(images)].unsqueeze(1).float().div_(255)
    return scaled


def flip(images: Tensor, probability: float) -> Tensor:
    """Flip each image horizontally with the given probability."""
    flipped = torch.rand(len(images), 1, 1, device=images.device) < probability
    return torch.where(flipped, images.flip(2), images)


def shift(images: Tensor, pixels: int) -> Tensor:
    """Shift each image by up to ``pixels`` in each direction and fill the border with black."""
    count, height, width = images.shape
    rows, columns = _random_offsets(count, 2 * pixels, images.device)
    padded = F.pad(images, (pixels,) * 4)
    image = torch.arange(count, device=images.device)[:, None, None]
    return padded[image, rows + _arange(height, images.device, 1), columns + _arange(width, images.device, 2)]


def erase(images: Tensor, side: int) -> Tensor:
    """Set a random square of ``side`` x ``side`` pixels to black; it lies inside the image."""
    count, height, width = images.shape
    top, left = _random_offsets(count, height - side, images.device)
    row, column = _arange(height, images.device, 1), _arange(width, images.device, 2)
    inside = (row >= top) & (row < top + side) & (column >= left) & (column < left + side)
    return images.masked_fill(inside, 0)


def _random_offsets(count: int, largest: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Two integers from 0 to ``largest`` per image, each ``(N, 1, 1)``."""
    rows, columns = torch.randint(largest + 1, (2, count, 1, 1), device=device)
    return rows, columns


def _arange(length: int, device: torch.device, dimension: int) -> Tensor:
    shape = [1, 1, 1]
    shape[dimension] = length
    return torch.arange(length, device=device).reshape(shape)
