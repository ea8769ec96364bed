import copy

import pytest
import torch
from torch import Tensor, nn

from fashion_vgg.models.vgg import VGG, vgg_block
from fashion_vgg.reference import d2l


def copy_parameters(net: nn.Module, reference: nn.Module) -> None:
    """Copy the parameters by position."""
    with torch.no_grad():
        for ours, theirs in zip(net.parameters(), reference.parameters(), strict=True):
            ours.copy_(theirs)


def batch(count: int, size: int = 224) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, 1, size, size, generator=generator), torch.randint(10, (count,), generator=generator)


def gradients(net: nn.Module) -> list[Tensor]:
    return [parameter.grad for parameter in net.parameters() if parameter.grad is not None]


# Comparisons in float64 use this relative tolerance: a million roundings. The networks sum in different orders, and
# twenty steps amplify the differences; but they are far too small to move a ReLU's input across zero.
ROUNDING = 1e6 * torch.finfo(torch.float64).eps


def test_outputs_and_gradients_match_the_book() -> None:
    torch.manual_seed(3)
    reference = d2l.vgg(d2l.NARROW, hidden=256).double()
    net = VGG(d2l.VGG11, ratio=4, hidden=256).double()
    copy_parameters(net, reference)
    x, y = batch(2)
    for module in (reference, net):
        torch.manual_seed(4)  # dropout drops the same units
        nn.functional.cross_entropy(module(x.double()), y).backward()
    assert len(gradients(net)) == len(list(net.parameters()))
    for ours, theirs in zip(gradients(net), gradients(reference), strict=True):
        assert (ours - theirs).norm() < ROUNDING * theirs.norm()
    torch.testing.assert_close(net.eval()(x.double()), reference.eval()(x.double()), rtol=ROUNDING, atol=ROUNDING)


def test_float32_gradients_are_as_accurate_as_the_books() -> None:
    """The memory format and the order of pooling and ReLU change rounding only.

    With few and small images: in a larger sum, rounding moves some input of a ReLU across zero.
    """
    torch.manual_seed(3)
    exact = d2l.vgg(d2l.NARROW, image_size=32).double().eval()  # without dropout, whose draws depend on the dtype
    plain, net = copy.deepcopy(exact).float(), VGG(d2l.VGG11, ratio=4, image_size=32).eval()
    copy_parameters(net, plain)
    x, y = batch(2, 32)
    for module, images in ((exact, x.double()), (plain, x), (net, x)):
        nn.functional.cross_entropy(module(images), y).backward()
    expected, book, ours = (torch.cat([g.flatten().double() for g in gradients(m)]) for m in (exact, plain, net))
    assert len(ours) == sum(parameter.numel() for parameter in net.parameters())
    # Both sum as many terms, so their errors have the same size; 1e-5 is about a hundred roundings.
    assert 0 < (ours - expected).norm() < 2 * (book - expected).norm() < 1e-5 * expected.norm()


def test_losses_of_twenty_steps_match_the_book() -> None:
    torch.manual_seed(3)
    reference = d2l.vgg(d2l.NARROW, image_size=64, hidden=256).double()
    net = VGG(d2l.VGG11, ratio=4, image_size=64, hidden=256).double()
    copy_parameters(net, reference)
    x, y = batch(80, 64)
    batches = list(zip(x.double().split(4), y.split(4), strict=True))
    losses = []
    for module in (net, reference):
        torch.manual_seed(4)  # dropout drops the same units
        losses.append(d2l.train(module, batches, lr=0.05)[0])
    assert len(losses[0]) == 20
    assert losses[0] == pytest.approx(losses[1], rel=ROUNDING)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_pooling_before_the_relu_is_bit_identical(batch_norm: bool) -> None:
    torch.manual_seed(3)
    block = vgg_block(2, 3, 8, batch_norm)
    *layers, pool, relu = copy.deepcopy(block)
    books_order = nn.Sequential(*layers, relu, pool)
    assert [type(layer) for layer in books_order[-2:]] == [nn.ReLU, nn.MaxPool2d]
    x = torch.rand(4, 3, 16, 16)
    results = [module(x) for module in (block, books_order)]
    assert torch.equal(*results)
    for result in results:
        result.square().sum().backward()
    assert len(gradients(block)) == len(list(block.parameters()))
    assert all(map(torch.equal, gradients(block), gradients(books_order)))


@pytest.mark.parametrize("batch_norm", [False, True])
def test_weights_of_compiled_and_plain_networks_are_interchangeable(batch_norm: bool) -> None:
    def make() -> VGG:
        return VGG([(1, 4), (1, 8)], image_size=28, hidden=16, batch_norm=batch_norm).eval()

    plain, compiled = make(), make()
    compiled.compile(backend="aot_eager")
    assert list(compiled.state_dict()) == list(plain.state_dict())
    plain.load_state_dict(compiled.state_dict())
    x = batch(2, 28)[0]
    torch.testing.assert_close(compiled(x), plain(x))
    compiled.load_state_dict(make().state_dict())
    assert not torch.allclose(compiled(x), plain(x))


def test_initial_weights_equal_the_books_after_the_same_seed() -> None:
    torch.manual_seed(7)
    reference = d2l.vgg(d2l.NARROW, image_size=32)
    torch.manual_seed(7)
    net = VGG(d2l.VGG11, ratio=4, image_size=32)
    assert len(list(net.parameters())) == len(list(reference.parameters()))
    assert all(map(torch.equal, net.parameters(), reference.parameters()))


@pytest.mark.parametrize(("ratio", "count"), [(4, 43_093_322), (1, 128_806_154)])
def test_parameter_counts_match_the_book(ratio: int, count: int) -> None:
    with torch.device("meta"):
        net = VGG(d2l.VGG11, ratio=ratio)
        reference = d2l.vgg([(convs, width // ratio) for convs, width in d2l.VGG11])
    assert sum(parameter.numel() for parameter in net.parameters()) == count
    assert sum(parameter.numel() for parameter in reference.parameters()) == count


@pytest.mark.parametrize("size", [32, 64, 96, 256])
def test_image_sizes_may_be_multiples_of_32(size: int) -> None:
    net = VGG([(1, 4)] * 5, image_size=size, num_classes=7, in_channels=3, hidden=8)
    assert net(torch.rand(2, 3, size, size)).shape == (2, 7)


@pytest.mark.parametrize(
    ("size", "message"),
    [(100, "multiple of 32, such as 96 or 128"), (225, "such as 224 or 256"), (31, "use 32 or more"), (0, "use 32")],
)
def test_the_error_for_another_image_size_suggests_valid_ones(size: int, message: str) -> None:
    with pytest.raises(ValueError, match=f"image_size={size} .*{message}"):
        VGG(d2l.VGG11, image_size=size)


def test_the_light_head_allows_any_image_size_of_one_pixel_after_pooling() -> None:
    net = VGG([(1, 4), (1, 8), (2, 8)], image_size=28, head="light", batch_norm=True)
    assert net(torch.rand(2, 1, 28, 28)).shape == (2, 10)
    with pytest.raises(ValueError, match="use 8 or more"):
        VGG([(1, 4), (1, 8), (2, 8)], image_size=7, head="light")


def test_the_light_head_is_global_max_pooling_and_a_linear_layer() -> None:
    net = VGG([(1, 4)], image_size=4, head="light", dropout=0.0)
    x = torch.rand(3, 1, 4, 4)
    linear = net.head[-1]
    assert isinstance(linear, nn.Linear)
    torch.testing.assert_close(net(x), linear(net.blocks(x).amax(dim=(2, 3))))


def test_the_compact_head_has_one_hidden_layer_with_batch_norm() -> None:
    net = VGG([(1, 4), (1, 8)], image_size=28, head="compact", hidden=16, batch_norm=True)
    kinds = ["Flatten", "Linear", "BatchNorm1d", "ReLU", "Dropout", "Linear"]
    assert [type(layer).__name__ for layer in net.head] == kinds
    assert net.head[1].in_features == 8 * 7 * 7
    assert net(torch.rand(2, 1, 28, 28)).shape == (2, 10)
    assert VGG([(1, 4)] * 2, image_size=30, head="compact")(torch.rand(2, 1, 30, 30)).shape == (2, 10)


def test_invalid_ratio_and_head_are_refused() -> None:
    with pytest.raises(ValueError, match="ratio=65 leaves a block no channel: use 1 to 64"):
        VGG(d2l.VGG11, ratio=65)
    with pytest.raises(ValueError, match="head=dens is unknown: use dense, compact or light"):
        VGG(d2l.VGG11, head="dens")  # type: ignore[arg-type]


def test_batch_norm_follows_every_convolution() -> None:
    kinds = [type(layer).__name__ for layer in vgg_block(2, 1, 4, batch_norm=True)]
    assert kinds == ["Conv2d", "BatchNorm2d", "ReLU", "Conv2d", "BatchNorm2d", "MaxPool2d", "ReLU"]


def test_pooling_can_precede_the_last_batch_norm() -> None:
    kinds = [type(layer).__name__ for layer in vgg_block(2, 1, 4, batch_norm=True, pool_before_norm=True)]
    assert kinds == ["Conv2d", "BatchNorm2d", "ReLU", "Conv2d", "MaxPool2d", "BatchNorm2d", "ReLU"]
