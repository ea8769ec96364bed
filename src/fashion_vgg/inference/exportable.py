"""The preprocessing of a batch in operations that exported networks can contain."""

import torch
from torch import Tensor, nn

from fashion_vgg.data.fashion_mnist import SIDE
from fashion_vgg.data.transforms import Preprocess


class ExportablePreprocess(nn.Module):
    """`Preprocess` as matrix products, for uint8 images ``(N, 28, 28)``; bit-equal on the CPU.

    torchvision resizes bytes in integers: each pixel is a sum of bytes with weights of 16 bits, rounded, first along
    the rows and then along the columns. All of these integers are exact in float32.
    """

    weights: Tensor

    def __init__(self, preprocess: Preprocess) -> None:
        super().__init__()
        self.preprocess = preprocess
        weights, self.unit = resize_weights(SIDE, preprocess.image_size)
        self.register_buffer("weights", weights)

    def forward(self, images: Tensor) -> Tensor:
        """Return the network's input."""
        pixels = images.float()
        if self.preprocess.image_size != SIDE:
            pixels = self._round(pixels @ self.weights.T)
            pixels = self._round(self.weights @ pixels)
        return self.preprocess.normalize(pixels.unsqueeze(1) / 255)

    def _round(self, sums: Tensor) -> Tensor:
        return ((sums + self.unit / 2) / self.unit).floor().clamp(0, 255)


def resize_weights(size: int, new_size: int) -> tuple[Tensor, float]:
    """The weights ``(new_size, size)`` of a bilinear, antialiased resize in integers, and the integer that means 1."""
    scale = size / new_size
    centres = (torch.arange(new_size, dtype=torch.float64) + 0.5) * scale
    distances = torch.arange(size, dtype=torch.float64) + 0.5 - centres[:, None]
    weights = (1 - (distances / max(scale, 1.0)).abs()).clamp(min=0)
    weights /= weights.sum(dim=1, keepdim=True)
    largest = float(weights.max())
    bits = next(bits for bits in range(22) if int(largest * 2 ** (bits + 1) + 0.5) >= 2**15)
    return (weights * 2**bits + 0.5).floor().float(), 2.0**bits
