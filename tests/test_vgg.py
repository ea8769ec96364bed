import pytest
import torch
from torch import Tensor, nn

from fashion_vgg.vgg import VGG, vgg_block
from tests import seed


def copied(net: nn.Module, reference: nn.Module) -> None:
    """Copy the parameters by position."""
    with torch.no_grad():
        for ours, theirs in zip(net.parameters(), reference.parameters(), strict=True):
            ours.copy_(theirs)


def images(count: int, size: int = 224) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, 1, size, size, generator=generator), torch.randint(10, (count,), generator=generator)


def test_seeds_outputs_and_gradients_from_weights_copied_by_position() -> None:
    torch.manual_seed(3)
    reference, net = seed.vgg(seed.NARROW), VGG(seed.VGG11, ratio=4)
    copied(net, reference)
    x, y = images(2)
    for module in (reference, net):
        torch.manual_seed(4)  # the same units are dropped
        nn.functional.cross_entropy(module(x), y).backward()
    assert torch.equal(net.eval()(x), reference.eval()(x))
    for ours, theirs in zip(net.parameters(), reference.parameters(), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        assert torch.equal(ours.grad, theirs.grad)


def test_seeds_losses_over_five_sgd_steps() -> None:
    torch.manual_seed(3)
    reference, net = seed.vgg(seed.NARROW, image_size=96), VGG(seed.VGG11, ratio=4, image_size=96)
    copied(net, reference)
    batches = list(zip(images(40, 96)[0].split(8), images(40, 96)[1].split(8), strict=True))
    losses = []
    for module in (reference, net):
        torch.manual_seed(4)
        losses.append(seed.train(module, batches, lr=0.05)[0])
    assert len(losses[0]) == 5
    assert losses[0] == losses[1]


def test_seeds_initialisation_from_the_same_random_state() -> None:
    torch.manual_seed(7)
    reference = seed.vgg(seed.NARROW, image_size=32)
    torch.manual_seed(7)
    net = VGG(seed.VGG11, ratio=4, image_size=32)
    for ours, theirs in zip(net.parameters(), reference.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(("ratio", "count"), [(4, 43_093_322), (1, 128_806_154)])
def test_parameter_count_of_the_seeds_networks(ratio: int, count: int) -> None:
    with torch.device("meta"):
        net = VGG(seed.VGG11, ratio=ratio)
        reference = seed.vgg([(convs, width // ratio) for convs, width in seed.VGG11])
    assert sum(parameter.numel() for parameter in net.parameters()) == count
    assert sum(parameter.numel() for parameter in reference.parameters()) == count


@pytest.mark.parametrize("size", [32, 64, 96, 256])
def test_any_multiple_of_32_fits(size: int) -> None:
    net = VGG([(1, 4)] * 5, image_size=size, num_classes=7, in_channels=3, hidden=8)
    assert net(torch.rand(2, 3, size, size)).shape == (2, 7)


@pytest.mark.parametrize(
    ("size", "message"),
    [(100, "multiple of 32, such as 96 or 128"), (225, "such as 224 or 256"), (31, "use 32 or more"), (0, "use 32")],
)
def test_another_size_is_refused_with_the_sizes_that_fit(size: int, message: str) -> None:
    with pytest.raises(ValueError, match=f"image_size={size} .*{message}"):
        VGG(seed.VGG11, image_size=size)


def test_the_light_head_takes_any_size_that_leaves_a_pixel() -> None:
    net = VGG([(1, 4), (1, 8), (2, 8)], image_size=28, head="light", batch_norm=True)
    assert net(torch.rand(2, 1, 28, 28)).shape == (2, 10)
    with pytest.raises(ValueError, match="use 8 or more"):
        VGG([(1, 4), (1, 8), (2, 8)], image_size=7, head="light")


def test_the_light_head_takes_each_channels_largest_value() -> None:
    net = VGG([(1, 4)], image_size=4, head="light", dropout=0.0)
    x = torch.rand(3, 1, 4, 4)
    linear = net.head[-1]
    assert isinstance(linear, nn.Linear)
    torch.testing.assert_close(net(x), linear(net.blocks(x).amax(dim=(2, 3))))


def test_wrong_ratio_and_head_are_refused() -> None:
    with pytest.raises(ValueError, match="ratio=65 leaves a block no channel: use 1 to 64"):
        VGG(seed.VGG11, ratio=65)
    with pytest.raises(ValueError, match="head=dens is unknown: use dense or light"):
        VGG(seed.VGG11, head="dens")  # type: ignore[arg-type]


def test_batch_norm_follows_every_convolution() -> None:
    kinds = [type(layer).__name__ for layer in vgg_block(2, 1, 4, batch_norm=True)]
    assert kinds == ["Conv2d", "BatchNorm2d", "ReLU"] * 2 + ["MaxPool2d"]
