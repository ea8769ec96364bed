import copy

import pytest
import torch
from torch import Tensor, nn

from fashion_vgg.models.vgg import VGG, vgg_block
from fashion_vgg.reference import d2l


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
    reference, net = d2l.vgg(d2l.NARROW), VGG(d2l.VGG11, ratio=4)
    copied(net, reference)
    x, y = images(2)
    for module in (reference, net):
        torch.manual_seed(4)  # the same units are dropped
        nn.functional.cross_entropy(module(x), y).backward()
    torch.testing.assert_close(net.eval()(x), reference.eval()(x), rtol=1e-4, atol=1e-6)
    for ours, theirs in zip(net.parameters(), reference.parameters(), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-6)


def exact(size: int) -> nn.Module:
    """The seed's network in float64; without dropout, whose draws depend on the type of the numbers."""
    torch.manual_seed(3)
    net = d2l.vgg(d2l.NARROW, image_size=size).double()
    for layer in net.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    return net


def test_gradients_lie_no_farther_from_float64_than_the_seeds_own() -> None:
    """The layout in memory and the order of pooling and ReLU change the rounding alone.

    On few and small images: among millions of sums there is always one that rounding moves across a ReLU's zero.
    """
    reference = exact(32)
    plain, net = copy.deepcopy(reference).float(), VGG(d2l.VGG11, ratio=4, image_size=32, dropout=0.0)
    copied(net, plain)
    x, y = images(2, 32)
    gradients = []
    for module, batch in ((reference, x.double()), (plain, x), (net, x)):
        nn.functional.cross_entropy(module(batch), y).backward()
        gradients.append(torch.cat([g.grad.flatten().double() for g in module.parameters() if g.grad is not None]))
    distance, plain_distance = ((gradient - gradients[0]).norm() for gradient in (gradients[2], gradients[1]))
    assert len(gradients[2]) == sum(parameter.numel() for parameter in net.parameters())
    assert 0 < distance < 2 * plain_distance < 1e-5 * gradients[0].norm()


def test_losses_over_twenty_steps_follow_the_seeds_in_float64() -> None:
    reference = exact(64)
    net = VGG(d2l.VGG11, ratio=4, image_size=64, dropout=0.0)
    copied(net, reference)
    x, y = images(160, 64)
    batches = list(zip(x.split(8), y.split(8), strict=True))
    losses, _ = d2l.train(net, batches, lr=0.05)
    expected, _ = d2l.train(reference, [(images.double(), labels) for images, labels in batches], lr=0.05)
    assert len(losses) == 20
    # Rounding grows from step to step, and with it the odd maximum that falls to another pixel.
    assert losses[:5] == pytest.approx(expected[:5], rel=1e-6)
    assert losses == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_pooling_before_the_relu_is_pooling_after_it_to_the_last_bit(batch_norm: bool) -> None:
    torch.manual_seed(3)
    block = vgg_block(2, 3, 8, batch_norm)
    *layers, pool, relu = copy.deepcopy(block)
    seeds_order = nn.Sequential(*layers, relu, pool)
    assert [type(layer) for layer in seeds_order[-2:]] == [nn.ReLU, nn.MaxPool2d]
    x = torch.rand(4, 3, 16, 16)
    results = [module(x) for module in (block, seeds_order)]
    assert torch.equal(*results)
    for result in results:
        result.square().sum().backward()
    for ours, theirs in zip(block.parameters(), seeds_order.parameters(), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_compiled_networks_weights_load_into_a_plain_one_and_back(batch_norm: bool) -> None:
    def make() -> VGG:
        return VGG([(1, 4), (1, 8)], image_size=28, hidden=16, batch_norm=batch_norm).eval()

    plain, compiled = make(), make()
    compiled.compile(backend="aot_eager")
    assert list(compiled.state_dict()) == list(plain.state_dict())
    plain.load_state_dict(compiled.state_dict())
    x = images(2, 28)[0]
    torch.testing.assert_close(compiled(x), plain(x))
    compiled.load_state_dict(make().state_dict())
    assert not torch.allclose(compiled(x), plain(x))


def test_seeds_initialisation_from_the_same_random_state() -> None:
    torch.manual_seed(7)
    reference = d2l.vgg(d2l.NARROW, image_size=32)
    torch.manual_seed(7)
    net = VGG(d2l.VGG11, ratio=4, image_size=32)
    for ours, theirs in zip(net.parameters(), reference.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(("ratio", "count"), [(4, 43_093_322), (1, 128_806_154)])
def test_parameter_count_of_the_seeds_networks(ratio: int, count: int) -> None:
    with torch.device("meta"):
        net = VGG(d2l.VGG11, ratio=ratio)
        reference = d2l.vgg([(convs, width // ratio) for convs, width in d2l.VGG11])
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
        VGG(d2l.VGG11, image_size=size)


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
        VGG(d2l.VGG11, ratio=65)
    with pytest.raises(ValueError, match="head=dens is unknown: use dense or light"):
        VGG(d2l.VGG11, head="dens")  # type: ignore[arg-type]


def test_batch_norm_follows_every_convolution() -> None:
    kinds = [type(layer).__name__ for layer in vgg_block(2, 1, 4, batch_norm=True)]
    assert kinds == ["Conv2d", "BatchNorm2d", "ReLU", "Conv2d", "BatchNorm2d", "MaxPool2d", "ReLU"]


def test_the_last_norm_can_follow_the_pooling() -> None:
    kinds = [type(layer).__name__ for layer in vgg_block(2, 1, 4, batch_norm=True, pool_before_norm=True)]
    assert kinds == ["Conv2d", "BatchNorm2d", "ReLU", "Conv2d", "MaxPool2d", "BatchNorm2d", "ReLU"]
