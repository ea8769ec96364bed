"""Grad-CAM against its formula, written out with autograd; feature maps against the blocks, run by hand."""

from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fashion_vgg.analysis import inside
from fashion_vgg.errors import UserError
from fashion_vgg.models import VGG, AlexNet

Net: TypeAlias = VGG | AlexNet
TARGETS = [3, 0, 9]


def speedrun() -> VGG:
    """The network of experiment=speedrun, with filters in the frozen first layer."""
    blocks: list[tuple[int | list[int | str], int]] = [([5], 32), (1, 64), (1, 128)]
    head: Any = {"head": "compact", "hidden": 256, "dropout": 0.0}
    net = VGG(blocks, image_size=28, whitening=True, batch_norm=True, pool_before_norm=True, **head)
    nn.init.xavier_uniform_(next(net.parameters()))
    return net


def five_blocks(image_size: int) -> VGG:
    return VGG([(1, 8), (1, 8), (2, 8), (2, 8), (2, 8)], image_size=image_size, hidden=16)


# Each network, its image size, and the block in whose last convolution Grad-CAM looks. The sides of the maps there:
# 28, 14, 7; 16, 8, 4, 2; 32, 16, 8, 4, 2; 96, 48, 24, 12, 6; 2, 1; and AlexNet's 27, 13, 6.
NETWORKS: dict[str, tuple[Callable[[], Net], int, int]] = {
    "speedrun": (speedrun, 28, 2),
    "last_map_of_1x1": (lambda: VGG([(1, 8), (1, 8), (1, 8), (1, 8)], image_size=16, head="light"), 16, 2),
    "five_blocks": (lambda: five_blocks(32), 32, 3),
    "five_blocks_96": (lambda: five_blocks(96), 96, 4),
    "only_small_maps": (lambda: VGG([(1, 8)], image_size=2, hidden=16), 2, 0),
    "alexnet": (lambda: AlexNet(image_size=115, ratio=16, hidden=16), 115, 2),
}


def make(name: str) -> tuple[Net, Tensor, int]:
    """A network in float64 with batch norm statistics, three images, and the block in which Grad-CAM looks."""
    torch.manual_seed(0)
    build, side, block = NETWORKS[name]
    net = build().double()
    net(torch.rand(8, 1, side, side, dtype=torch.float64))
    return net.eval(), torch.rand(3, 1, side, side, dtype=torch.float64), block


def textbook(net: Net, inputs: Tensor, targets: list[int], block: int) -> Tensor:
    """Equations 1 and 2 of Selvaraju et al. (2017), image by image, scaled to a maximum of 1."""
    layers = list(net.blocks[block].children())
    last = max(place for place, layer in enumerate(layers) if isinstance(layer, nn.Conv2d)) + 1
    before = nn.Sequential(*net.blocks[:block], *layers[:last])
    after = nn.Sequential(*layers[last:], *net.blocks[block + 1 :], net.head)
    cams = []
    for image, target in zip(inputs, targets, strict=True):
        activation = before(image[None]).detach().requires_grad_()
        [gradient] = torch.autograd.grad(after(activation)[0, target], activation)
        alpha = gradient[0].mean(dim=(1, 2))
        cam = (alpha[:, None, None] * activation[0].detach()).sum(dim=0).clamp(min=0)
        cam = F.interpolate(cam[None, None], inputs.shape[2:], mode="bilinear", align_corners=False)[0, 0]
        cams.append(cam / cam.max() if cam.max() > 0 else cam)
    return torch.stack(cams)


@pytest.mark.parametrize("name", NETWORKS)
def test_grad_cam_matches_its_formula(name: str) -> None:
    net, inputs, block = make(name)
    expected = textbook(net, inputs, TARGETS, block)
    for frozen in (False, True):
        net.requires_grad_(not frozen)
        with torch.no_grad():  # as around most uses
            cams = inside.grad_cam(net, inputs, TARGETS)
        assert cams.dtype == torch.float32
        torch.testing.assert_close(cams, expected.float(), rtol=1e-5, atol=1e-6)  # float32 has 7 digits
    assert expected.max() == 1  # at least one image has evidence for its class
    assert all(parameter.grad is None for parameter in net.parameters())


def test_grad_cam_without_evidence_is_zero() -> None:
    net, inputs, _ = make("five_blocks")
    nn.init.zeros_(list(net.parameters())[-2])  # the last layer's weights
    assert not inside.grad_cam(net, inputs, torch.tensor(TARGETS)).any()


@pytest.mark.parametrize("name", NETWORKS)
def test_feature_maps_match_the_blocks(name: str) -> None:
    net, maps = make(name)[:2]
    result = inside.feature_maps(net, maps)
    assert len(result) == len(net.blocks)
    for block, found in zip(net.blocks, result, strict=True):
        maps = block(maps)
        torch.testing.assert_close(found, maps.detach().float())
        assert not found.requires_grad
        assert not block._forward_hooks


def test_inputs_are_converted_to_the_networks_dtype() -> None:
    net, inputs, _ = make("speedrun")
    maps = inside.feature_maps(net.bfloat16(), inputs.float())
    assert maps[0].dtype == torch.float32
    assert torch.equal(maps[0], maps[0].bfloat16().float())
    assert inside.grad_cam(net, inputs.float(), TARGETS).shape == (3, 28, 28)


def test_first_filters_are_the_first_convolutions() -> None:
    net = make("speedrun")[0]
    filters = inside.first_filters(net)
    assert filters.shape == (32, 1, 5, 5)
    assert torch.equal(filters, next(net.parameters()).float())
    assert inside.first_filters(AlexNet(image_size=115, ratio=16, hidden=16)).shape == (6, 1, 11, 11)


def test_a_network_without_blocks_or_convolutions_is_named() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    with pytest.raises(UserError, match="Sequential has no blocks"):
        inside.feature_maps(net, torch.rand(1, 1, 28, 28))
    with pytest.raises(UserError, match="Sequential has no convolution"):
        inside.grad_cam(net, torch.rand(1, 1, 28, 28), [0])
    with pytest.raises(UserError, match="Sequential has no convolution"):
        inside.first_filters(net)
