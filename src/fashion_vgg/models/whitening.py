"""A first convolution whose filters whiten the patches of the images: computed from images, and not trained.

Jordan (2024), "94% on CIFAR-10 in 3.29 Seconds on a Single GPU" (https://arxiv.org/abs/2404.00498).
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 5e-4
"""Added to the eigenvalues, for pixels in [0, 1]; airbench's value."""


class WhiteningConv2d(nn.Conv2d):
    """A convolution without bias that preserves the map's size, with frozen filters; zeros until `fit` sets them.

    Half of its filters map the patches of an image to uncorrelated values of unit mean square. The others are their
    negations, so that a ReLU loses nothing.

    Raises:
        ValueError: ``out_channels`` is odd, or more than twice the number of values in a patch.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        most = 2 * in_channels * kernel_size**2
        if out_channels % 2 or out_channels > most:
            raise ValueError(f"A whitening layer of {out_channels} channels: use an even number of at most {most}.")
        super().__init__(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)
        nn.init.zeros_(self.weight.requires_grad_(False))

    @torch.no_grad()
    def fit(self, images: Tensor) -> None:
        """Set the filters from the patches of images ``(N, in_channels, H, W)``.

        They are the eigenvectors of the patches' second moments with the largest eigenvalues, each divided by the
        square root of its eigenvalue.
        """
        patches = F.unfold(images.float(), self.kernel_size).movedim(1, 2).flatten(0, 1)
        eigenvalues, eigenvectors = torch.linalg.eigh(patches.T @ patches / len(patches))
        filters = (eigenvectors / (eigenvalues + EPSILON).sqrt()).T.flip(0)[: self.out_channels // 2]
        self.weight.copy_(torch.cat([filters, -filters]).view_as(self.weight))


def whiten(net: nn.Module, images: Callable[[], Tensor]) -> None:
    """Fit the whitening layers of a network that have no filters yet; ``images`` is called only if there are any."""
    for layer in net.modules():
        if isinstance(layer, WhiteningConv2d) and not layer.weight.any():
            layer.fit(images().to(layer.weight.device))
