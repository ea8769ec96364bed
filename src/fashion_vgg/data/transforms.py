"""Transforms of a whole batch on the device that stores it: random augmentation, then preprocessing.

The augmentations keep uint8 ``(N, 28, 28)`` and draw new random numbers for every image. They run before the images are
resized, so their cost does not depend on the network's image size.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import resize


class Preprocess(nn.Module):
    """Converts uint8 images ``(N, H, W)`` to a network's input, float32 ``(N, channels, image_size, image_size)``.

    The images are resized and scaled to [0, 1] (`resize_batch`) and normalized; the grey channel is repeated.

    Args:
        image_size: height and width in pixels.
        channels: number of times the grey channel is repeated; 3 for a network trained on RGB images.
        mean: subtracted from every pixel.
        std: divides every pixel after ``mean`` is subtracted.
    """

    def __init__(self, image_size: int, channels: int = 1, mean: float = 0.0, std: float = 1.0) -> None:
        super().__init__()
        self.image_size = image_size
        self.channels = channels
        self.mean = mean
        self.std = std

    def forward(self, images: Tensor) -> Tensor:
        """Return the network's input; see the class for shapes."""
        return self.normalize(resize_batch(images, self.image_size))

    def normalize(self, scaled: Tensor) -> Tensor:
        """Normalize images in [0, 1], ``(N, 1, H, W)``, and repeat their channel."""
        if (self.mean, self.std) != (0.0, 1.0):
            scaled = (scaled - self.mean) / self.std
        return scaled.expand(-1, self.channels, -1, -1)


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
    image, row, column = (torch.arange(n, device=images.device) for n in images.shape)
    down, right = torch.randint(2 * pixels + 1, (2, len(images), 1, 1), device=images.device)
    return F.pad(images, (pixels,) * 4)[image[:, None, None], row[:, None] + down, column + right]


def erase(images: Tensor, side: int) -> Tensor:
    """Set a random square of ``side`` x ``side`` pixels to black; it lies inside the image."""
    row, column = (torch.arange(n, device=images.device) for n in images.shape[1:])
    top, left = torch.randint(images.shape[1] - side + 1, (2, len(images), 1, 1), device=images.device)
    rows, columns = row[:, None] - top, column - left  # relative to the square
    return images.masked_fill((rows >= 0) & (rows < side) & (columns >= 0) & (columns < side), 0)
