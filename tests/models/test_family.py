"""The family against the paper's tables and torchvision's classes."""

import pytest
import safetensors.torch
import torch
from torch import nn
from torch.nn import functional as F
from torchvision import models

from fashion_vgg.models.vgg import VGG, vgg_block
from fashion_vgg.profiling.layers import layers
from tests.helpers import member

# Table 1 of Simonyan and Zisserman: weight layers of each column; table 2: millions of parameters.
PAPER = {"vgg11": (11, 133), "vgg11_lrn": (11, 133), "vgg13": (13, 133), "vgg16c": (16, 134), "vgg16": (16, 138)}
PAPER |= {"vgg19": (19, 144)}
TORCHVISION = ["vgg11", "vgg13", "vgg16", "vgg19", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"]
AS_PUBLISHED = ("in_channels=3", "num_classes=1000")


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_weight_layers_and_millions_of_parameters(name: str) -> None:
    with torch.device("meta"):
        net = member(name, *AS_PUBLISHED)
    weight_layers, millions = PAPER[name]
    assert sum(isinstance(layer, nn.Conv2d | nn.Linear) for layer in net.modules()) == weight_layers
    assert round(sum(parameter.numel() for parameter in net.parameters()) / 1e6) == millions


@pytest.mark.parametrize("name", TORCHVISION)
def test_parameters_and_multiply_adds_are_what_torchvision_publishes(name: str) -> None:
    published = models.get_model_weights(name)["IMAGENET1K_V1"].meta
    with torch.device("meta"):
        net = member(name, *AS_PUBLISHED)
    assert sum(parameter.numel() for parameter in net.parameters()) == published["num_params"]
    multiply_adds = sum(part.multiply_adds for part in layers(net, (3, 224, 224), batch_size=2))
    assert round(multiply_adds / 1e9, 3) == published["_ops"]


def randomized(net: nn.Module) -> nn.Module:
    """With running means and variances that make a norm do something."""
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean = torch.randn(layer.num_features) / 10
            layer.running_var = 0.5 + torch.rand(layer.num_features)
            nn.init.normal_(layer.weight)  # negative ones, too
    return net.eval()


@pytest.mark.parametrize("name", TORCHVISION)
def test_outputs_are_torchvisions_and_the_weights_go_there_and_back(name: str) -> None:
    torch.manual_seed(5)
    theirs = randomized(models.get_model(name))
    ours = member(name, *AS_PUBLISHED).eval()
    images = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        expected = theirs(images)
        assert not torch.allclose(ours(images), expected, atol=1e-2)
        ours.load_torchvision(theirs.state_dict())
        torch.testing.assert_close(ours(images), expected, rtol=1e-5, atol=1e-5)
    back = ours.torchvision_state_dict()
    assert list(back) == list(theirs.state_dict())
    assert all(torch.equal(back[key], value) for key, value in theirs.state_dict().items())


def test_a_grey_image_gives_what_its_three_channels_give_torchvision() -> None:
    torch.manual_seed(5)
    theirs = models.vgg11(num_classes=10).eval()
    ours = member("vgg11", "in_channels=1").eval()
    ours.load_torchvision(theirs.state_dict())
    grey = torch.rand(2, 1, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(ours(grey), theirs(grey.expand(-1, 3, -1, -1)), rtol=1e-5, atol=1e-5)


def test_weights_of_another_network_are_refused() -> None:
    state = models.vgg11(init_weights=False).state_dict()
    for overrides in (["model.batch_norm=true"], ["model.head=light"], ["model.ratio=2"], ["image_size=96"]):
        with pytest.raises(RuntimeError, match="state_dict"):
            member("vgg11", *AS_PUBLISHED, *overrides).load_torchvision(state)
    with pytest.raises(ValueError, match="pool_before_norm=false"):
        member("vgg11_bn", *AS_PUBLISHED, "model.pool_before_norm=true").load_torchvision(state)


def test_the_local_response_norm_is_krizhevskys_formula() -> None:
    """Section 3.3 of Krizhevsky et al.: k = 2, n = 5, alpha = 1e-4, beta = 0.75, over neighbouring channels."""
    block = vgg_block([3, "lrn"], 3, 8)
    assert [type(layer) for layer in block] == [nn.Conv2d, nn.ReLU, nn.LocalResponseNorm, nn.MaxPool2d]
    a = 100 * torch.rand(2, 8, 4, 4)
    squares = F.pad(a.square(), (0, 0, 0, 0, 2, 2))
    sums = torch.stack([squares[:, channel : channel + 5].sum(dim=1) for channel in range(8)], dim=1)
    torch.testing.assert_close(block[2](a), a / (2 + 1e-4 * sums) ** 0.75)


def test_column_c_ends_three_blocks_with_a_kernel_of_one_pixel() -> None:
    with torch.device("meta"):
        net = member("vgg16c")
    kernels = [layer.kernel_size[0] for layer in net.blocks.modules() if isinstance(layer, nn.Conv2d)]
    assert kernels == [3, 3, 3, 3, *[3, 3, 1] * 3]


def test_two_convolutions_without_a_relu_between_are_one_with_a_larger_kernel() -> None:
    torch.manual_seed(5)
    block = vgg_block([3, 3], 2, 4, relu_between=False)
    assert [type(layer) for layer in block] == [nn.Conv2d, nn.Conv2d, nn.MaxPool2d, nn.ReLU]
    first, second = (layer for layer in block if isinstance(layer, nn.Conv2d))
    nn.init.zeros_(first.bias)  # type: ignore[arg-type]  # else it is missing where the second one looks beyond the map
    # The composition's kernel: each of the first one's, smeared by the second's.
    kernel = F.conv2d(first.weight.transpose(0, 1), second.weight.flip(2, 3), padding=2).transpose(0, 1)
    x = torch.rand(1, 2, 12, 12)
    inside = slice(1, -1)  # at the border the first one's outputs beyond the map are taken as zeros
    one = F.conv2d(x, kernel, second.bias, padding=2)[..., inside, inside]
    torch.testing.assert_close(second(first(x))[..., inside, inside], one)


@pytest.mark.parametrize(("stack", "kernel", "weights"), [([3, 3], 5, (18, 25)), ([3, 3, 3], 7, (27, 49))])
def test_the_claims_counts_and_fields(stack: list[int], kernel: int, weights: tuple[int, int]) -> None:
    """Section 2.3 of the paper: 27 C^2 weights in place of 49 C^2, under the same receptive field."""
    channels, fields = 6, []
    for convs, count in zip((stack, [kernel]), weights, strict=True):
        net = VGG([(convs, channels)], in_channels=channels, image_size=28, head="light")
        convolutions = [layer for layer in net.blocks.modules() if isinstance(layer, nn.Conv2d)]
        assert sum(layer.weight.numel() for layer in convolutions) == count * channels**2
        parts = layers(net, (channels, 28, 28), batch_size=1)
        assert sum(part.multiply_adds for part in parts if part.kind == "Conv2d") == count * channels**2 * 28 * 28
        fields.append([part.receptive_field for part in parts if part.kind == "Conv2d"][-1])
    assert fields == [kernel, kernel]


def test_an_even_kernel_is_refused() -> None:
    with pytest.raises(ValueError, match="A kernel of 4 pixels does not fit"):
        VGG([([4], 8)], image_size=28)


def test_a_normalisation_without_weights_takes_the_weights_of_the_column_without_it() -> None:
    small = ("image_size=32", "model.ratio=16", "model.hidden=8", "in_channels=3")
    theirs, ours = member("vgg11", *small), member("vgg11_lrn", *small)
    ours.load_torchvision(theirs.torchvision_state_dict())
    pairs = zip(ours.parameters(), theirs.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_the_weights_under_torchvisions_names_can_be_published() -> None:
    net = member("vgg11", "image_size=32", "model.ratio=16", "model.hidden=8")
    assert safetensors.torch.save(net.torchvision_state_dict())
