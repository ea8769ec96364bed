from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fashion_vgg.data import fashion_mnist
from fashion_vgg.models.vgg import VGG
from fashion_vgg.models.whitening import WhiteningConv2d, whiten


def images(data_root: Path, count: int = 500) -> Tensor:
    pixels, _ = fashion_mnist.load(data_root, "train")
    return pixels[:count].unsqueeze(1) / 255


def small_net(**settings: object) -> VGG:
    return VGG([(1, 16), (1, 8)], image_size=28, head="light", batch_norm=True, **{"whitening": True, **settings})  # type: ignore[arg-type]


def test_patches_become_uncorrelated_with_unit_mean_square(data_root: Path) -> None:
    layer = WhiteningConv2d(1, 16, 3)
    layer.fit(images(data_root))
    inner = F.conv2d(images(data_root), layer.weight)  # without padding, as the patches
    values = inner.movedim(1, -1).flatten(0, 2)[:, :8].double()
    moments = values.T @ values / len(values)
    variance = moments.diagonal()
    # Epsilon reduces the mean square of the components with the smallest eigenvalues.
    assert variance[:3] == pytest.approx([1.0] * 3, abs=0.05)
    assert bool((variance > 0.5).all())
    assert bool((variance < 1.001).all())
    assert (moments - variance.diag()).abs().max() < 1e-3


def test_half_of_the_filters_are_the_negations_of_the_others(data_root: Path) -> None:
    layer = WhiteningConv2d(1, 16, 3)
    layer.fit(images(data_root))
    assert torch.equal(layer.weight[8:], -layer.weight[:8])
    assert layer.weight.any()


def test_the_filters_are_zero_until_they_are_fitted_once(data_root: Path) -> None:
    net = small_net()
    layer = net.blocks[0][0]  # type: ignore[index]
    assert isinstance(layer, WhiteningConv2d)
    assert not layer.weight.any()
    whiten(net, lambda: images(data_root))
    fitted = layer.weight.clone()
    assert fitted.any()
    whiten(net, lambda: pytest.fail("fitted again"))
    assert torch.equal(layer.weight, fitted)


def test_a_network_without_whitening_needs_no_images() -> None:
    whiten(small_net(whitening=False), lambda: pytest.fail("images were requested"))


def test_only_the_whitening_layer_is_frozen_and_its_map_stays_channels_last(data_root: Path) -> None:
    net = small_net()
    whiten(net, lambda: images(data_root))
    assert [name for name, parameter in net.named_parameters() if not parameter.requires_grad] == ["blocks.0.0.weight"]
    first_map = net.blocks[0][0](images(data_root, 4))  # type: ignore[index]
    assert first_map.is_contiguous(memory_format=torch.channels_last)


def test_the_first_block_has_no_batch_norm() -> None:
    kinds = [[type(layer).__name__ for layer in block.children()] for block in small_net().blocks]
    assert kinds == [["WhiteningConv2d", "MaxPool2d", "ReLU"], ["Conv2d", "BatchNorm2d", "MaxPool2d", "ReLU"]]


@pytest.mark.parametrize(
    ("first_block", "message"),
    [
        ((1, 20), "use an even number of at most 18"),
        ((1, 5), "use an even number"),
        ((2, 16), "one convolution, not 2"),
    ],
)
def test_a_block_that_cannot_whiten_is_refused(first_block: tuple[int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VGG([first_block, (1, 8)], image_size=28, head="light", whitening=True)


def test_a_larger_kernel_allows_more_filters() -> None:
    net = VGG([([5], 50), (1, 8)], image_size=28, head="light", whitening=True)
    assert net.get_parameter("blocks.0.0.weight").shape == (50, 1, 5, 5)
    assert net(torch.rand(2, 1, 28, 28)).shape == (2, 10)
